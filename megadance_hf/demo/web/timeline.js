// The timeline: the song with the piece that is danced, and below it this piece with beats, plan, and what is kept or was danced anew.

import { genreColour } from "../stage/stage.js";
import { announce, capital, clock, find, icon, keyed, make } from "./dom.js";
import { makeHandle, setHandle } from "./handle.js";
import { PARTS, label, mainGenre, spans } from "./plan.js";
import { isMet, kindOf, room } from "./poses.js";

const SHORTEST = 1; // seconds of a piece of the song
const CLICK = 6; // pixels: who moves the pointer farther is selecting
const STEP = 1.5; // by which a button zooms
const LEAST = 2; // seconds that are seen at least
const FREE = 3000; // milliseconds in which a timeline that is scrolled by hand does not follow the music
const percent = (share) => `${(100 * share).toFixed(3)}%`;

/** The values around `value` in a sorted list. */
const nearest = (list, value) => list.reduce((best, one) => (Math.abs(one - value) < Math.abs(best - value) ? one : best), list[0] ?? value);
const following = (list, value, direction) =>
  (direction > 0 ? list.find((one) => one > value + 1e-3) : list.findLast((one) => one < value - 1e-3)) ?? value;

/** A waveform as the path of a shape, mirrored at the middle of a box of 1000 by 100; `peaks` are those from `start` for `seconds`. */
function wave(peaks, total, start, seconds) {
  const first = Math.floor((start / total) * peaks.length);
  const last = Math.max(Math.ceil(((start + seconds) / total) * peaks.length), first + 2);
  const piece = peaks.slice(first, last);
  const x = (i) => ((1000 * i) / Math.max(piece.length - 1, 1)).toFixed(1);
  const upper = piece.map((peak, i) => `${x(i)} ${(50 - 46 * Math.max(peak, 0.015)).toFixed(1)}`);
  const lower = piece.map((peak, i) => `${x(i)} ${(50 + 46 * Math.max(peak, 0.015)).toFixed(1)}`).reverse();
  return `M${[...upper, ...lower].join("L")}Z`;
}

function picture(...classes) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1000 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.innerHTML = classes.map((name) => `<path class="${name}"/>`).join("");
  return svg;
}

/** A button over a range of a line. */
function setRange(button, { start, end, name, pressed, content, total }) {
  button.style.left = percent(start / total);
  button.style.width = percent((end - start) / total);
  button.setAttribute("aria-label", name);
  button.setAttribute("aria-pressed", String(Boolean(pressed)));
  button.title = name;
  if (button.dataset.content !== content) button.querySelector(".text").textContent = button.dataset.content = content;
}

export class Timeline {
  /**
   * `actions`: excerpt(start, seconds, final), moveChange(index, second, final), removeChange(index), activate(index), addChange(second),
   * select(range or null), seek(second), movePose(key, second, final), dropPose(key), choosePose(key). They get seconds of the dance, `excerpt` those of the song.
   */
  constructor(actions) {
    this.actions = actions;
    this.drawn = {};
    [this.zoom, this.freeUntil] = [1, 0];
    for (const name of ["scroll", "overview", "ruler", "wave", "plan", "poses", "upper", "lower", "over"]) this[name] = find(name);
    this.buildOverview();
    this.buildTrack();
    this.buildZoom();
  }

  buildOverview() {
    this.songWave = picture("wave");
    this.piece = makeHandle("piece");
    this.from = makeHandle("from");
    this.to = makeHandle("to");
    this.window = make("div", { className: "window", hidden: true }); // what of the piece is seen below
    this.overview.append(this.songWave, this.piece, this.window, this.from, this.to);
    this.overview.onclick = (event) => {
      const { left, width } = this.overview.getBoundingClientRect();
      const { song, seconds } = this.model;
      const wanted = ((event.clientX - left) / width) * song.seconds - seconds / 2;
      this.actions.excerpt(this.tidyStart(wanted), seconds, true);
    };
  }

  buildZoom() {
    const { scroll } = this;
    find("zoom-out").append(icon("minus"));
    find("zoom-in").append(icon("plus"));
    find("zoom-out").onclick = () => this.zoomTo(this.zoom / STEP);
    find("zoom-in").onclick = () => this.zoomTo(this.zoom * STEP);
    find("timeline").addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, textarea, input:not([type=radio])")) return;
      if (event.key === "+" || event.key === "=") this.zoomTo(this.zoom * STEP);
      else if (event.key === "-") this.zoomTo(this.zoom / STEP);
      else if (event.key === "0") this.zoomTo(1);
      else return;
      event.preventDefault();
    });
    scroll.addEventListener("wheel", (event) => {
      this.freeUntil = performance.now() + FREE;
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.zoomTo(this.zoom * Math.exp(-event.deltaY / 300), this.second(event));
    }, { passive: false });
    scroll.addEventListener("pointerdown", () => (this.freeUntil = performance.now() + FREE));
    scroll.addEventListener("scroll", () => this.renderWindow());
  }

  /** The pixels of the line of time: all of it, those that are seen, and how far the lines are scrolled. */
  pixels() {
    const names = this.wave.offsetLeft;
    const style = getComputedStyle(this.scroll);
    const seen = this.scroll.clientWidth - names - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    return { all: this.wave.offsetWidth, seen, scrolled: this.scroll.scrollLeft };
  }

  /** Show the piece so many times as wide. `at`: the second that stays where it is; where the music is, if that is to be seen. */
  zoomTo(zoom, at = null) {
    const { seconds } = this.model;
    const most = Math.max(seconds / LEAST, 1);
    const wanted = zoom < 1.05 ? 1 : Math.min(zoom, most);
    const before = this.pixels();
    const second = (x) => (x / before.all) * seconds;
    const [from, to] = [second(before.scrolled), second(before.scrolled + before.seen)];
    const still = at ?? (this.time >= from && this.time <= to ? this.time : (from + to) / 2);
    const place = (still / seconds) * before.all - before.scrolled;
    this.zoom = wanted;
    this.scroll.classList.toggle("zoomed", wanted > 1);
    this.scroll.style.setProperty("--zoom", wanted);
    this.scroll.scrollLeft = (still / seconds) * this.pixels().all - place;
    this.render(this.model);
    announce(wanted === 1 ? "All of the dance is shown" : `${(seconds / wanted).toFixed(1)} seconds are shown`);
  }

  /** Scroll to where the music is, unless somebody has just scrolled elsewhere. */
  follow(time) {
    this.tick(time);
    if (this.zoom === 1 || performance.now() < this.freeUntil) return;
    const { all, seen, scrolled } = this.pixels();
    const x = (time / this.model.seconds) * all;
    if (x < scrolled || x > scrolled + 0.9 * seen) this.scroll.scrollLeft = x - 0.15 * seen;
  }

  renderWindow() {
    const { song, start, seconds } = this.model;
    const { all, seen, scrolled } = this.pixels();
    this.window.hidden = this.zoom === 1;
    this.window.style.left = percent((start + (scrolled / all) * seconds) / song.seconds);
    this.window.style.width = percent((Math.min(seen / all, 1) * seconds) / song.seconds);
  }

  buildTrack() {
    this.danceWave = picture("beats", "bars", "wave");
    this.wave.append(this.danceWave);
    this.box = make("div", { className: "box" });
    this.begin = makeHandle("from");
    this.end = makeHandle("to");
    this.head = make("div", { className: "now" });
    this.over.append(this.box, this.begin, this.end, this.head);
    let grabbed = null;
    const second = (event) => {
      const { left, width } = this.wave.getBoundingClientRect();
      return Math.min(Math.max(((event.clientX - left) / width) * this.model.seconds, 0), this.model.seconds);
    };
    this.wave.onpointerdown = (event) => {
      if (event.button > 0) return;
      grabbed = { x: event.clientX, second: second(event) };
      this.wave.setPointerCapture(event.pointerId);
    };
    this.wave.onpointermove = (event) => {
      if (!grabbed || (!grabbed.moved && Math.abs(event.clientX - grabbed.x) < CLICK)) return;
      grabbed.moved = true;
      const ends = [grabbed.second, second(event)].map((value) => nearest(this.model.beats, value)).sort((one, other) => one - other);
      if (ends[1] > ends[0]) this.actions.select({ start: ends[0], end: ends[1], part: this.model.selection?.part ?? "all" });
    };
    this.wave.onpointerup = (event) => {
      if (grabbed && !grabbed.moved) this.actions.seek(second(event));
      grabbed = null;
    };
    this.wave.onpointercancel = () => (grabbed = null);
    this.plan.ondblclick = (event) => this.actions.addChange(second(event));
    this.second = second;
  }

  /** The beginning of a piece of the song that is possible, at a bar if one is near. */
  tidyStart(start) {
    const { song, seconds } = this.model;
    const clamped = Math.min(Math.max(start, 0), Math.max(song.seconds - seconds, 0));
    const bar = nearest([0, ...song.bars], clamped);
    return Math.abs(bar - clamped) < 1 && bar + seconds <= song.seconds + 1e-3 ? bar : clamped;
  }

  /** `model`: song, start, seconds, plan, take, locks, redone, selection, active, genres, limit, bars, beats (of the dance), planPending, hold, met, chosenPose,
   * dancers and danced: what those of the next dance dance, and those of this one. */
  render(model) {
    this.model = model;
    if (this.zoom > Math.max(model.seconds / LEAST, 1)) return this.zoomTo(this.zoom); // of a shorter piece less can be seen
    find("zoom-out").disabled = this.zoom === 1;
    find("zoom-in").disabled = this.zoom >= Math.max(model.seconds / LEAST, 1) - 1e-6;
    this.renderOverview(model);
    this.renderWindow();
    this.renderWave(model);
    this.renderPlan(model);
    for (const part of ["upper", "lower"]) this.renderPart(model, part);
    for (const element of document.querySelectorAll(".taken")) element.hidden = !model.take;
    for (const element of document.querySelectorAll(".held")) element.hidden = !model.hold.length;
    this.renderPoses(model);
    this.renderSelection(model);
    this.over.style.setProperty("--so-far", percent((model.soFar ?? 0) / model.seconds));
    this.ruler.style.setProperty("--so-far", percent((model.soFar ?? 0) / model.seconds));
  }

  renderOverview({ song, start, seconds, limit }) {
    if (this.drawn.song !== song) {
      this.songWave.querySelector(".wave").setAttribute("d", wave(song.peaks, song.seconds, 0, song.seconds));
      this.drawn.song = song;
    }
    const [total, end, longest] = [song.seconds, start + seconds, Math.min(limit, song.seconds)];
    const step = (value, direction, fine) => (fine ? value + direction * 0.5 : following([0, ...song.bars, total], value, direction));
    const snap = (value) => {
      const bar = nearest([0, ...song.bars, total], value);
      return Math.abs(bar - value) < 0.012 * total ? bar : value;
    };
    const shared = { total, snap, next: step, text: (value) => clock(value, true) };
    setHandle(this.piece, {
      ...shared, value: start, min: 0, max: Math.max(total - seconds, 0), name: "The piece of the song that is danced",
      text: (value) => `from ${clock(value)} to ${clock(value + seconds)}`,
      change: (value, final) => this.actions.excerpt(value, seconds, final),
    });
    this.piece.style.width = percent(seconds / total);
    setHandle(this.from, {
      ...shared, value: start, min: Math.max(0, end - longest), max: Math.max(end - SHORTEST, 0), name: "Where the dance begins in the song",
      change: (value, final) => this.actions.excerpt(value, end - value, final),
    });
    setHandle(this.to, {
      ...shared, value: end, min: Math.min(start + SHORTEST, total), max: Math.min(start + longest, total), name: "Where the dance ends in the song",
      change: (value, final) => this.actions.excerpt(start, value - start, final),
    });
  }

  renderWave({ song, start, seconds }) {
    const drawn = `${song.song} ${start} ${seconds} ${this.zoom}`;
    if (this.drawn.wave === drawn) return;
    this.drawn.wave = drawn;
    const lines = (times, from, to) => times.map((time) => `M${((1000 * time) / seconds).toFixed(1)} ${from}V${to}`).join("");
    this.danceWave.querySelector(".wave").setAttribute("d", wave(song.peaks, song.seconds, start, seconds));
    this.danceWave.querySelector(".beats").setAttribute("d", lines(song.beats.map((time) => time - start).filter((time) => time >= 0), 88, 100));
    this.danceWave.querySelector(".bars").setAttribute("d", lines(song.bars.map((time) => time - start).filter((time) => time >= 0), 0, 100));
    const step = [1, 2, 5, 10, 15, 30, 60].find((every) => seconds / every <= 8 * this.zoom) ?? 120;
    const times = Array.from({ length: Math.ceil(seconds / step - 0.3) }, (_, index) => index * step);
    this.ruler.replaceChildren(...times.map((time) => {
      const mark = make("span", { textContent: clock(time) });
      mark.style.left = percent(time / seconds);
      return mark;
    }));
  }

  renderPlan({ plan, seconds, genres, active, bars, planPending: pending }) {
    const several = plan.length > 1;
    const parts = spans(plan, seconds).map((span, index) => ({ ...span, index, key: `span ${index}` }));
    const changes = parts.slice(1).map((span) => ({ ...span, key: `change ${span.index}` }));
    this.plan.classList.toggle("pending", pending);
    keyed(
      this.plan,
      [...parts, ...changes],
      ({ key, index }) => {
        if (key.startsWith("change")) return makeHandle("change");
        const button = make("button", { type: "button", className: "span" }, make("span", { className: "text" }));
        button.onclick = (event) => {
          this.actions.activate(index);
          if (event.detail) this.actions.seek(this.second(event)); // by mouse or finger
        };
        return button;
      },
      (element, { key, index, genre, start: from, end }) => {
        if (key.startsWith("span")) {
          const text = genre === null ? "Choose a dance" : capital(label(genre));
          const name = `${text}, ${clock(from)} to ${clock(end)}${pending ? ", not danced yet" : ""}`;
          setRange(element, { start: from, end, total: seconds, name, pressed: several && index === active, content: text });
          element.style.setProperty("--colour", genre === null ? "var(--lock)" : genreColour(Math.max(genres.indexOf(mainGenre(genre)), 0), "30%"));
          return;
        }
        const grid = bars.filter((bar) => bar > 0 && bar < seconds);
        setHandle(element, {
          value: from, min: plan[index - 1][1] + 0.27, max: (plan[index + 1]?.[1] ?? seconds) - 0.27, total: seconds,
          name: `Change to ${label(genre)}`, text: (value) => clock(value, true), snap: (value) => nearest(grid, value),
          next: (value, direction, fine) => (fine ? value + direction * 0.27 : following(grid, value, direction)),
          change: (value, final) => this.actions.moveChange(index, value, final), remove: () => this.actions.removeChange(index),
        });
      },
    );
  }

  renderPoses({ hold, met, chosenPose, seconds, beats, dancers }) {
    const of = (pose) => (dancers.length > 1 ? `${capital(dancers[pose.dancer])}: ${kindOf(pose).toLowerCase()}` : kindOf(pose));
    const shown = hold.map((pose) => ({ ...pose, text: `${of(pose)} held${pose.name ? `, ${pose.name}` : ""}${isMet(pose, met) ? "" : ", not danced yet"}` }));
    this.renderRows(
      this.poses,
      dancers,
      [...shown.filter(({ frames }) => frames > 1).map((pose) => ({ ...pose, key: `clip of ${pose.key}`, clip: true })), ...shown],
      ({ clip }) => {
        if (clip) return make("div", { className: "clip" });
        const handle = makeHandle("pose");
        handle.append(icon("figure"), make("span", { className: "number" }));
        return handle;
      },
      (element, { key, clip, second, frames, text, ...pose }) => {
        element.classList.toggle("pending", !isMet({ second, ...pose }, met));
        if (clip) {
          element.style.left = percent(second / seconds);
          element.style.width = percent(frames / 30 / seconds);
          return;
        }
        const [min, max] = room(hold, key, seconds);
        element.classList.toggle("chosen", key === chosenPose);
        setHandle(element, {
          value: second, min, max, total: seconds, name: text, text: (value) => clock(value, true),
          snap: (value) => { const beat = nearest(beats, value); return Math.abs(beat - value) < 0.01 * seconds ? beat : value; },
          next: (value, direction, fine) => (fine ? value + direction / 10 : following(beats, value, direction)),
          change: (value, final) => this.actions.movePose(key, value, final), remove: () => this.actions.dropPose(key),
          pick: () => this.actions.choosePose(key),
        });
        element.title = `${text}, ${clock(second, true)}`;
      },
    );
  }

  /** The marks of a line, as `keyed`; of two dancers each has a row, with their name, and each mark its `.number`. */
  renderRows(lane, names, items, create, update) {
    const two = names.length > 1;
    lane.classList.toggle("rows", two);
    const titles = two ? names.map((name, dancer) => ({ key: `row ${dancer} ${name}`, title: `${dancer + 1} ${capital(name)}`, dancer })) : [];
    keyed(lane, [...titles, ...items], (item) => (item.title ? make("span", { className: "row-name", textContent: item.title }) : create(item)), (element, item) => {
      element.style.setProperty("--row", two ? item.dancer : 0);
      if (item.title) return;
      const number = element.querySelector(".number");
      if (number) number.textContent = two ? item.dancer + 1 : "";
      update(element, item);
    });
  }

  renderPart({ locks, redone, seconds, selection, danced }, part) {
    const own = (ranges) => ranges.filter((range) => range.part === "all" || range.part === part);
    const items = [
      ...own(redone).map((range) => ({ range, kind: "redone" })),
      ...own(locks).map((range) => ({ range, kind: "locked" })),
    ].map((item) => ({ ...item, dancer: item.range.dancer, key: `${item.kind} ${item.range.start} ${item.range.end} ${item.range.part} ${item.range.dancer}` }));
    this.renderRows(
      this[part],
      danced,
      items,
      ({ kind }) => {
        const glyph = icon(kind === "locked" ? "lock" : "again");
        const button = make("button", { type: "button", className: kind }, make("span", { className: "number" }), glyph, make("span", { className: "text" }));
        button.onclick = () => this.actions.select({ ...button.range });
        return button;
      },
      (button, { range, kind }) => {
        button.range = range;
        const who = danced.length > 1 ? capital(danced[range.dancer]) : null;
        const what = kind === "locked" ? (who ? `${who} locked` : "Locked") : who ? `${who} anew` : "Danced anew";
        setRange(button, {
          ...range, total: seconds, content: what, name: `${what}: ${PARTS[range.part]}, ${clock(range.start, true)} to ${clock(range.end, true)}`,
          pressed: selection && selection.dancer === range.dancer && selection.start === range.start && selection.end === range.end,
        });
      },
    );
  }

  renderSelection({ selection, seconds, beats, bars }) {
    for (const element of [this.box, this.begin, this.end]) element.hidden = !selection;
    if (!selection) return;
    this.box.style.left = percent(selection.start / seconds);
    this.box.style.width = percent((selection.end - selection.start) / seconds);
    const shared = {
      total: seconds, text: (value) => clock(value, true), snap: (value) => nearest(beats, value),
      next: (value, direction, fine) => following(fine ? beats : [...new Set([0, ...bars, seconds])], value, direction),
    };
    setHandle(this.begin, {
      ...shared, value: selection.start, min: 0, max: beats.findLast((beat) => beat < selection.end - 0.25) ?? 0, name: "Passage begins",
      change: (value) => this.actions.select({ ...selection, ...this.model.selection, start: value }),
    });
    setHandle(this.end, {
      ...shared, value: selection.end, min: beats.find((beat) => beat > selection.start + 0.25) ?? seconds, max: seconds, name: "Passage ends",
      change: (value) => this.actions.select({ ...selection, ...this.model.selection, end: value }),
    });
  }

  /** The bar nearest to a second that can have a change of the plan; null if there is none. */
  placeForChange(second) {
    const { bars, seconds, plan } = this.model;
    const taken = plan.map(([, start]) => start);
    const free = bars.filter((bar) => bar > 0.5 && bar < seconds - 0.5 && taken.every((start) => Math.abs(start - bar) > 0.5));
    return free.length ? nearest(free, second) : null;
  }

  tick(time) {
    this.time = time;
    this.head.style.left = percent(Math.min(Math.max(time / this.model.seconds, 0), 1));
  }
}
