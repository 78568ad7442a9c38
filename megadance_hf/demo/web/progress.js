// What the server is doing for the visitor, drawn on the stage: the step, how long it will still take, and Cancel.

import { about, announce, capital, make } from "./dom.js";

export class Progress {
  /** `cancel` is called when the button is pressed. */
  constructor(view, cancel) {
    this.step = make("p", { className: "step" });
    this.left = make("p", { className: "left small" });
    this.bar = make("progress", { max: 1, aria: { label: "Progress" } });
    this.button = make("button", { type: "button", textContent: "Cancel", onclick: cancel });
    this.element = make("div", { className: "progress", hidden: true, aria: { role: "group", label: "In progress" } },
      this.bar, make("div", { className: "texts" }, this.step, this.left), this.button);
    view.append(this.element);
  }

  /** `state` as the server gives it: step, share, seconds_left, place, preview. */
  show({ state = "working", step = "", share = null, seconds_left: left = null, place = 0, preview = null }) {
    this.element.hidden = false;
    const waiting = state === "waiting" && place > 0;
    const text = waiting ? `${place === 1 ? "One dance comes" : `${place} dances come`} before yours` : capital(step || "getting ready");
    this.step.textContent = text;
    this.left.textContent = left === null ? "" : `${capital(about(left))} left`;
    if (preview?.seconds >= 1) this.left.textContent += `${left === null ? "" : " · "}${Math.floor(preview.seconds)} s are there: press Play`;
    if (share === null || waiting) this.bar.removeAttribute("value");
    else this.bar.value = share;
    // not every number: a screen reader would never stop
    const quarter = Math.floor(4 * (share ?? 0));
    if (text !== this.told || quarter !== this.quarter) announce(`${text}, ${25 * quarter} %${left === null ? "" : `, ${about(left)} left`}`);
    [this.told, this.quarter] = [text, quarter];
  }

  hide() {
    if (this.element.contains(document.activeElement)) this.element.parentElement.focus({ preventScroll: true });
    this.element.hidden = true;
    this.told = null;
  }
}
