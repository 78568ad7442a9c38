// The panel beside the stage: the song, which dance, how, and the button that begins.

import { capital, clock, find, icon, keyed, make } from "./dom.js";
import { mainGenre } from "./plan.js";

const MOST_BUTTONS = 8; // more genres are a list
const MIDDLE = 50; // of a slider: as it comes

// Of each attribute: its name, and what it is called from very little to very much.
const ATTRIBUTES = {
  energy: ["Energy", "very calm", "calm", "strong", "very strong"],
  speed: ["Speed", "very slow", "slow", "fast", "very fast"],
  travel: ["Travel", "on the spot", "stays close", "travels", "travels far"],
  turns: ["Turns", "hardly any", "few", "many", "very many"],
  arm_height: ["Arms", "very low", "low", "high", "very high"],
  bounce: ["Bounce", "very smooth", "smooth", "bouncy", "very bouncy"],
  expansion: ["Reach", "very close", "close", "wide", "very wide"],
};
const wording = (name) => ATTRIBUTES[name] ?? [capital(name.replaceAll("_", " ")), "very little", "little", "much", "very much"];

/** An attribute from 0 to 1 in words. */
export function inWords(name, value) {
  if (value === null || value === undefined) return "as it comes";
  return wording(name)[value < 0.25 ? 1 : value < 0.5 ? 2 : value <= 0.75 ? 3 : 4];
}

const range = (value) => (value < 0.75 ? "plays safe" : value > 1.05 ? "takes risks" : "as it comes");

export class Panel {
  /** `actions`: genre(genre or weights), removeChange(), go(); and `changed()` after a choice. `choices` is changed in place. */
  constructor(actions, choices) {
    Object.assign(this, { actions, choices });
    find("words").oninput = () => (choices.words = find("words").value);
    find("seed").oninput = () => (choices.seed = find("seed").value.trim());
    find("bars").onchange = () => { choices.bars = find("bars").checked; actions.changed(); };
    find("daring").oninput = () => {
      choices.daring = Number(find("daring").value);
      this.renderDaring();
    };
    find("beside").onchange = () => { choices.beside = find("beside").value || null; actions.changed(); };
    find("mixed").onchange = () => this.mix();
    find("share").onchange = () => this.mix();
    find("remove-change").onclick = () => actions.removeChange();
    find("go").onclick = () => actions.go();
  }

  /** After the server has said what it can. */
  offer({ genres, attributes, reads_words: reads }) {
    this.genres = genres;
    const box = find("genres");
    if (genres.length <= MOST_BUTTONS) {
      box.append(...genres.map((genre) => {
        const input = make("input", { type: "radio", name: "genre", value: genre, onchange: () => this.actions.genre(genre) });
        return make("label", { className: "chip" }, input, make("span", {}, make("span", { textContent: capital(genre) }), make("small")));
      }));
    } else {
      const select = make("select", { id: "genre", aria: { labelledby: "dance-title" }, onchange: () => this.actions.genre(select.value) });
      select.append(...genres.map((genre) => new Option(capital(genre), genre)));
      box.removeAttribute("role");
      box.append(select);
    }
    find("beside").append(new Option("none", ""), ...genres.map((genre) => new Option(capital(genre), genre)));
    find("mixed").append(new Option("nothing", ""), ...genres.map((genre) => new Option(capital(genre), genre)));
    find("style-part").hidden = !attributes.length;
    find("words-part").hidden = !reads;
    find("attributes").append(...attributes.map((name) => this.slider(name)));
    this.renderDaring();
  }

  slider(name) {
    const [title] = wording(name);
    const input = make("input", { type: "range", min: 0, max: 100, step: 5, value: MIDDLE, aria: { label: title }, data: { attribute: name } });
    const output = make("output", {});
    const reset = make("button", { type: "button", className: "quiet icon", title: "As it comes", aria: { label: `${title}: as it comes` } }, icon("close"));
    const render = () => {
      const value = this.choices.attributes[name] ?? null;
      input.value = value === null ? MIDDLE : 100 * value;
      output.textContent = inWords(name, value);
      input.setAttribute("aria-valuetext", inWords(name, value));
      box.classList.toggle("off", value === null);
      reset.style.visibility = value === null ? "hidden" : "visible";
    };
    input.oninput = () => {
      if (Number(input.value) === MIDDLE) delete this.choices.attributes[name];
      else this.choices.attributes[name] = Number(input.value) / 100;
      render();
    };
    reset.onclick = () => {
      delete this.choices.attributes[name];
      render();
      input.focus();
    };
    const box = make("div", { className: "attribute" }, make("span", { textContent: title }), input, output, reset);
    box.render = render;
    render();
    return box;
  }

  renderDaring() {
    find("daring-text").textContent = range(this.choices.daring ?? 0.9);
    find("daring").setAttribute("aria-valuetext", range(this.choices.daring ?? 0.9));
  }

  /** Show what `choices` has, after a saved dance has been opened. */
  refill() {
    find("words").value = this.choices.words;
    for (const box of find("attributes").children) box.render();
  }

  mix() {
    const main = mainGenre(this.model.plan[this.model.active][0]), other = find("mixed").value;
    if (!main || !other) return main && this.actions.genre(main);
    const share = Number(find("share").value) / 100;
    const first = this.model.plan[this.model.active][0];
    const lead = typeof first === "object" ? Object.keys(first)[0] : first;
    this.actions.genre(lead === other ? lead : { [lead]: Math.round(100 * (1 - share)) / 100, [other]: share });
  }

  /** `model`: song, heard, plan, active, seconds, take, pending, busy, chosen. */
  render(model) {
    this.model = model;
    const { song, plan, active, take, pending, busy } = model;
    find("song-name").textContent = song.name;
    find("song-facts").textContent = [clock(song.seconds), song.tempo && `${Math.round(song.tempo)} bpm`].filter(Boolean).join(", ");
    const [genre, from] = plan[active] ?? plan[0];
    const end = plan[active + 1]?.[1] ?? model.seconds;
    find("dance-title").textContent = plan.length > 1 ? `Dance from ${clock(from)} to ${clock(end)}` : "Dance";
    find("remove-change").hidden = active === 0;
    const [best] = Object.entries(song.heard ?? {});
    const sure = (share) => `${Math.round(100 * share)} %`;
    find("heard").textContent = best ? `The song sounds like ${best[0]}: ${sure(best[1])} sure.` : genre ? "" : "Which dance shall it be?";
    find("heard").hidden = !find("heard").textContent;
    const lead = genre && typeof genre === "object" ? Object.keys(genre)[0] : genre;
    for (const input of find("genres").querySelectorAll("input")) {
      input.checked = input.value === lead;
      const share = song.heard?.[input.value];
      input.parentElement.querySelector("small").textContent = share >= 0.01 ? ` ${sure(share)}` : "";
    }
    if (find("genre")) find("genre").value = lead ?? "";
    const other = genre && typeof genre === "object" ? Object.keys(genre)[1] : "";
    find("mixed").value = other;
    for (const option of find("mixed").options) option.hidden = option.value !== "" && option.value === lead;
    find("mixing").hidden = !lead || this.genres.length < 2;
    find("share-label").hidden = !other;
    if (other) {
      find("share").value = 100 * genre[other];
      find("share").setAttribute("aria-valuetext", `${sure(genre[other])} ${other}`);
    }
    find("bars").parentElement.hidden = !song.bars.length;
    find("beside-label").hidden = plan.length > 1;
    find("beside").value = this.choices.beside ?? "";
    this.renderUnderstood(take);
    find("go").textContent = !take ? "Dance" : pending ? "Dance the new plan" : "Another dance";
    find("go").disabled = busy;
  }

  /** What the words of a dance were taken for. */
  renderUnderstood(take) {
    const box = find("understood"), understood = take?.understood;
    const list = (values) => (Array.isArray(values) ? values : Object.keys(values ?? {}));
    const attributes = Object.entries(understood?.attributes ?? {}).map(([name, value]) => `${wording(name)[0].toLowerCase()}: ${inWords(name, value)}`);
    const known = [...list(understood?.genres ?? understood?.genre), ...attributes];
    const unknown = list(understood?.not_understood);
    const items = [
      known.length && { key: "known", text: `Understood: ${known.join(", ")}.` },
      unknown.length && { key: "unknown", text: `Not understood: ${unknown.join(", ")}.` },
    ].filter(Boolean);
    keyed(box, items, () => make("p"), (element, { key, text }) => {
      element.className = key;
      element.textContent = text;
    });
  }
}

