// What a rater sees. Native controls only: they have the keyboard and the screen reader for free.

const find = (id) => document.getElementById(id);
const STORE = "megadance-study";
let about, texts, secret = null, shown = null, sound = null;

// --- texts ---------------------------------------------------------------------------------------------------------

function text(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

// An element keeps the key of its text, so that the language can be changed at any time.
function put(element, key, values = {}) {
  element.dataset.text = key;
  element.dataset.values = JSON.stringify(values);
  element.textContent = text(key, values);
}

async function speak(language) {
  texts = await (await fetch(`/page/texts/${language}.json`)).json();
  document.documentElement.lang = language;
  document.title = about.title;
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text, JSON.parse(element.dataset.values ?? "{}"));
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
  }
}

function say(key, values) {
  key ? put(find("status"), key, values) : (delete find("status").dataset.text, find("status").textContent = "");
}

// --- screens -------------------------------------------------------------------------------------------------------

function show(name) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  find("personal").hidden = !secret || ["welcome", "message"].includes(name);
  say(null);
  const heading = document.querySelector(`#${name} h1`);
  heading.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function message(reason, again = false) {
  put(find("message_title"), `${reason}_title`);
  put(find("message_text"), reason);
  find("again").hidden = !again;
  show("message");
}

// --- the server ----------------------------------------------------------------------------------------------------

class Refused extends Error {}

// Asks until the server answers: every request can be repeated without harm. `full` is the server's own trouble.
async function ask(path, body) {
  const options = { method: "POST", headers: { authorization: `Bearer ${secret}` }, body: JSON.stringify(body ?? {}) };
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    let response = null, content = null;
    try {
      response = await fetch(path, options);
      content = await response.json();
    } catch { /* no network, or no server */ }
    if (content && response.ok) { say(null); return content; }
    if (content?.refused && response.status < 500) throw new Refused(content.refused);
    say(content?.refused === "full" ? "full" : "waiting");
    await new Promise((done) => setTimeout(done, wait));
  }
}

function refused(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.message === "unknown") forget();
  message(texts[`${error.message}_title`] ? error.message : "malformed", ["stale", "answered"].includes(error.message));
}

function remember() {
  try { localStorage.setItem(STORE, secret); } catch { /* private windows may have none */ }
  history.replaceState(null, "", `/r/${secret}`);
  find("link").href = find("link").textContent = location.href;
}

function forget() {
  try { localStorage.removeItem(STORE); } catch { /* as above */ }
  secret = null;
}

// --- joining ---------------------------------------------------------------------------------------------------------

find("joining").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target), button = event.target.querySelector("button");
  button.disabled = true;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  secret = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  try {
    await ask("/join", { consent: true, language: find("language").value, experience: form.get("experience") });
    remember();
    show("sound");
  } catch (error) {
    forget();
    refused(error);
  } finally {
    button.disabled = false;
  }
});

// --- sound -----------------------------------------------------------------------------------------------------------

let tones = null; // how many, and on which side the last one

find("tones").addEventListener("click", async () => {
  const context = new AudioContext();
  tones = { count: 2 + Math.floor(4 * Math.random()), side: Math.random() < 0.5 ? "left" : "right" };
  for (let index = 0; index < tones.count; index++) {
    const start = context.currentTime + 0.2 + 0.5 * index, last = index === tones.count - 1;
    const tone = new OscillatorNode(context, { frequency: 440 }), volume = new GainNode(context, { gain: 0 });
    volume.gain.setTargetAtTime(0.15, start, 0.01);
    volume.gain.setTargetAtTime(0, start + 0.25, 0.02);
    const pan = new StereoPannerNode(context, { pan: last ? (tones.side === "left" ? -1 : 1) : 0 });
    tone.connect(volume).connect(pan).connect(context.destination);
    tone.start(start);
    tone.stop(start + 0.45);
  }
  find("heard").disabled = find("side").disabled = false;
  setTimeout(() => context.close(), 500 * tones.count + 1000);
});

find("hearing").addEventListener("submit", async (event) => {
  event.preventDefault();
  say(null); // what was said to the last answer; and the same words again are read out again
  if (!tones) return say("sound_first");
  const form = new FormData(event.target);
  if (Number(form.get("count")) !== tones.count) return say("sound_wrong");
  sound = form.get("side") === tones.side ? "headphones" : "speakers";
  await following();
});

// --- trials ----------------------------------------------------------------------------------------------------------

async function following() {
  try {
    shown = await ask("/next");
  } catch (error) {
    return refused(error);
  }
  if (shown.state === "done") return show("done");
  if (shown.state === "closed") return message("closed");
  if (shown.practice && sound === null) return show("sound");
  for (const video of document.querySelectorAll("video")) URL.revokeObjectURL(video.src);
  shown.plays = shown.focus = 0;
  shown.watched = shown.clips.map(() => 0);
  shown.ended = shown.clips.map(() => null);
  if (shown.practice) put(find("heading"), "practice_title");
  else put(find("heading"), about.mode === "pairs" ? "pair_number" : "clip_number", { number: shown.number, total: shown.total });
  put(find("explained"), (shown.practice ? "practice" : "watch") + (about.mode === "pairs" ? "_pair" : ""));
  find("progress").value = Math.max(shown.number - 1, 0) / shown.total;
  find("clips").replaceChildren(...shown.clips.map((address, side) => clip(address, side)));
  find("questions").replaceChildren(...about.questions.map(question));
  enable();
  show("trial");
}

function clip(address, side) {
  const box = document.createElement("div"), video = document.createElement("video"), button = document.createElement("button");
  box.className = "clip";
  if (shown.clips.length > 1) {
    const heading = document.createElement("h2");
    put(heading, side ? "second" : "first");
    box.append(heading);
  }
  video.playsInline = true;
  video.disablePictureInPicture = true;
  video.dataset.label = "video";
  video.setAttribute("aria-label", text("video"));
  button.type = "button";
  button.className = "play";
  button.disabled = true;
  put(button, "loading");
  box.append(video, button);
  load(video, button, address);

  const current = shown;
  let last = 0, farthest = 0;
  video.addEventListener("timeupdate", () => {
    const step = video.currentTime - last;
    if (step > 0 && step < 1.5) current.watched[side] += step;
    last = video.currentTime;
    farthest = Math.max(farthest, last);
  });
  // media keys must not skip
  video.addEventListener("seeking", () => { if (video.currentTime > farthest + 0.5) video.currentTime = farthest; });
  video.addEventListener("play", () => {
    current.plays += video.currentTime < 0.1;
    for (const other of document.querySelectorAll("video")) if (other !== video) other.pause();
    put(button, "pause");
  });
  video.addEventListener("pause", () => put(button, current.ended[side] === null ? "play" : "play_again"));
  video.addEventListener("ended", () => {
    current.watched[side] = Math.min(Math.max(current.watched[side], 0) + Math.max(video.duration - last, 0), video.duration * 100);
    current.ended[side] = performance.now();
    last = 0;
    put(button, "play_again");
    if (current === shown) enable();
  });
  button.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  return box;
}

// The whole file first: playing never stops for the network.
async function load(video, button, address) {
  for (let wait = 500; video.isConnected || wait === 500; wait = Math.min(2 * wait, 8000)) {
    try {
      const response = await fetch(address);
      if (response.status === 404) return message("stale", true);
      if (response.ok) {
        video.src = URL.createObjectURL(await response.blob());
        put(button, "play");
        button.disabled = false;
        return;
      }
    } catch { /* again */ }
    await new Promise((done) => setTimeout(done, wait));
  }
}

function question(name) {
  const set = document.createElement("fieldset"), legend = document.createElement("legend"), what = document.createElement("p");
  const scale = document.createElement("div"), pair = about.mode === "pairs";
  put(legend, name);
  put(what, pair ? `${name}_pair` : `${name}_what`);
  scale.className = pair ? "scale pair" : "scale";
  const choices = pair ? [[1, "first"], [2, "second"]] : [5, 4, 3, 2, 1].map((value) => [value, `scale_${value}`]);
  for (const [value, key] of choices) {
    const label = document.createElement("label"), input = document.createElement("input"), word = document.createElement("span");
    Object.assign(input, { type: "radio", name, value, required: true });
    put(word, key);
    label.append(input, word);
    scale.append(label);
  }
  what.id = `${name}_note`;
  set.setAttribute("aria-describedby", what.id);
  set.append(legend, what, scale);
  return set;
}

// Answers count once every clip has been played to its end.
function enable() {
  const ready = shown.ended.every((when) => when !== null);
  for (const part of document.querySelectorAll("#questions fieldset, #rating > button")) part.disabled = !ready;
  find("trial").classList.toggle("ratings", about.mode === "ratings");
  if (ready) say("rate_now");
}

find("rating").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target), button = event.target.querySelector("button");
  button.disabled = true;
  const values = Object.fromEntries(about.questions.map((name) => [name, Number(form.get(name))]));
  const answer = {
    ticket: shown.ticket, values, plays: shown.plays, focus: shown.focus,
    played: Math.min(...shown.watched), seconds: (performance.now() - Math.max(...shown.ended)) / 1000,
  };
  if (shown.practice) answer.sound = sound ?? "speakers";
  try {
    await ask("/answer", answer);
  } catch (error) {
    if (error instanceof Refused && error.message === "early") {
      button.disabled = false;
      return say("early");
    }
    return refused(error);
  }
  await following();
});

addEventListener("blur", () => { if (shown?.ticket && !find("trial").hidden) shown.focus++; });

// --- leaving ---------------------------------------------------------------------------------------------------------

find("withdraw").addEventListener("click", () => find("sure").showModal());
find("sure").addEventListener("close", async () => {
  if (find("sure").returnValue !== "yes") return;
  find("sure").returnValue = "";
  try {
    await ask("/withdraw");
  } catch (error) {
    return refused(error);
  }
  forget();
  history.replaceState(null, "", "/");
  for (const video of document.querySelectorAll("video")) video.pause();
  message("withdrawn");
});
find("again").addEventListener("click", following);

// --- the beginning ---------------------------------------------------------------------------------------------------

async function begin() {
  about = await (await fetch("/about")).json();
  const wanted = [new URLSearchParams(location.search).get("lang"), ...navigator.languages.map((name) => name.slice(0, 2))];
  const select = find("language");
  for (const name of about.languages) {
    const label = new Intl.DisplayNames([name], { type: "language" }).of(name);
    select.append(new Option(label, name));
  }
  select.value = wanted.find((name) => about.languages.includes(name)) ?? about.languages[0];
  select.addEventListener("change", () => speak(select.value));
  await speak(select.value);
  find("title").textContent = about.title;
  find("contact").textContent = about.contact;
  put(document.querySelector("[data-text=how_long]"), "how_long", {
    trials: about.trials, minutes: Math.ceil((about.trials * (about.seconds * (about.mode === "pairs" ? 2 : 1) + 15)) / 60),
  });
  secret = location.pathname.match(/^\/r\/([0-9a-f]{32})$/)?.[1] ?? null;
  if (!secret && location.pathname === "/") try { secret = localStorage.getItem(STORE); } catch { /* as above */ }
  if (location.pathname !== "/" && !secret) return message("unknown");
  if (!secret) return about.refuses ? message(about.refuses) : show("welcome");
  remember();
  await following();
}

begin();
