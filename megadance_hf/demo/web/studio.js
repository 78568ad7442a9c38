// The page: what the visitor has done so far, and which part of the page does what.

import { Stage } from "../stage/stage.js";
import * as api from "./api.js";
import { Compare } from "./compare.js";
import { announce, capital, clock, find, icon, make } from "./dom.js";
import { askDownload, openProjects, saveAs, saveProject } from "./files.js";
import { History } from "./history.js";
import { Panel } from "./panel.js";
import { Passage } from "./passage.js";
import { PARTS, label, sameRange, samePlan, spanAt, withChange, withGenre, withRange, withStart, withoutChange } from "./plan.js";
import { Poses, changed, fitted, kindOf, ofDancer, ordered, placeFor, plain, samePoses, withKeys, without } from "./poses.js";
import { Progress } from "./progress.js";
import { SongChooser } from "./song.js";
import { followTheme } from "./theme.js";
import { Timeline } from "./timeline.js";

const CANDIDATES = { candidates: 8, show: 3 };
const EMPTY = { take: null, plan: null, locks: [], redone: [], start: 0, seconds: 0, loop: false, hold: [], met: [] }; // met: what of `hold` the take has
// What is no step to go back from: it is only looked at when the next dance begins.
const choices = { attributes: {}, words: "", beside: null, daring: null, bars: true, seed: "" };

let options = { genres: [], attributes: [], limits: { song_seconds: 60, megabytes: 30 } };
let song = null;
let history = new History(EMPTY);
let draft = null; // the state while a handle is being moved
let selection = null, active = 0, chosenPose = null;
let job = null;
let waiting = null; // a saved dance whose song is still to be chosen
let shown = null; // id of the take that the stage shows, "" for only the song, null for something else
let piece = null; // of which song it plays which piece

const stage = new Stage(find("stage"));
window.megadanceStage = stage;
find("timeline").append(make("details", { id: "plots", hidden: true, className: "megadance-stage" }, make("summary", { textContent: "How it moves" }), stage.curves));

const state = () => draft ?? history.state;

function commit(step, changes, group = null) {
  draft = null;
  history.push(step, { ...history.state, ...changes }, group);
  render();
}

// --- what is shown -----------------------------------------------------------------------------------------------------

/** The plan as the visitor sees it: their own; or as it was danced; or the genre that the words name, or that is heard. */
function plan() {
  const { plan: own, take } = state();
  const [heard] = Object.keys(song?.heard ?? {});
  return own ?? take?.plan ?? [[panel.namedGenre() ?? heard ?? null, 0]];
}

const planPending = () => Boolean(state().take && state().plan && !samePlan(state().plan, state().take.plan));
const pending = () => planPending() || Boolean(state().take && (state().loop !== state().take.loop || !samePoses(state().hold, state().met)));

/** What the dancers of the next dance dance; of two, if there are to be two, or if the second one is to meet something. */
function dancers() {
  const first = plan()[0][0];
  const second = plan().length === 1 ? choices.beside : null;
  const needed = second ?? (state().hold.some(({ dancer }) => dancer) ? "second dancer" : null);
  return [first === null ? "first dancer" : label(first), needed].filter(Boolean);
}

/** What the dancers of this dance dance. */
const danced = () => state().take?.dances.map(({ genre }) => genre) ?? [];

/** ", waltz": whose something is, where there are two. */
const whose = (names, dancer) => (names.length > 1 ? `, ${names[dancer]}` : "");

/** Bars (or what there is) and beats, in seconds of the dance, with its beginning and end. */
function grid() {
  const { start, seconds } = state();
  const inside = (times) => times.map((time) => time - start).filter((time) => time >= 0 && time <= seconds);
  const seconds_ = Array.from({ length: Math.floor(seconds) }, (_, index) => index);
  const beats = inside(song.beats).length > 1 ? inside(song.beats) : seconds_;
  const bars = choices.bars && inside(song.bars).length > 1 ? inside(song.bars) : beats;
  const ends = (times) => [...new Set([0, ...times, seconds])];
  return { bars, beats: ends(beats) };
}

function labels(of, loop = false) {
  return of?.map(([genre, second]) => [`${label(genre)}${loop ? ", ends where it begins" : ""}`, second]);
}

function render() {
  document.querySelector("main").classList.toggle("empty", !song);
  for (const id of ["timeline", "panel"]) find(id).hidden = !song;
  chooser.element.hidden = Boolean(song) || Boolean(job);
  const now = state();
  for (const id of ["save", "download"]) find(id).disabled = !now.take || Boolean(job);
  find("open").disabled = Boolean(job);
  if (!song) return;
  active = Math.min(active, plan().length - 1);
  if (selection && selection.end > now.seconds + 1e-3) selection = null;
  if (selection?.dancer >= danced().length) selection.dancer = 0;
  if (selection || !now.hold.some((pose) => pose.key === chosenPose)) chosenPose = null;
  const busy = Boolean(job) || Boolean(compare.takes);
  const model = {
    song, ...now, plan: plan(), pending: pending(), planPending: planPending(), selection, active, busy, chosenPose, ...grid(),
    now: () => stage.now(), dancer: () => stage.solo ?? 0, dancers: dancers(), danced: danced(),
    genres: options.genres, limit: options.limits.song_seconds, soFar: job?.soFar,
  };
  timeline.render(model);
  passage.render(model);
  poses.render(model);
  panel.render(model);
  find("select").disabled = busy;
  for (const [id, step] of [["undo", history.undoes], ["redo", history.redoes]]) {
    find(id).disabled = step === null || busy;
    const name = `${capital(id)}${step ? `: ${step}` : ""}`;
    find(id).setAttribute("aria-label", name);
    find(id).title = name;
  }
  renderChange();
  // a selected passage is what is looped
  if (!compare.takes) stage.passage = selection && stage.loop.checked ? [selection.start, selection.end] : null;
  find("plots").hidden = !now.take || Boolean(compare.takes);
  timeline.tick(stage.now());
  if (!draft) showState();
}

/** The button that adds a change says where. */
function renderChange() {
  const place = timeline.placeForChange(stage.now());
  const text = place === null ? "Change" : `Change at ${clock(place)}`;
  find("change").disabled = place === null || Boolean(job);
  if (find("change").dataset.text === text) return;
  find("change").dataset.text = text;
  find("change").replaceChildren(icon("plus"), text);
  find("change").title = place === null ? "There is no room for another dance here" : `Another dance from ${clock(place)} on`;
}

/** Put the dance on the stage, or only the song; the clock goes on where the piece of the song is the same. */
async function showState() {
  const { take, start, seconds } = state();
  if (compare.takes || job?.previewed) return;
  const wanted = `${song.song} ${start} ${seconds}`;
  const keep = wanted === piece;
  if (keep && shown === (take?.id ?? "")) return;
  [shown, piece] = [take?.id ?? "", wanted];
  const dances = (take?.dances ?? []).map((dance) => ({ ...dance, loop: take.loop, ...(take.dances.length > 1 ? {} : { labels: labels(take.plan, take.loop) }) }));
  if (take?.loop) stage.loop.checked = true; // that is what it is for
  await stage.show({ song: song.sound, offset: start, seconds, beats: take?.beats ?? [], dances }, { keep });
  if (!take) stage.tell("");
}

function tell(text, kind = "error") {
  const box = find("message");
  box.className = text ? kind : "";
  box.setAttribute("role", kind === "error" ? "alert" : "status");
  box.textContent = text ?? "";
  if (!song) chooser.text.textContent = text || chooser.text.textContent;
  chooser.text.classList.toggle("error", Boolean(text) && kind === "error");
}

// --- jobs --------------------------------------------------------------------------------------------------------------

/** Run a job; the final state, or null if it was cancelled or failed. `from`: the second from which on a preview is of interest. */
async function run(request, onPreview = null, from = 0) {
  job?.cancel();
  tell("");
  const own = (job = new api.Job(request));
  own.soFar = 0;
  progress.show({});
  render();
  stage.comeIntoView();
  try {
    return await own.run((now) => {
      if (job !== own) return;
      const look = onPreview && now.preview?.seconds > from + 0.5 ? now.preview : null;
      progress.show({ ...now, preview: look && { ...look, seconds: look.seconds - from } });
      if (look && now.state === "working") onPreview(own, look);
    });
  } catch (error) {
    if (!(error instanceof api.Refused)) console.error(error);
    if (job === own) tell(error instanceof api.Refused ? error.message : "Something went wrong. Try again.");
    return null;
  } finally {
    if (job === own) {
      job = null;
      progress.hide();
    }
  }
}

function cancel() {
  job?.cancel();
  announce("Cancelled");
}

/** Show what there is of a dance that is being made; of one that is danced anew in a passage, beside who stays. */
async function preview(own, { glb, seconds, dancer, version, heading = 0 }, range = null) {
  if (own.loading || own.previewed === version) return;
  own.loading = true;
  if (!range) own.soFar = seconds;
  else if (!own.previewed && (stage.now() < range.start || stage.now() > range.end)) stage.seekTo(range.start);
  own.previewed = version;
  shown = null;
  const { start, seconds: total, take } = state();
  const made = { genre: dancers()[dancer], glb, heading, ...(dancer ? {} : { labels: labels(plan()) }) };
  const anew = (dance, index) => (index === dancer ? { genre: dance.genre, caption: `${dance.genre}, anew`, glb, heading } : { ...dance, speed: null });
  await stage.show({ song: song.sound, offset: start, seconds: total, beats: [], dances: range ? take.dances.map(anew) : [made] }, { keep: true });
  own.loading = false;
  if (job === own) render();
}

function request() {
  const { start, seconds, plan: own, locks, take, loop, hold } = state();
  const seed = choices.seed === "" ? null : Number(choices.seed);
  if (seed !== null && !Number.isSafeInteger(seed)) throw new api.Refused(`The number of a dance is a whole number; "${choices.seed}" is none.`);
  return {
    kind: "dance", song: song.song, start, seconds, loop, hold: plain(hold), plan: own, changes: choices.bars && song.bars.length ? "bar" : "code", seed,
    attributes: choices.attributes, prompt: choices.words.trim() || null,
    keep: take && locks.length ? { take: take.id, ranges: locks } : null,
    ...(choices.beside && plan().length === 1 ? { beside: choices.beside } : {}),
    ...(choices.daring === null ? {} : { temperature: choices.daring }),
  };
}

async function dance() {
  let wanted;
  try {
    if (plan().some(([genre]) => genre === null) && !choices.words.trim()) throw new api.Refused("Choose a dance first.");
    wanted = request();
  } catch (error) {
    return tell(error.message);
  }
  const { take: before, hold } = state();
  const done = await run(wanted, preview);
  if (done?.takes.length) {
    const [take] = done.takes;
    commit(before ? "another dance" : "the first dance", { take, plan: wanted.plan && take.plan, met: hold, redone: wanted.keep ? history.state.redone : [] });
    tell(take.notice ?? "", "notice");
    const { length } = take.dances.flatMap((one) => one.hold);
    const also = `${take.loop ? ", ends where it begins" : ""}${length ? `, with ${length === 1 ? "the pose" : "the poses"} that you hold` : ""}`;
    announce(`Done: ${labels(take.plan).map(([text]) => text).join(", then ")}${also}, number ${take.seed}.`);
  } else render();
}

async function danceAnew(range) {
  const { take } = state();
  const wanted = { kind: "redo", take: take.id, ...range, ...CANDIDATES, seed: null, attributes: choices.attributes, prompt: choices.words.trim() || null };
  const done = await run(wanted, (own, look) => preview(own, look, range), range.start);
  if (!done?.takes.length) return render();
  const { start, seconds } = state();
  compare.request = range;
  const showing = compare.show(done.takes, range, (dances) => {
    shown = null;
    return stage.show({ song: song.sound, offset: start, seconds, beats: take.beats ?? [], dances }, { keep: true });
  });
  render();
  await showing;
  announce(`${done.takes.length} other ways to dance the passage. Keep one of them, or leave it as it was.`);
}

function keep(take) {
  const { request: asked } = compare;
  compare.hide();
  if (!take) return render();
  const { start, end, part, dancer } = take.redone ?? asked;
  const redone = withRange(history.state.redone, { start, end, part, dancer });
  commit(`dancing ${clock(start)} to ${clock(end)} anew`, { take, redone });
}

// --- songs and files ---------------------------------------------------------------------------------------------------

async function arrive(name, file) {
  cancelQuietly();
  tell("");
  if (file.size > options.limits.megabytes * 2 ** 20) {
    return tell(`"${name}" has ${(file.size / 2 ** 20).toFixed(0)} MB: at most ${Math.round(options.limits.megabytes)} are taken.`);
  }
  const own = (job = { cancel: () => (own.cancelled = true) });
  render();
  progress.show({ step: "uploading the song", share: 0 });
  try {
    const arrived = await api.upload(name, file, (share) => {
      if (job === own && !own.cancelled) progress.show(share < 1 ? { step: "uploading the song", share } : { step: "listening to the song" });
    });
    if (own.cancelled) return;
    begin(arrived);
  } catch (error) {
    if (!own.cancelled) tell(error instanceof api.Refused ? error.message : "The song could not be used. Try another one.");
    if (!(error instanceof api.Refused)) console.error(error);
  } finally {
    if (job === own) {
      job = null;
      progress.hide();
    }
    render();
  }
  if (waiting && song && !own.cancelled) await open(waiting);
}

function cancelQuietly() {
  job?.cancel();
  job = null;
  compare.hide();
  progress.hide();
}

function begin(arrived) {
  song = arrived;
  selection = null;
  active = 0;
  draft = null;
  piece = null;
  history = new History({ ...EMPTY, seconds: Math.min(song.seconds, options.limits.song_seconds) });
  document.title = `${song.name} – megadance`;
  tell(song.notice ?? "", "notice");
  const [best] = Object.entries(song.heard ?? {});
  announce(best ? `The song is there. It sounds like ${best[0]}.` : "The song is there.");
}

async function open(project) {
  const fits = song && song.name === project.song.name && Math.abs(song.seconds - project.song.seconds) < 0.1;
  if (!fits && waiting !== project) {
    waiting = project;
    const text = `This dance belongs to "${project.song.name}": choose that song.`;
    tell(text, "notice");
    if (!song) [chooser.title.textContent, chooser.text.textContent] = ["Now the song of this dance", text];
    return;
  }
  waiting = null;
  const done = await run({ kind: "open", song: song.song, project });
  if (!done?.takes.length) return render();
  const [take] = done.takes;
  choices.attributes = { ...project.attributes };
  choices.words = project.prompt ?? "";
  choices.beside = project.beside ?? null;
  panel.refill();
  const met = withKeys(project.hold ?? []);
  const hold = project.next?.hold ? withKeys(project.next.hold) : met;
  commit("opening a saved dance", {
    take, plan: project.next ? project.next.plan : project.plan, loop: project.next?.loop ?? take.loop, hold, met, locks: take.locks, redone: take.redone ? [take.redone] : [],
    start: take.start, seconds: take.seconds,
  });
  announce("The saved dance is on the stage.");
}

const nameOfTake = (take) => `${(take.name ?? song.name).replace(/\.[^.]+$/, "")}-${label(take.plan[0][0]).replaceAll(" + ", "-")}-${take.seed}`;

async function save() {
  const { take, locks, plan: own, loop, hold } = state();
  try {
    const project = await api.project(take.id);
    saveProject({ ...project, locks, next: pending() ? { plan: own, loop, hold: plain(hold) } : null }, `${nameOfTake(take)}.json`);
    announce("Saved");
  } catch (error) {
    tell(error.message);
  }
}

async function download(video) {
  const { take } = state();
  const done = await run({ kind: "export", take: take.id, video });
  if (done?.zip) saveAs(done.zip, `${nameOfTake(take)}.zip`);
  render();
}

// --- the parts of the page, joined -------------------------------------------------------------------------------------

const select = (range) => {
  if (range) chosenPose = null;
  const { start, end, part, dancer = selection?.dancer ?? stage.solo ?? 0 } = range ?? {};
  selection = range && { start, end, part, dancer };
  render();
};

/** Select the bar at which the music is, for keyboards. */
function selectHere() {
  const { bars, seconds } = timeline.model;
  const edges = [...new Set([0, ...bars, seconds])];
  const from = edges.findLast((bar) => bar <= stage.now() + 1e-3 && bar < seconds) ?? 0;
  const to = edges.find((bar) => bar > from + 1) ?? seconds;
  select({ start: from, end: to, part: selection?.part ?? "all" });
  timeline.begin.focus();
}

/** Hold something new near a second. */
function holdPose(pose, second) {
  const { hold, seconds } = state();
  const place = placeFor(ofDancer(hold, pose.dancer), pose.frames, second, seconds);
  if (place === null) return tell(pose.frames / 30 > seconds ? "The clip is longer than the dance." : "Something is held here already: move it, or hold this somewhere else.");
  const [added] = withKeys([{ ...pose, second: place }]);
  selection = null;
  chosenPose = added.key;
  const who = whose(dancers(), added.dancer);
  commit(`holding a ${kindOf(added).toLowerCase()} at ${clock(place, true)}${who}`, { hold: ordered([...hold, added]) });
  tell("");
  announce(`${kindOf(added)} held at ${clock(place, true)}${who}. The next dance meets it.`);
  timeline.poses.querySelector(`[data-key="${added.key}"]`).focus();
}

function movePose(key, second, final) {
  const moved = { hold: changed(state().hold, key, { second }) };
  chosenPose = key;
  if (!final) {
    draft = { ...history.state, ...moved };
    return render();
  }
  draft = null;
  if (samePoses(moved.hold, history.state.hold)) return render();
  commit(`moving a pose to ${clock(second, true)}`, moved, key);
}

/** Let the other dancer meet it. */
function givePose(key, dancer) {
  const { hold, seconds } = state();
  const pose = hold.find((one) => one.key === key);
  const [name, at] = [dancers()[dancer], clock(pose.second, true)];
  if (placeFor(ofDancer(hold, dancer), pose.frames, pose.second, seconds) === null) {
    tell(`At ${at} the ${name} holds something already: move one of the two first.`);
    return render();
  }
  commit(`the ${kindOf(pose).toLowerCase()} at ${at}, ${name}`, { hold: changed(hold, key, { dancer }) });
  tell("");
  announce(`${capital(name)} meets it.`);
}

function dropPose(key) {
  chosenPose = null;
  commit("taking a pose away", { hold: without(state().hold, key) });
  announce("The pose is taken away.");
  find("hold").focus();
}

function changeGenre(genre) {
  commit(`${label(genre)} ${plan().length > 1 ? `from ${clock(plan()[active][1])}` : ""}`.trim(), { plan: withGenre(plan(), active, genre) });
  tell("");
}

function addChange(second) {
  const place = timeline.placeForChange(second);
  if (place === null) return;
  const index = spanAt(plan(), place);
  const current = label(plan()[index][0]);
  const next = Object.keys(song.heard ?? {}).find((genre) => genre !== current) ?? options.genres.find((genre) => genre !== current) ?? current;
  active = index + 1;
  commit(`a change at ${clock(place)}`, { plan: withChange(plan(), place, next) });
  announce(`${capital(next)} from ${clock(place)} on. Choose another dance beside the stage.`);
}

const actions = {
  select,
  seek: (second) => stage.seekTo(second),
  holdPose,
  movePose,
  givePose,
  dropPose,
  choosePose: (key) => {
    if (key === chosenPose) return;
    if (key) selection = null;
    chosenPose = key;
    render();
  },
  fail: (text) => tell(text),
  activate: (index) => { active = index; render(); },
  addChange,
  removeChange: (index = active) => {
    if (index === 0) return;
    const rest = withoutChange(plan(), index);
    active = index - 1;
    commit(`removing the change at ${clock(plan()[index][1])}`, { plan: rest });
    find("change").focus();
  },
  moveChange: (index, second, final) => {
    const changed = { plan: withStart(plan(), index, second) };
    active = index;
    if (final) return commit("moving a change", changed, `change ${index}`);
    draft = { ...history.state, ...changed };
    render();
  },
  excerpt: (start, seconds, final) => {
    const changed = { start: Math.round(start * 1000) / 1000, seconds: Math.round(seconds * 1000) / 1000 };
    if (!final) {
      draft = { ...history.state, ...changed };
      return render();
    }
    draft = null;
    if (changed.start === history.state.start && changed.seconds === history.state.seconds) return render();
    selection = null;
    // another piece of the song is another dance; Undo brings this one back
    commit("another piece of the song", { ...changed, take: null, locks: [], redone: [], met: [], hold: fitted(state().hold, state().seconds, changed.seconds), plan: state().plan?.filter(([, second]) => second < changed.seconds) ?? null }, "excerpt");
  },
  anew: danceAnew,
  lock: (range) => commit(`locking ${clock(range.start)} to ${clock(range.end)}, ${PARTS[range.part]}${whose(danced(), range.dancer)}`, { locks: withRange(state().locks, range) }),
  unlock: (range) => commit("unlocking", { locks: state().locks.filter((one) => !sameRange(one, range)) }),
  genre: changeGenre,
  closed: (loop) => commit(loop ? "ending where it begins" : "ending anywhere", { loop }),
  changed: () => song && render(),
  go: dance,
};

const timeline = new Timeline(actions);
const passage = new Passage(actions);
const poses = new Poses(actions);
const panel = new Panel(actions, choices);
const progress = new Progress(stage.view, cancel);
const compare = new Compare(stage, keep);
const chooser = new SongChooser(stage.view, arrive, (text) => tell(text));

stage.onTime = (time) => {
  if (!song) return;
  timeline.follow(time);
  if (stage.audio.paused || Math.floor(time) !== Math.floor(stage.second ?? -1)) renderChange();
  stage.second = time;
};
for (const [id, name] of [["undo", "undo"], ["redo", "redo"]]) {
  find(id).append(icon(name));
  find(id).onclick = () => {
    const step = id === "undo" ? history.undoes : history.redoes;
    history[id]();
    draft = null;
    render();
    announce(`${id === "undo" ? "Taken back" : "Done again"}: ${step}`);
  };
}
stage.loop.addEventListener("change", () => song && render());
find("change").onclick = () => addChange(stage.now());
find("select").onclick = selectHere;
find("another-song").onclick = () => find("song-file").click();
find("save").onclick = save;
askDownload(download);
openProjects(open, (text) => tell(text));
followTheme(() => stage.recolour());

stage.tell("");
stage.say("No dance yet.");
render();
try {
  options = await api.options();
  stage.genres = options.genres;
  panel.offer(options);
  chooser.limit(options.limits);
} catch (error) {
  tell(error.message);
}
window.megadanceReady = true;
