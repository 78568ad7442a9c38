// Where a song comes from: a file that is chosen or dropped, or the microphone.

import { clock, find, make } from "./dom.js";

export class SongChooser {
  /** `arrive(name, blob)` gets the song, `fail(text)` what went wrong, in a sentence. */
  constructor(view, arrive, fail) {
    Object.assign(this, { arrive, fail });
    this.title = make("h2", { textContent: "Choose a song to dance to" });
    this.text = make("p");
    this.record = make("button", { type: "button", textContent: "Record", onclick: () => this.toggle() });
    this.choose = make("button", { type: "button", className: "main", textContent: "Choose a song", onclick: () => find("song-file").click() });
    this.element = make("div", { className: "invitation" }, this.title, make("div", { className: "row" }, this.choose, this.record), this.text);
    view.append(this.element);
    this.record.hidden = !navigator.mediaDevices?.getUserMedia || !window.MediaRecorder;
    find("song-file").onchange = (event) => {
      const [file] = event.target.files;
      event.target.value = ""; // the same file may be chosen again
      if (file) this.arrive(file.name, file);
    };
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file) this.arrive(file.name, file);
    });
  }

  limit({ megabytes, song_seconds: seconds }) {
    this.text.textContent = `Any sound file of up to ${Math.round(megabytes)} MB; up to ${Math.round(seconds)} seconds of it are danced. `
      + "Your song stays on this server for an hour, for you alone.";
  }

  /** Begin recording, or end it and take what was recorded. */
  async toggle() {
    if (this.recorder) return this.recorder.stop();
    let microphone;
    try {
      microphone = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
    } catch {
      return this.fail("The browser does not let the page use the microphone.");
    }
    const pieces = [];
    const began = Date.now();
    const tell = () => (this.record.textContent = `Stop recording (${clock((Date.now() - began) / 1000)})`);
    const ticking = setInterval(tell, 500);
    this.recorder = new MediaRecorder(microphone);
    this.recorder.ondataavailable = (event) => pieces.push(event.data);
    this.recorder.onstop = () => {
      clearInterval(ticking);
      for (const track of microphone.getTracks()) track.stop();
      const { mimeType } = this.recorder;
      this.recorder = null;
      this.record.textContent = "Record";
      this.arrive(`recording.${mimeType.includes("mp4") ? "m4a" : mimeType.includes("ogg") ? "ogg" : "webm"}`, new Blob(pieces, { type: mimeType }));
    };
    this.recorder.start();
    tell();
  }
}
