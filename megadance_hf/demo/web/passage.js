// What can be done with the passage that is selected on the timeline.

import { capital, clock, find, icon, keyed, make } from "./dom.js";
import { PARTS, overlap, sameRange } from "./plan.js";
import { kindOf } from "./poses.js";

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
    this.dancers = make("div", { className: "chips", aria: { role: "radiogroup", label: "Who dances anew" } });
    this.anew = make("button", { type: "button", className: "main", onclick: () => actions.anew(this.model.selection) }, icon("again"), "Dance anew");
    this.lock = make("button", { type: "button" }, icon("lock"), make("span"));
    this.lock.onclick = () => (this.locked() ? actions.unlock : actions.lock)(this.model.selection);
    this.close = make("button", { type: "button", className: "quiet icon", title: "Deselect", aria: { label: "Deselect" }, onclick: () => { actions.select(null); find("select").focus(); } }, icon("close"));
    this.box.append(this.text, this.parts, this.dancers, this.anew, this.lock, this.close);
  }

  locked() {
    return this.model.locks.find((range) => sameRange(range, this.model.selection));
  }

  /** One choice for each of two dancers: what they dance. */
  renderDancers({ take, selection }) {
    this.dancers.hidden = !(take?.dances.length > 1);
    keyed(this.dancers, this.dancers.hidden ? [] : take.dances.map(({ genre }, dancer) => ({ key: `${dancer} ${genre}`, genre, dancer })), ({ genre, dancer }) => {
      const input = make("input", { type: "radio", name: "dancer", value: dancer });
      input.onchange = () => this.actions.select({ ...this.model.selection, dancer });
      return make("label", { className: "chip" }, input, make("span", { textContent: capital(genre) }));
    }, (label, { dancer }) => { label.firstElementChild.checked = dancer === selection.dancer; });
  }

  /** `model`: selection, locks, met, take, busy, chosenPose. */
  render(model) {
    this.model = model;
    const { selection, locks, met, take, busy, chosenPose } = model;
    this.box.hidden = !selection;
    find("adding").hidden = Boolean(selection || chosenPose);
    if (!selection) return;
    const dancer = take?.dances.length > 1 ? selection.dancer : 0;
    const blocked = dancer === 0 && locks.some((range) => overlap(range, selection)); // the first dancer has what is locked and held
    this.renderDancers(model);
    const held = dancer === 0 && met.find(({ second, frames }) => second < selection.end && selection.start < second + frames / 30);
    const why = blocked ? (this.locked() ? "" : ", partly locked") : held ? `, with the ${kindOf(held).toLowerCase()} at ${clock(held.second, true)}` : "";
    this.text.textContent = `${clock(selection.start, true)} – ${clock(selection.end, true)}${why}`;
    for (const input of this.parts.querySelectorAll("input")) input.checked = input.value === selection.part;
    this.anew.disabled = !take || busy || blocked || Boolean(held);
    this.anew.title = blocked ? "Part of this passage is locked" : held ? "What is held in this passage cannot be danced anew" : take ? "" : "Make a dance first";
    this.lock.disabled = !take || busy;
    this.lock.hidden = take?.dances.length > 1 && !this.locked(); // only a dance for one can be locked
    this.lock.lastElementChild.textContent = this.locked() ? "Unlock" : "Lock";
  }
}
