// Candidates side by side on the stage, one of which is kept.

import { capital, clock, isNarrow, make } from "./dom.js";
import { PARTS } from "./plan.js";

const AROUND = 1.2; // seconds before and after the passage that are played with it
const LETTERS = "ABC";

export class Compare {
  /** `keep(take)` is called with the one that was chosen, or null for none of them. */
  constructor(stage, keep) {
    Object.assign(this, { stage, keep });
    this.text = make("p");
    this.buttons = make("div", { className: "row" });
    this.element = make("div", { className: "compare", hidden: true, aria: { role: "group", label: "Candidates" } }, this.text, this.buttons);
    stage.view.after(this.element);
    this.takes = null;
  }

  async show(takes, request, showing) {
    this.takes = takes;
    const range = takes[0].redone ?? request, dancer = range.dancer ?? 0;
    const who = takes[0].dances.length > 1 ? `${capital(takes[0].dances[dancer].genre)}, ` : "";
    this.text.textContent = `${who}${clock(range.start, true)} – ${clock(range.end, true)}${range.part === "all" ? "" : `, ${PARTS[range.part]}`}`;
    this.buttons.replaceChildren(
      ...takes.map((take, index) => make("button", {
        type: "button", className: "main", onclick: () => this.keep(take),
        textContent: takes.length > 1 ? `Keep ${LETTERS[index]}` : "Keep this one",
      })),
      make("button", { type: "button", textContent: "Leave it as it was", onclick: () => this.keep(null) }),
    );
    this.element.hidden = false;
    const anew = takes.map((take, index) => ({ ...take.dances[dancer], caption: takes.length > 1 ? LETTERS[index] : "Anew" }));
    const beside = takes[0].dances.filter((_, other) => other !== dancer); // who stays as before
    await showing([...anew, ...beside]);
    if (this.takes !== takes) return;
    if (takes.length > 1 && isNarrow()) this.stage.showAlone(0); // three in a row would be tiny
    this.stage.passage = [Math.max(range.start - AROUND, 0), Math.min(range.end + AROUND, this.stage.seconds)];
    this.stage.seekTo(this.stage.passage[0]);
    this.buttons.firstElementChild.focus({ preventScroll: true });
  }

  hide() {
    if (!this.takes) return;
    this.takes = null;
    if (this.element.contains(document.activeElement)) this.stage.view.focus({ preventScroll: true });
    this.element.hidden = true;
    this.stage.passage = null;
    this.stage.solo = null;
  }
}
