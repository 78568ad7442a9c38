// What can be done with the passage that is selected on the timeline.

import { DancerChoice } from "./dancers.js";
import { clock, find, icon, make } from "./dom.js";
import { PARTS, overlap, sameRange } from "./plan.js";
import { kindOf, ofDancer } from "./poses.js";

export class Passage {
  /** `actions`: select(range or null), anew(range), lock(range), unlock(range). */
  constructor(actions) {
    this.actions = actions;
    this.box = find("passage");
    this.text = make("p");
    const choice = (part) => {
      const input = make("input", { type: "radio", name: "part", value: part });
      input.onchange = () => actions.select({ ...this.model.selection, part });
      return make("label", { className: "chip" }, input, make("span", { textContent: { all: "All", upper: "Upper", lower: "Lower" }[part] }));
    };
    this.parts = make("div", { className: "chips", aria: { role: "radiogroup", label: "Part of the body" } }, ...Object.keys(PARTS).map(choice));
    this.dancers = new DancerChoice("dancer", "Whose passage", (dancer) => actions.select({ ...this.model.selection, dancer }));
    this.anew = make("button", { type: "button", className: "main", onclick: () => actions.anew(this.model.selection) }, icon("again"), "Dance anew");
    this.lock = make("button", { type: "button" }, icon("lock"), make("span"));
    this.lock.onclick = () => (this.locked() ? actions.unlock : actions.lock)(this.model.selection);
    this.close = make("button", { type: "button", className: "quiet icon", title: "Deselect", aria: { label: "Deselect" }, onclick: () => { actions.select(null); find("select").focus(); } }, icon("close"));
    this.box.append(this.text, this.parts, this.dancers.element, this.anew, this.lock, this.close);
  }

  locked() {
    return this.model.locks.find((range) => sameRange(range, this.model.selection));
  }

  /** `model`: selection, locks, met, take, danced, busy, chosenPose. */
  render(model) {
    this.model = model;
    const { selection, locks, met, take, danced, busy, chosenPose } = model;
    this.box.hidden = !selection;
    find("adding").hidden = Boolean(selection || chosenPose);
    if (!selection) return;
    const blocked = locks.some((range) => overlap(range, selection));
    this.dancers.render(danced, selection.dancer);
    const held = ofDancer(met, selection.dancer).find(({ second, frames }) => second < selection.end && selection.start < second + frames / 30);
    const why = blocked ? (this.locked() ? "" : ", partly locked") : held ? `, with the ${kindOf(held).toLowerCase()} at ${clock(held.second, true)}` : "";
    this.text.textContent = `${clock(selection.start, true)} – ${clock(selection.end, true)}${why}`;
    for (const input of this.parts.querySelectorAll("input")) input.checked = input.value === selection.part;
    this.anew.disabled = !take || busy || blocked || Boolean(held);
    this.anew.title = blocked ? "Part of this passage is locked" : held ? "What is held in this passage cannot be danced anew" : take ? "" : "Make a dance first";
    this.lock.disabled = !take || busy;
    this.lock.lastElementChild.textContent = this.locked() ? "Unlock" : "Lock";
  }
}
