// Which of two dancers: a choice for each of them, who is called what they dance.

import { capital, keyed, make } from "./dom.js";

export class DancerChoice {
  /** `id`: of the choices; `title`: what is chosen, for screen readers; `change(dancer)` is called with the number of the one that was chosen. */
  constructor(id, title, change) {
    Object.assign(this, { id, change });
    this.element = make("div", { className: "chips", hidden: true, aria: { role: "radiogroup", label: title } });
  }

  /** `names`: what each of them dances; for one alone there is no choice. */
  render(names, chosen) {
    this.element.hidden = names.length < 2;
    keyed(this.element, this.element.hidden ? [] : names.map((name, dancer) => ({ key: `${dancer} ${name}`, name, dancer })), ({ name, dancer }) => {
      const input = make("input", { type: "radio", name: this.id, value: dancer, onchange: () => this.change(dancer) });
      return make("label", { className: "chip" }, input, make("span", { textContent: capital(name) }));
    }, (label, { dancer }) => { label.firstElementChild.checked = dancer === chosen; });
  }
}
