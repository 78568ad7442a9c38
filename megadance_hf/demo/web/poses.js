// Poses and clips that the dance is to meet: {key, second, poses, frames, name, dancer}, in their order. `poses` is text that only the server reads.

import { takePose, uploadPose } from "./api.js";
import { DancerChoice } from "./dancers.js";
import { clock, find, icon, make } from "./dom.js";

const FPS = 30; // of the model
const APART = 8 / FPS; // seconds from the last frame of one to the first of the next: a code of the model's
let made = 0;

const lasts = (pose) => (pose.frames - 1) / FPS; // seconds from its first to its last frame
const toFrame = (second) => Math.round(second * FPS) / FPS;
export const kindOf = (pose) => (pose.frames > 1 ? "Clip" : "Pose");

/** With a key that no other has. */
export const withKeys = (poses) => poses.map((pose) => ({ ...pose, frames: pose.frames ?? framesOf(pose.poses), dancer: pose.dancer ?? 0, key: `pose ${++made}` }));
const framesOf = (text) => Math.round((text.length * 3) / 4 / 288);

/** As the server gets them. */
export const plain = (poses) => poses.map(({ second, poses: text, name, dancer }) => ({ second, poses: text, name, dancer }));
const sameOne = (one, other) => one.dancer === other.dancer && Math.abs(one.second - other.second) < 0.5 / FPS && one.poses === other.poses;
export const samePoses = (one, other) => one.length === other.length && one.every((pose, index) => sameOne(pose, other[index]));
export const isMet = (pose, met) => met.some((other) => sameOne(pose, other));

export const ordered = (poses) => [...poses].sort((one, other) => one.second - other.second || one.dancer - other.dancer);
/** Those that one of the dancers meets. */
export const ofDancer = (poses, dancer) => poses.filter((pose) => pose.dancer === dancer);
export const without = (poses, key) => poses.filter((pose) => pose.key !== key);
/** With other properties of one of them. */
export const changed = (poses, key, properties) => ordered(poses.map((pose) => (pose.key === key ? { ...pose, ...properties } : pose)));

/** Those that a dance of another length can have; what was held at the end is held at the new one. */
export function fitted(poses, before, after) {
  const last = (pose, seconds) => Math.max(toFrame(seconds - (lasts(pose) + 1 / FPS)), 0);
  const moved = poses.map((pose) => (pose.second >= last(pose, before) - 0.05 ? { ...pose, second: last(pose, after) } : pose));
  const free = (pose, before) => !before || pose.second >= before.second + lasts(before) + APART;
  return moved.filter((pose, index) => pose.second <= last(pose, after) && free(pose, ofDancer(moved.slice(0, index), pose.dancer).at(-1)));
}

/** Between which seconds something can be moved, so that it stays apart from what else its dancer meets. */
export function room(poses, key, seconds) {
  const pose = poses.find((one) => one.key === key);
  const own = ofDancer(poses, pose.dancer), index = own.indexOf(pose);
  const [before, after] = [own[index - 1], own[index + 1]];
  const end = after ? after.second - APART : seconds - 1 / FPS;
  return [before ? before.second + lasts(before) + APART : 0, Math.max(end - lasts(pose), 0)];
}

/** Where something new can begin beside what its dancer meets already, as near to a second as possible; null if there it would meet another one. */
export function placeFor(poses, frames, second, seconds) {
  const length = (frames - 1) / FPS;
  const start = toFrame(Math.min(Math.max(second, 0), Math.max(seconds - frames / FPS, 0)));
  const free = poses.every((pose) => start > pose.second + lasts(pose) + APART - 1e-3 || start + length < pose.second - APART + 1e-3);
  return free && start + length <= seconds ? start : null;
}

/** The bar below the timeline for what is chosen there, and the two buttons that hold something new. */
export class Poses {
  /** `actions`: holdPose(pose, where) for something new; movePose(key, second, final), givePose(key, dancer), dropPose(key), choosePose(key or null); fail(text). */
  constructor(actions) {
    this.actions = actions;
    this.box = find("pose");
    this.text = make("p");
    const button = (text, onclick) => make("button", { type: "button", className: "quiet", textContent: text, onclick });
    this.first = button("At the beginning", () => actions.movePose(this.chosen.key, 0, true));
    this.last = button("At the end", () => actions.movePose(this.chosen.key, this.end, true));
    const drop = button("Take away", () => actions.dropPose(this.chosen.key));
    const close = make("button", { type: "button", className: "quiet icon", title: "Deselect", aria: { label: "Deselect" }, onclick: () => { actions.choosePose(null); find("hold").focus(); } }, icon("close"));
    this.dancers = new DancerChoice("pose-dancer", "Who meets it", (dancer) => actions.givePose(this.chosen.key, dancer));
    this.box.append(this.text, this.dancers.element, this.first, this.last, drop, close);
    find("hold").append(icon("figure"), "Hold this pose here");
    find("hold-file").append(icon("file"));
    find("hold").onclick = () => this.fromDance();
    find("hold-file").onclick = () => find("pose-file").click();
    find("pose-file").onchange = (event) => {
      const [file] = event.target.files;
      event.target.value = ""; // the same file may be chosen again
      if (file) this.fetch(() => uploadPose(file.name, file));
    };
  }

  async fromDance() {
    const { take, dancer, now } = this.model;
    const second = now();
    await this.fetch(() => takePose(take.id, second, dancer()), second);
  }

  async fetch(ask, second = this.model.now()) {
    const { dancers, dancer } = this.model;
    const who = dancers.length > 1 ? dancer() : 0;
    try {
      this.actions.holdPose({ ...(await ask()), dancer: who }, second);
    } catch (error) {
      this.actions.fail(error.message);
    }
  }

  /** `model`: hold, met, chosenPose, take, dancers, seconds, busy; now(), dancer(): the second that is heard, and whose pose is meant. */
  render(model) {
    this.model = model;
    const { hold, chosenPose, take, dancers, seconds, busy } = model;
    this.chosen = hold.find((pose) => pose.key === chosenPose) ?? null;
    this.box.hidden = !this.chosen;
    find("hold").disabled = !take || busy;
    const who = dancers.length > 1 ? "The dancer who is shown alone, or else the first one," : "The next dance";
    find("hold").title = take ? `${who} meets the pose that is on the stage now` : "Make a dance first";
    find("hold-file").disabled = busy;
    if (!this.chosen) return;
    const [low, high] = room(hold, chosenPose, seconds);
    this.end = toFrame(seconds - this.chosen.frames / FPS);
    const { second, name, dancer } = this.chosen;
    this.dancers.render(dancers, dancer);
    this.text.textContent = `${kindOf(this.chosen)} at ${clock(second, true)}`;
    this.text.title = name;
    this.first.disabled = low > 0 || second === 0;
    this.last.disabled = this.end > high + 1 / FPS || Math.abs(second - this.end) < 0.5 / FPS;
  }
}
