// What the server offers. Addresses are relative to the page, which may be served below a site's root.

const POLL = 300; // milliseconds
const PATIENCE = 20; // polls without an answer until the server counts as gone

/** A refusal or a failure in a sentence for people who don't program. */
export class Refused extends Error {}

const at = (path) => new URL(path, document.baseURI).href;

/** Who this is: a number drawn by the page, kept until the tab is closed. */
function visitor() {
  const draw = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  try {
    sessionStorage.megadance ??= draw();
    return sessionStorage.megadance;
  } catch { // no storage in this browser
    return (visitor.drawn ??= draw());
  }
}

async function ask(method, path, body) {
  let response, content;
  try {
    response = await fetch(at(path), {
      method,
      headers: { "x-visitor": visitor(), ...(body === undefined || body instanceof Blob ? {} : { "content-type": "application/json" }) },
      body: body === undefined || body instanceof Blob ? body : JSON.stringify(body),
    });
    content = await response.json();
  } catch {
    throw new Refused(response ? "The server gave no proper answer. Try again." : "The server cannot be reached. Is the connection still there?");
  }
  if (!response.ok) throw new Refused(content.error ?? "Something went wrong on the server. Try again.");
  return content;
}

export const options = () => ask("GET", "api/options");
export const take = (id) => ask("GET", `api/takes/${id}`);
/** What words are taken for. */
export const understand = (prompt) => ask("POST", "api/words", { prompt });
export const project = (id) => ask("GET", `api/takes/${id}/project`);

/** The pose of a dancer of a take at a second; a pose or a clip from a file. */
export const takePose = (id, second, dancer) => ask("GET", `api/takes/${id}/pose?second=${second}&dancer=${dancer}`);
export const uploadPose = (name, file) => ask("POST", `api/poses?name=${encodeURIComponent(name)}`, file);

/** Upload a song. `report` gets the share that has arrived; fetch() could not tell. */
export function upload(name, file, report) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", at(`api/songs?name=${encodeURIComponent(name)}`));
    request.setRequestHeader("x-visitor", visitor());
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && report(event.loaded / event.total);
    request.onerror = () => reject(new Refused("The song did not arrive. Is the connection still there?"));
    request.onload = () => {
      if (request.status < 400 && request.response) resolve(request.response);
      else reject(new Refused(request.response?.error ?? "The server did not take the song. Try again, or another one."));
    };
    request.send(file);
  });
}

/** A job of the server's: at most one at a time. */
export class Job {
  constructor(request) {
    this.request = request;
    this.cancelled = false;
  }

  /** Run it; `report` gets each state. The last state, or null when it was cancelled. */
  async run(report) {
    const { job } = await ask("POST", "api/jobs", this.request);
    this.id = job;
    if (this.cancelled) return this.drop();
    const leave = () => this.drop(true);
    addEventListener("pagehide", leave);
    try {
      for (let missed = 0; ; ) {
        let state;
        try {
          state = await ask("GET", `api/jobs/${job}`);
          missed = 0;
        } catch (error) {
          if (this.cancelled) return null;
          if (++missed > PATIENCE || !error.message.startsWith("The server cannot be reached")) throw error;
        }
        if (this.cancelled || state?.state === "cancelled") return null;
        if (state?.state === "failed") throw new Refused(state.error);
        if (state) report(state);
        if (state?.state === "done") return state;
        await new Promise((resolve) => setTimeout(resolve, POLL));
      }
    } finally {
      removeEventListener("pagehide", leave);
    }
  }

  cancel() {
    this.cancelled = true;
    if (this.id) this.drop();
  }

  drop(keepalive = false) {
    fetch(at(`api/jobs/${this.id}`), { method: "DELETE", headers: { "x-visitor": visitor() }, keepalive }).catch(() => {});
    return null;
  }
}
