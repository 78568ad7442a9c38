// Light or dark: as the device wants it, until the switch is used.

import { find, icon } from "./dom.js";

const wanted = window.matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try {
    return localStorage.getItem("megadance-theme");
  } catch { // no storage in this browser
    return null;
  }
}

export function followTheme(changed) {
  const button = find("theme");
  let chosen = stored();
  const apply = () => {
    const dark = chosen ? chosen === "dark" : wanted.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
    button.replaceChildren(icon(dark ? "sun" : "moon"));
    changed();
  };
  wanted.addEventListener("change", apply);
  button.onclick = () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("megadance-theme", chosen);
    } catch { /* until the tab is closed */ }
    apply();
  };
  apply();
}
