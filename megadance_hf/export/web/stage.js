// The stage of the web page: dancers in 3D, side by side, who follow the clock of the song, with controls and curves.
//
//   const stage = new Stage(element);
//   stage.show({song, seconds, beats, dances: [{genre, glb, heading, speed, genres}]});
//
// Beats, speed and genres are for the curves and optional. `offset` says at which second of the sound the dances begin, 0 without it.
// A dance's `loop` says that it ends where it begins; its `caption` (or `labels`: [text, from this second on] in order) stands below it
// instead of its genre. Notebooks (../notebook.py) use the stage as one script.
//
// The audio is the only clock. Every animation frame reads audio.currentTime and poses the dancers for exactly that time; nothing
// counts frames or seconds, so playing, pausing, seeking, other speeds and dropped frames cannot break the synchrony.
//
// Colours are the style sheet's: `recolour()` reads them again.

import {
  AnimationMixer, CanvasTexture, Color, DirectionalLight, Fog, GLTFLoader, Group, HemisphereLight, Mesh, MeshBasicMaterial,
  MeshLambertMaterial, OrbitControls, PerspectiveCamera, PlaneGeometry, RepeatWrapping, Scene, SRGBColorSpace, Vector3,
  WebGLRenderer,
} from "./three.js";

const FIELD_OF_VIEW = 30; // degrees
const EYE_PITCH = 0.12; // radians above the horizon
const AIM = 1.0; // metres: the height that the camera looks at
const BODY = { height: 2.44, width: 2.0, beside: 1.6 }; // metres that must be visible: a dancer with raised hands; the width of one, of several
const FLOOR = { width: 80, clear: 1.2, gone: 9 }; // metres; from the dancer to where the floor begins to fade, and has faded
const FOLLOW_SECONDS = 0.8; // time constant with which the view follows the dancer
const SHADOWS = { pelvis: 0.46, left_foot: 0.17, right_foot: 0.17 }; // joint: radius in metres
const SOLE = 0.028; // metres: height of a foot joint that stands
const TOUCH = 0.1; // metres: the shadow of a foot fades as the foot is lifted so high
const SLOW_FRAME = 26; // milliseconds; frames that take longer are drawn with fewer pixels
const FEWEST_PIXELS = 0.4; // smallest resolution, as a share of the screen's
const LATEST = 1e-3; // seconds before the end of a dance: at the very end, a looping animation is back at its beginning
const HUES = [207, 10, 131, 279, 41, 178]; // of the first genres
const MOST_GENRES = 5; // in one plot

const MARKUP = `
  <div class="view" tabindex="0" role="group" aria-roledescription="3D view">
    <canvas></canvas><div class="captions"></div>
    <p class="hint">Make a dance, and it is shown here.</p>
  </div>
  <div class="controls" role="group" aria-label="Playing" inert>
    <button type="button" class="play">Play</button>
    <input class="seek" type="range" min="0" max="1" step="0.01" value="0" aria-label="Position in the song">
    <output class="clock">0:00 / 0:00</output>
    <label>Speed <select class="speed">
      <option value="0.25">¼</option><option value="0.5">½</option><option value="0.75">¾</option>
      <option value="1" selected>1</option><option value="1.5">1½</option><option value="2">2</option>
    </select></label>
    <label><input class="loop" type="checkbox"> Loop</label>
    <label class="loudness">Volume <input class="volume" type="range" min="0" max="1" step="0.05" value="1"></label>
    <button type="button" class="front">Front</button>
  </div>
  <div class="curves"></div>
  <audio preload="auto"></audio>`;

const minutes = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** The colour of genre number `index`; as light as the style sheet's `--genre-lightness`, or as given. */
export function genreColour(index, lightness = "var(--genre-lightness, 33%)") {
  return `hsl(${HUES[index] ?? Math.round((index * 137.5) % 360)} 52% ${lightness})`;
}

/** A picture for a texture, drawn by `draw(context, size)`. */
function texture(size, draw) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  draw(canvas.getContext("2d"), size);
  const made = new CanvasTexture(canvas);
  made.colorSpace = SRGBColorSpace;
  return made;
}

function tiles(light, dark) {
  const made = texture(128, (draw, size) => {
    draw.fillStyle = light;
    draw.fillRect(0, 0, size, size);
    draw.fillStyle = dark;
    draw.fillRect(0, 0, size / 2, size / 2);
    draw.fillRect(size / 2, size / 2, size / 2, size / 2);
  });
  made.wrapS = made.wrapT = RepeatWrapping;
  made.repeat.set(60, 60); // one texture, two by two tiles, per metre
  made.anisotropy = 4;
  return made;
}

function shade() {
  return texture(64, (draw, size) => {
    const fade = draw.createRadialGradient(size / 2, size / 2, 0, size / 2, size / 2, size / 2);
    fade.addColorStop(0, "rgba(20,26,36,.55)");
    fade.addColorStop(1, "rgba(20,26,36,0)");
    draw.fillStyle = fade;
    draw.fillRect(0, 0, size, size);
  });
}

/** What hides the floor far from the dancer: nothing in the middle, the backdrop at the rim. */
function haze(backdrop) {
  const [red, green, blue] = backdrop.match(/\d+/g);
  return texture(512, (draw, size) => {
    const [middle, metre] = [size / 2, size / FLOOR.width];
    const fade = draw.createRadialGradient(middle, middle, FLOOR.clear * metre, middle, middle, FLOOR.gone * metre);
    for (let step = 0; step <= 16; step++) {
      const opacity = Math.sin((step / 32) * Math.PI) ** 1.5;
      fade.addColorStop(step / 16, `rgba(${red},${green},${blue},${opacity})`);
    }
    draw.fillStyle = fade;
    draw.fillRect(0, 0, size, size);
  });
}

/** One dancer on its own floor. */
class Dancer {
  constructor(gltf, dance, floor, shadow) {
    this.genre = dance.genre;
    this.figure = gltf.scene;
    this.figure.traverse((node) => {
      if (!node.isMesh) return;
      node.frustumCulled = false; // the bounds are those of the rest pose, not of the current one
      node.material = new MeshLambertMaterial({ vertexColors: true });
    });
    const [clip] = gltf.animations;
    this.seconds = clip.duration;
    this.mixer = new AnimationMixer(this.figure);
    this.mixer.clipAction(clip).play();
    this.path = smoothPath(clip.tracks.find((track) => track.name.endsWith(".position")), dance.loop);
    this.shadows = Object.entries(SHADOWS).map(([joint, radius]) => {
      const blot = new Mesh(new PlaneGeometry(2 * radius, 2 * radius), shadow.clone());
      blot.rotation.x = -Math.PI / 2;
      blot.position.y = 0.004;
      return { joint: this.figure.getObjectByName(joint), blot, touches: joint.endsWith("foot") };
    });
    this.room = new Group(); // rotated and moved so that the camera always looks at the dancer, from the front at the beginning
    this.room.rotation.y = -dance.heading;
    this.room.add(this.figure, floor, ...this.shadows.map((one) => one.blot));
    this.where = new Vector3();
  }

  /** Take the pose at a time in seconds. */
  pose(time) {
    this.mixer.setTime(Math.min(Math.max(time, 0), this.seconds - LATEST));
    const [x, z] = this.path(time);
    this.room.position.set(-x, 0, -z).applyAxisAngle(new Vector3(0, 1, 0), this.room.rotation.y);
    this.room.updateMatrixWorld(true);
    for (const { joint, blot, touches } of this.shadows) {
      joint.getWorldPosition(this.where);
      this.room.worldToLocal(this.where);
      blot.position.x = this.where.x;
      blot.position.z = this.where.z;
      if (touches) blot.material.opacity = Math.exp(-Math.max(this.where.y - SOLE, 0) / TOUCH);
    }
  }
}

/** Where the camera looks, as a function of time alone: the same after seeking as after playing; at the end of a loop where it begins. */
function smoothPath(track, loop = false) {
  const count = track.times.length;
  const span = count > 1 ? track.times[count - 1] / (count - 1) : 1;
  const reach = Math.max(1, Math.round(FOLLOW_SECONDS / span / 2));
  const smooth = (values) => {
    if (loop && count > 2 * reach) { // its last frame is its first one
      const turns = [...values.slice(0, -1), ...values.slice(0, -1), ...values];
      return mean(turns).slice(count - 1, 2 * count - 1);
    }
    return mean(values);
  };
  const mean = (values) => {
    const sums = [0];
    for (const value of values) sums.push(sums[sums.length - 1] + value);
    return values.map((_, i) => {
      const [first, last] = [Math.max(0, i - reach), Math.min(values.length, i + reach + 1)];
      return (sums[last] - sums[first]) / (last - first);
    });
  };
  const column = (offset) => smooth(smooth(Array.from({ length: count }, (_, i) => track.values[3 * i + offset])));
  const [xs, zs] = [column(0), column(2)];
  return (time) => {
    const place = Math.min(Math.max(time / span, 0), count - 1);
    const [first, share] = [Math.floor(place), place % 1];
    const next = Math.min(first + 1, count - 1);
    return [xs[first] + share * (xs[next] - xs[first]), zs[first] + share * (zs[next] - zs[first])];
  };
}

export class Stage {
  constructor(element) {
    this.element = element;
    element.classList.add("megadance-stage");
    element.innerHTML = MARKUP;
    const find = (name) => element.querySelector(name);
    for (const name of ["view", "captions", "hint", "controls", "play", "seek", "clock", "speed", "loop", "volume", "front"])
      this[name] = find(`.${name}`);
    this.audio = find("audio");
    this.canvas = find("canvas");
    this.curves = find(".curves");
    this.dancers = [];
    this.showing = 0; // counts the calls of show(): what an earlier call has loaded is dropped
    // Resolution as a share of the screen's. A machine without a graphics card begins with a low one.
    const probe = document.createElement("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: true });
    probe?.getExtension("WEBGL_lose_context")?.loseContext();
    this.sharpness = probe ? Math.min(window.devicePixelRatio || 1, 2) : 0.6;
    this.smooth = Boolean(probe) && this.sharpness < 2;
    this.genres = []; // in the order of their colours
    this.offset = 0; // the second of the sound at which the dances begin
    this.seconds = 0; // how long they last
    this.passage = null; // [from, to] in seconds of the dance: playing stays in it
    this.solo = null; // number of the only dancer to be seen
    this.frame = this.frame.bind(this);
    this.say("No dance yet.");
    try {
      this.prepareScene();
    } catch (error) {
      this.tell("This browser cannot show 3D (WebGL is off or missing). The downloads below still work.");
      console.error(error);
    }
    this.listen();
    requestAnimationFrame(this.frame);
  }

  prepareScene() {
    this.renderer = new WebGLRenderer({ canvas: this.canvas, antialias: this.smooth, powerPreference: "low-power" });
    this.renderer.setScissorTest(true);
    this.scene = new Scene();
    this.scene.background = new Color();
    this.scene.fog = new Fog("#000", 12, 30);
    const lamp = new DirectionalLight("#fff4e6", 2.3);
    lamp.position.set(-1.6, 3.4, 2.6);
    const behind = new DirectionalLight("#cfe0f5", 0.8);
    behind.position.set(1.8, 2.2, -2.6);
    this.hazeMaterial = new MeshBasicMaterial({ transparent: true, depthWrite: false, fog: false });
    const rim = new Mesh(new PlaneGeometry(FLOOR.width, FLOOR.width), this.hazeMaterial);
    rim.rotation.x = -Math.PI / 2;
    rim.position.y = 0.002;
    this.floorMaterial = new MeshBasicMaterial();
    this.floor = this.makeFloor(); // while nobody dances
    this.scene.add(new HemisphereLight("#eef3fa", "#6f7683", 1.25), lamp, behind, rim, this.floor);
    this.shadowMaterial = new MeshBasicMaterial({ map: shade(), transparent: true, depthWrite: false });
    this.camera = new PerspectiveCamera(FIELD_OF_VIEW, 1, 0.1, 60);
    this.orbit = new OrbitControls(this.camera, this.canvas);
    this.orbit.target.set(0, AIM, 0);
    this.orbit.enablePan = false;
    this.canvas.style.touchAction = "pan-y"; // swiping up or down scrolls the page, as everywhere else on it
    this.orbit.maxPolarAngle = Math.PI / 2 - 0.02; // not from below the floor
    this.orbit.addEventListener("change", () => (this.stale = true));
    this.zoom = 1;
    this.orbit.addEventListener("end", () => (this.zoom = this.camera.position.distanceTo(this.orbit.target) / this.fitting));
    new ResizeObserver(() => this.resize()).observe(this.view);
    this.recolour();
    this.resize();
    this.lookFromFront();
  }

  makeFloor() {
    const floor = new Mesh(new PlaneGeometry(60, 60), this.floorMaterial);
    floor.rotation.x = -Math.PI / 2;
    return floor;
  }

  /** Take the colours of the scene from the style sheet. */
  recolour() {
    if (!this.renderer) return;
    const style = getComputedStyle(this.view);
    this.scene.background.setStyle(style.backgroundColor);
    this.scene.fog.color.copy(this.scene.background);
    for (const [material, map] of [
      [this.hazeMaterial, haze(style.backgroundColor)],
      [this.floorMaterial, tiles(style.getPropertyValue("--tile-light"), style.getPropertyValue("--tile-dark"))],
    ]) {
      material.map?.dispose();
      material.map = map;
      material.needsUpdate = true;
    }
    this.stale = true;
  }

  listen() {
    const { audio } = this;
    this.play.onclick = () => this.toggle();
    for (const event of ["play", "pause", "ended"]) {
      audio.addEventListener(event, () => (this.play.textContent = audio.paused ? "Play" : "Pause"));
    }
    audio.addEventListener("timeupdate", () => this.turnBack()); // also while the page is hidden
    audio.addEventListener("ended", () => this.turnBack());
    audio.addEventListener("error", () => {
      if (audio.getAttribute("src")) this.tell("The sound of this dance could not be loaded. Choose the song again.");
    });
    this.seek.oninput = () => this.seekTo(Number(this.seek.value));
    this.speed.onchange = () => (audio.defaultPlaybackRate = audio.playbackRate = Number(this.speed.value));
    this.volume.oninput = () => (audio.volume = Number(this.volume.value));
    this.front.onclick = () => this.lookFromFront();
    this.view.addEventListener("keydown", (event) => this.press(event));
  }

  /** Keys of the 3D view. */
  press(event) {
    if (!this.dancers.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const turn = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (turn) this.turn(...turn);
    else if (event.key === "+" || event.key === "=") this.turn(0, 0, 0.9);
    else if (event.key === "-") this.turn(0, 0, 1 / 0.9);
    else if (event.key === "0" || event.key === "Home") this.lookFromFront();
    else if (event.key === " ") this.toggle();
    else if (event.key === "," || event.key === ".") this.seekTo(this.now() + (event.key === "," ? -1 : 1));
    else return;
    event.preventDefault();
  }

  /** Rotate the camera around the dancer by an angle in radians, and multiply its distance. */
  turn(sideways, down, back = 1) {
    const away = this.camera.position.clone().sub(this.orbit.target);
    const pitch = Math.min(Math.max(Math.acos(away.y / away.length()) + down, 0.1), this.orbit.maxPolarAngle);
    const heading = Math.atan2(away.x, away.z) + sideways;
    this.zoom = Math.min(Math.max(this.zoom * back, 0.3), 4);
    this.place(heading, pitch);
  }

  lookFromFront() {
    this.zoom = 1;
    if (this.camera) this.place(0, Math.PI / 2 - EYE_PITCH);
  }

  place(heading, pitch) {
    const away = new Vector3().setFromSphericalCoords(this.fitting * this.zoom, pitch, heading);
    this.camera.position.copy(this.orbit.target).add(away);
    this.orbit.update();
    this.stale = true;
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.view;
    if (!width || !height) return;
    this.renderer.setPixelRatio(this.sharpness);
    this.renderer.setSize(width, height, false);
    const count = this.seen().length;
    this.camera.aspect = width / Math.max(count, 1) / height;
    this.camera.updateProjectionMatrix();
    const half = Math.tan((FIELD_OF_VIEW * Math.PI) / 360);
    this.fitting = Math.max(BODY.height, (count > 1 ? BODY.beside : BODY.width) / this.camera.aspect) / 2 / half;
    const away = this.camera.position.clone().sub(this.orbit.target);
    if (away.length() > 0) this.camera.position.copy(this.orbit.target).add(away.setLength(this.fitting * this.zoom));
    this.stale = true;
  }

  /**
   * Show dances, or with an empty list only play the song. Resolves when everything is loaded; an error is shown in the view.
   * With `keep`, clock and camera stay as they are, and what was to be seen until the new dances are there.
   */
  async show(show, { keep = false } = {}) {
    const number = ++this.showing;
    if (!keep) {
      this.audio.pause();
      this.controls.inert = true;
      if (show.dances.length) this.tell("Loading the dance …");
    }
    let loaded;
    try {
      const loader = new GLTFLoader();
      loaded = this.renderer ? await Promise.all(show.dances.map((dance) => loader.loadAsync(dance.glb))) : [];
      if (this.audio.src !== new URL(show.song, document.baseURI).href) await this.load(show.song);
    } catch (error) {
      if (number === this.showing && !keep) this.tell("The dance could not be loaded. Is the connection still there? Make it again.");
      console.error(error);
      return;
    }
    if (number !== this.showing) return;
    this.clear();
    this.dancers = loaded.map((gltf, index) => new Dancer(gltf, show.dances[index], this.makeFloor(), this.shadowMaterial));
    for (const dancer of this.dancers) this.scene.add(dancer.room);
    if (this.floor) this.floor.visible = !this.dancers.length;
    this.solo = this.solo < this.dancers.length ? this.solo : null;
    this.shown = show;
    this.controls.inert = false;
    this.playFrom(show.offset ?? 0, show.seconds, keep);
    this.caption();
    if (this.renderer) {
      this.tell("");
      this.resize();
      if (!keep) this.lookFromFront();
      if (!keep && show.dances.length) this.comeIntoView();
    }
    const names = show.dances.map((dance) => dance.caption ?? dance.genre).join(" and ") || "No dance yet";
    this.say(`${names}. Arrow keys turn the view, plus and minus zoom, 0 is the front, space plays and pauses, comma and full stop jump a second.`);
    this.heads = [];
    this.curves.replaceChildren();
    if (show.dances.some((dance) => dance.speed)) this.drawCurves(show);
  }

  /** Which piece of the sound is played. */
  playFrom(offset, seconds, keep = true) {
    const now = this.now();
    [this.offset, this.seconds] = [offset, seconds];
    this.seek.max = seconds;
    if (!keep || now < 0 || now > seconds) this.seekTo(0);
    this.time = null;
  }

  /** The names below the dancers; with several, a button each that shows this one alone, or all again. */
  caption() {
    const { dances } = this.shown;
    this.captions.replaceChildren(
      ...dances.map((dance, index) => {
        const name = document.createElement(dances.length > 1 ? "button" : "span");
        name.textContent = dance.caption ?? dance.labels?.[0][0] ?? dance.genre;
        if (dances.length > 1) {
          name.type = "button";
          name.title = "Show alone, or beside the others";
          name.onclick = () => this.showAlone(this.solo === index ? null : index);
          name.setAttribute("aria-pressed", String(this.solo === index));
        }
        return name;
      }),
    );
  }

  /** Show one of several dancers alone, or all when null. */
  showAlone(index) {
    this.solo = index;
    [...this.captions.children].forEach((name, other) => name.setAttribute("aria-pressed", String(other === index)));
    this.resize();
  }

  seen() {
    return this.solo === null ? this.dancers : [this.dancers[this.solo]];
  }

  /** Scroll to the stage: on a narrow screen it is far below the button that was pressed. */
  comeIntoView() {
    const { top, bottom } = this.view.getBoundingClientRect();
    if (top >= 0 && bottom <= window.innerHeight) return;
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.view.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
  }

  /** Load the audio until its length is known. */
  load(address) {
    const { audio } = this;
    return new Promise((resolve, reject) => {
      audio.addEventListener("loadedmetadata", resolve, { once: true }); // phones load no more before Play is pressed
      audio.addEventListener("error", () => reject(audio.error), { once: true });
      audio.src = address;
      audio.load();
      audio.playbackRate = audio.defaultPlaybackRate = Number(this.speed.value);
    });
  }

  clear() {
    for (const { room, figure, mixer, shadows } of this.dancers) {
      mixer.stopAllAction();
      room.removeFromParent();
      for (const { blot } of shadows) {
        blot.geometry.dispose();
        blot.material.dispose();
      }
      figure.traverse((node) => {
        node.geometry?.dispose();
        node.material?.dispose();
        node.skeleton?.dispose();
      });
    }
    this.dancers = [];
  }

  async toggle() {
    if (!this.audio.paused) return this.audio.pause();
    const [from, to] = this.passage ?? [0, this.seconds];
    if (this.now() >= to - LATEST || this.now() < from) this.seekTo(from);
    try {
      await this.audio.play();
    } catch (error) {
      if (error.name !== "AbortError") this.tell("The browser does not let the sound play. Press Play once more.");
    }
  }

  /** The second of the dance that is heard. */
  now() {
    return this.audio.currentTime - this.offset;
  }

  seekTo(time) {
    this.audio.currentTime = this.offset + Math.min(Math.max(time, 0), this.seconds);
  }

  /** At the end of the dance, or of the passage, begin it again or stop. */
  turnBack() {
    const [from, to] = this.passage ?? [0, this.seconds];
    const ended = this.audio.ended;
    if ((this.audio.paused && !ended) || this.audio.seeking || (this.now() < to && !ended)) return;
    if (!this.passage && !this.loop.checked) {
      this.audio.pause();
      return this.seekTo(this.seconds);
    }
    this.seekTo(from);
    if (ended) this.toggle();
  }

  /** A message in the middle of the view; without one it is removed. */
  tell(text) {
    this.hint.textContent = text;
    this.hint.hidden = !text;
  }

  /** The name of the view for screen readers. */
  say(text) {
    this.view.setAttribute("aria-label", `The dancers in 3D. ${text}`);
  }

  frame(now) {
    if (!this.element.isConnected) return this.dispose();
    requestAnimationFrame(this.frame);
    this.turnBack();
    const time = this.now();
    if (time !== this.time || this.stale) this.draw(time);
    if (time !== this.time && this.shown) this.tick(time);
    this.time = time;
    this.keepUp(now);
  }

  /** Update slider, clock and curves, with as few changes to the page as possible: layout takes longer than drawing a dancer. */
  tick(time) {
    if (Math.abs(time - this.seek.value) > 0.1) this.seek.value = time;
    const clock = `${minutes(Math.max(time, 0))} / ${minutes(this.seconds)}`;
    if (clock !== this.clock.value) {
      this.clock.value = clock;
      this.seek.setAttribute("aria-valuetext", clock.replace(" / ", " of "));
    }
    for (const head of this.heads) head.style.transform = `translateX(${(100 * time) / this.seconds}%)`;
    this.shown.dances.forEach(({ labels }, index) => {
      if (!labels || labels.length < 2) return;
      const [text] = labels.findLast(([, from]) => from <= time + LATEST) ?? labels[0];
      if (this.captions.children[index].textContent !== text) this.captions.children[index].textContent = text;
    });
    this.onTime?.(time);
  }

  draw(time) {
    this.stale = false;
    if (!this.renderer || !this.fitting) return;
    const seen = this.seen();
    const count = Math.max(seen.length, 1);
    const { clientWidth: width, clientHeight: height } = this.view;
    for (const dancer of seen) dancer.pose(time);
    for (let index = 0; index < count; index++) {
      for (const dancer of this.dancers) dancer.room.visible = dancer === seen[index];
      const left = Math.round((index * width) / count);
      const right = Math.round(((index + 1) * width) / count);
      this.renderer.setViewport(left, 0, right - left, height);
      this.renderer.setScissor(left, 0, right - left - (index + 1 < count ? 2 : 0), height);
      this.renderer.render(this.scene, this.camera);
    }
  }

  /** Lower the resolution while the machine is too slow. */
  keepUp(now) {
    const took = now - this.before;
    this.before = now;
    if (this.audio.paused || !(took < 500)) return;
    this.pace = 0.9 * (this.pace ?? 16) + 0.1 * took;
    if (this.pace < SLOW_FRAME || this.sharpness <= FEWEST_PIXELS) return;
    this.sharpness = Math.max(this.sharpness * 0.8, FEWEST_PIXELS);
    this.pace = 16;
    this.resize();
  }

  dispose() {
    this.audio.pause();
    this.clear();
    this.orbit?.dispose();
    this.renderer?.dispose();
  }

  // --- curves --------------------------------------------------------------------------------------------------------

  drawCurves(show) {
    const genres = [...new Set([...this.genres, ...show.dances.flatMap((dance) => Object.keys(dance.genres ?? {}))])];
    const colour = (genre) => genreColour(Math.max(genres.indexOf(genre), 0));
    const panels = [];
    const fastest = Math.max(0.1, ...show.dances.flatMap((dance) => dance.speed));
    panels.push(
      panel(show, {
        title: `How fast the ${show.dances.length > 1 ? "dancers move" : "dancer moves"}, with the beats of the song`,
        ticks: show.beats,
        lines: show.dances.map((dance) => ({
          values: dance.speed.map((value) => value / fastest),
          colour: show.dances.length > 1 ? colour(dance.genre) : "currentColor",
          name: `${show.dances.length > 1 ? `${dance.genre}, ` : ""}${dance.meanSpeed.toFixed(2)} m/s on average`,
        })),
      }),
    );
    for (const dance of show.dances) {
      const share = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
      const likeliest = Object.entries(dance.genres ?? {}).sort((one, other) => share(other[1]) - share(one[1])).slice(0, MOST_GENRES).filter(([, values], rank) => rank < 2 || share(values) > 0.005);
      if (likeliest.length < 2) continue;
      panels.push(
        panel(show, {
          title: `Which dance the model takes the steps for${show.dances.length > 1 ? `: the ${dance.genre}` : ""}`,
          lines: likeliest.map(([genre, values]) => ({
            values,
            colour: colour(genre),
            name: `${genre} (${Math.round(100 * share(values))} %)`,
          })),
        }),
      );
    }
    this.curves.replaceChildren(...panels);
    this.heads = [...this.curves.querySelectorAll(".head")];
    for (const plot of this.curves.querySelectorAll(".plot")) {
      const seek = (event) => {
        const { left, width } = plot.getBoundingClientRect();
        this.seekTo((this.seconds * (event.clientX - left)) / width);
      };
      plot.onpointerdown = (event) => {
        plot.setPointerCapture(event.pointerId);
        seek(event);
      };
      plot.onpointermove = (event) => event.buttons && seek(event);
    }
  }
}

/** A plot of lines over the time of the song, with a title and a legend; values are from 0 to 1. */
function panel(show, { title, lines, ticks = [] }) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  const plot = document.createElement("div");
  plot.className = "plot";
  const marks = ticks.map((time) => `M${((1000 * time) / show.seconds).toFixed(1)} 0V100`).join("");
  plot.innerHTML = `<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
    <path class="ticks" d="${marks}"/>${"<path/>".repeat(lines.length)}</svg><div class="head"></div>`;
  lines.forEach(({ values, colour }, index) => {
    const points = values.map((value, i) => `${((1000 * i) / (values.length - 1 || 1)).toFixed(1)} ${(97 - 94 * value).toFixed(1)}`);
    const path = plot.querySelectorAll("path")[index + 1];
    path.setAttribute("d", `M${points.join("L")}`);
    path.style.stroke = colour;
  });
  const names = lines.filter((line) => line.name).map(({ name, colour }) => {
    const entry = document.createElement("span");
    entry.className = "entry";
    entry.style.setProperty("--colour", colour);
    entry.textContent = name;
    return entry;
  });
  caption.append(...names);
  figure.append(caption, plot);
  return figure;
}
