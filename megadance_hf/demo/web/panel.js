// The panel beside the stage: the song, which dance, how, and the button that begins.

import { understand } from "./api.js";
import { announce, capital, clock, find, icon, keyed, make } from "./dom.js";
import { label, mainGenre } from "./plan.js";

const MOST_BUTTONS = 8; // more genres are a list
const MIDDLE = 50; // of a slider: as it comes
const READING = 400; // milliseconds after the last letter until the words are read
const SURE = 0.6; // as in hearing_megadance.py: what is less likely is a guess

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
  return wording(name)[value < 0.1 ? 1 : value < 0.5 ? 2 : value <= 0.9 ? 3 : 4];
}

const range = (value) => (value < 0.75 ? "plays safe" : value > 1.05 ? "takes risks" : "as it comes");

export class Panel {
  /** `actions`: genre(genre or weights), removeChange(), closed(whether), go(); and `changed()` after a choice. `choices` is changed in place. */
  constructor(actions, choices) {
    Object.assign(this, { actions, choices });
    find("words").oninput = () => this.read();
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
    find("closed").onchange = () => actions.closed(find("closed").checked);
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
    this.understood = null; // the dance has it
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

  /** `model`: song, plan, active, seconds, take, locks, loop, pending, busy. */
  render(model) {
    this.model = model;
    const { song, plan, active, take, pending, busy } = model;
    find("song-name").textContent = song.name;
    find("song-facts").textContent = [clock(song.seconds), song.tempo && `${Math.round(song.tempo)} bpm`].filter(Boolean).join(", ");
    const [genre, from] = plan[active] ?? plan[0];
    const end = plan[active + 1]?.[1] ?? model.seconds;
    find("dance-title").textContent = plan.length > 1 ? `Dance from ${clock(from)} to ${clock(end)}` : "Dance";
    find("remove-change").hidden = active === 0;
    const [best, next] = Object.entries(song.heard ?? {});
    const sure = (share) => `${Math.round(100 * share)} %`;
    const certain = best && (best[1] >= SURE || !next);
    find("heard").textContent = certain ? `The song sounds like ${best[0]}: ${sure(best[1])} sure.`
      : best ? `Hard to say: ${best[0]} (${sure(best[1])}) or ${next[0]} (${sure(next[1])})?`
      : genre ? "" : "Which dance shall it be?";
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
    find("closed").checked = model.loop;
    const open = take && model.locks.length && !take.loop; // what is locked belongs to a dance that does not close
    find("closed").disabled = Boolean(open) && !model.loop;
    find("closed-note").textContent = open ? "Not possible while something is locked." : model.loop ? "Played again and again, it goes on without a jump." : "";
    find("closed-note").hidden = !find("closed-note").textContent;
    find("bars").parentElement.hidden = !song.bars.length;
    find("beside-label").hidden = plan.length > 1;
    find("beside").value = this.choices.beside ?? "";
    this.renderUnderstood(take);
    find("go").textContent = !take ? "Dance" : pending ? "Dance the new plan" : "Another dance";
    find("go").disabled = busy;
  }

  /** Show what the words are taken for, a moment after they have been written. */
  read() {
    const words = find("words").value.trim();
    this.choices.words = find("words").value;
    clearTimeout(this.reading);
    this.understood = null;
    if (!words) return this.actions.changed();
    this.reading = setTimeout(async () => {
      let understood;
      try {
        ({ understood } = await understand(words));
      } catch (error) {
        understood = { refused: error.message };
      }
      if (find("words").value.trim() !== words) return; // they have been changed meanwhile
      this.understood = understood;
      this.actions.changed();
    }, READING);
  }

  /** The genre that the words name: one, weights of several, or null. */
  namedGenre() {
    const genres = Object.entries(this.understood?.genres ?? {});
    return genres.length > 1 ? Object.fromEntries(genres) : (genres[0]?.[0] ?? null);
  }

  renderUnderstood(take) {
    const same = take?.prompt && take.prompt === this.choices.words.trim();
    const sentences = this.understood?.refused ? [["unknown", this.understood.refused]] : inSentences(this.understood ?? (same ? take.understood : null));
    keyed(find("understood"), sentences.map(([key, text]) => ({ key, text })), () => make("p"), (element, { key, text }) => {
      element.className = key;
      element.textContent = text;
    });
    const all = sentences.map(([, text]) => text).join(" ");
    if (all && all !== this.toldWords) announce(all);
    this.toldWords = all;
  }
}

/** What words were taken for, and which were not understood, in sentences. */
function inSentences(understood) {
  if (!understood) return [];
  const when = (from, to) => {
    const name = (value) => (typeof value === "number" ? (value < 0 ? `${clock(-value)} before the end` : clock(value)) : value);
    return typeof from === "string" ? ` (${from})` : ` from ${name(from)}${to === null || to === undefined ? "" : ` to ${name(to)}`}`;
  };
  const quality = (name, value) => `${wording(name)[0].toLowerCase()}: ${inWords(name, value)}`;
  const known = [
    ...Object.entries(understood.genres ?? {}).map(([genre, weight]) => (weight < 1 ? `${genre} ${Math.round(100 * weight)} %` : genre)),
    ...(understood.not_genres ?? []).map((genre) => `no ${genre}`),
    ...(understood.parts ?? []).map(([genre, from, to]) => label(genre) + when(from, to)),
    ...Object.entries(understood.attributes ?? {}).map(([name, value]) => quality(name, value)),
    ...(understood.timed ?? []).map(([name, value, from, to]) => quality(name, value) + when(from, to)),
  ];
  const corrected = Object.entries(understood.corrected ?? {}).map(([wrong, right]) => `"${wrong}" as "${right}"`);
  const unknown = understood.not_understood ?? [];
  return [
    known.length && ["known", `Understood: ${known.join(", ")}.`],
    corrected.length && ["corrected", `Read ${corrected.join(", ")}.`],
    unknown.length && ["unknown", `Not understood: ${unknown.join(", ")}.`],
  ].filter(Boolean);
}
