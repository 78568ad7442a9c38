// What the visitor takes home: the dance to open here again, and everything as one zip.

import { find, make } from "./dom.js";

/** Let the browser save what is at an address. */
export function saveAs(address, name) {
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

export function saveProject(project, name) {
  const address = URL.createObjectURL(new Blob([JSON.stringify(project)], { type: "application/json" }));
  saveAs(address, name);
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Ask for the file of a saved dance. `arrive` gets it, `fail` a sentence. */
export function openProjects(arrive, fail) {
  const input = find("project-file");
  find("open").onclick = () => input.click();
  input.onchange = async () => {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    let project;
    try {
      project = JSON.parse(await file.text());
    } catch { /* no JSON: see below */ }
    if (project?.megadance_project !== 1 || !project.song) fail(`"${file.name}" is not a dance that was saved here.`);
    else arrive(project);
  };
}

/** Ask how to download; `begin(video)` is called unless the visitor thinks better of it. */
export function askDownload(begin) {
  const dialog = find("download-dialog");
  find("download").onclick = () => {
    dialog.returnValue = "no";
    dialog.showModal();
  };
  dialog.onclose = () => dialog.returnValue === "yes" && begin(find("with-video").checked);
}
