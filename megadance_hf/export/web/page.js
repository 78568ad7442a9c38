// Joins the stage to Gradio's page.

import { Stage } from "./stage.js";

/** Called by the stage's component (`_ON_LOAD` in megadance_hf/demo/page.py) with Gradio's arguments. */
export function mount(element, props, watch) {
  const stage = new Stage(element.querySelector(".megadance-place"));
  window.megadanceStage = stage;
  // Addresses in the data are relative to the page, which is not always served at a site's root.
  const at = (address) => new URL(`../${address}`, import.meta.url).href;
  const update = () => {
    if (!props.value) return;
    const show = JSON.parse(props.value);
    show.song = at(show.song);
    for (const dance of show.dances) dance.glb = at(dance.glb);
    stage.show(show);
  };
  watch("value", update);
  update();
  fixControls();
}

/**
 * Accessibility fixes of Gradio's own components. The accessible names of two buttons of its audio component differ from their visible
 * texts, so voice control does not find them: here the names begin with the texts. The header of its messages is a button with a
 * button inside: here only the inner one, which closes the message, is one.
 */
function fixControls() {
  const fix = () => {
    document.querySelectorAll("#song .upload-container[aria-label]").forEach((button) => button.removeAttribute("aria-label"));
    for (const head of document.querySelectorAll(".toast-header[role]")) {
      head.removeAttribute("role");
      head.removeAttribute("tabindex");
    }
    for (const button of document.querySelectorAll("#song button.playback")) {
      const text = button.textContent.trim();
      if (!button.ariaLabel?.startsWith(text)) button.ariaLabel = `${text}, ${button.ariaLabel}`;
    }
  };
  new MutationObserver(fix).observe(document.body, { subtree: true, childList: true, attributeFilter: ["aria-label"] });
  fix();
}
