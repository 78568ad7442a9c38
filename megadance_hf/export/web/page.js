// Joins the stage to Gradio's page.

import { Stage } from "./stage.js";

/** Called by the component of the stage (`_ON_LOAD` in demo.py) with what Gradio gives it. */
export function mount(element, props, watch) {
  const stage = new Stage(element.querySelector(".megadance-place"));
  window.megadanceStage = stage;
  // Addresses in the page's data are relative to where the page is served, which is not always a site's root.
  const at = (address) => new URL(`../${address}`, import.meta.url).href;
  const show = () => {
    if (!props.value) return;
    const what = JSON.parse(props.value);
    what.song = at(what.song);
    for (const dance of what.dances) dance.glb = at(dance.glb);
    stage.show(what);
  };
  watch("value", show);
  show();
  nameControls();
}

/**
 * Mends of Gradio's own components for those who don't see or don't use a mouse. Two buttons of its audio component are announced by
 * another name than what is written on them, so that whoever steers by voice cannot call them: here the visible words come first.
 * The head of its messages is a button with a button inside: here only the inner one, which closes the message, is one.
 */
function nameControls() {
  const mend = () => {
    document.querySelectorAll("#song .upload-container[aria-label]").forEach((button) => button.removeAttribute("aria-label"));
    for (const head of document.querySelectorAll(".toast-header[role]")) {
      head.removeAttribute("role");
      head.removeAttribute("tabindex");
    }
    for (const button of document.querySelectorAll("#song button.playback")) {
      const written = button.textContent.trim();
      if (!button.ariaLabel?.startsWith(written)) button.ariaLabel = `${written}, ${button.ariaLabel}`;
    }
  };
  new MutationObserver(mend).observe(document.body, { subtree: true, childList: true, attributeFilter: ["aria-label"] });
  mend();
}
