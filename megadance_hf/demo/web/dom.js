// Small helpers: elements, icons, times in words.

export const find = (id) => document.getElementById(id);

/** An element with properties (`aria` and `data` are objects of attributes) and children. */
export function make(tag, { aria = {}, data = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(name === "role" ? name : `aria-${name}`, value);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

/** Give `container` one element for each item; an item with the key of an earlier one gets its element, with focus and all. */
export function keyed(container, items, create, update) {
  const before = new Map([...container.children].map((element) => [element.dataset.key, element]));
  const after = items.map((item) => {
    const element = before.get(item.key) ?? Object.assign(create(item), {});
    element.dataset.key = item.key;
    before.delete(item.key);
    update(element, item);
    return element;
  });
  for (const element of before.values()) element.remove();
  after.forEach((element, index) => container.children[index] !== element && container.insertBefore(element, container.children[index] ?? null));
}

const ICONS = {
  undo: "M9 5 4 10l5 5M4 10h9a6 6 0 0 1 0 12h-2",
  redo: "M15 5l5 5-5 5M20 10h-9a6 6 0 0 0 0 12h2",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.500 4 8.500 8.500 0 1 0 20 14.500Z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500 19 19M5 19l1.500-1.500M17.500 6.500 19 5",
  lock: "M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 0 1 7 0v3",
  again: "M4 12a8 8 0 1 0 3-6.200M4 4v5h5",
  plus: "M12 5v14M5 12h14",
  figure: "M12 3.500a2 2 0 1 0 0 4 2 2 0 0 0 0-4ZM4 6l4 4.500h8L20 6M9 10.500V15l-2 6M15 10.500V15l2 6M9 15h6",
  file: "M6 3h8l5 5v13H6ZM14 3v5h5M12.500 18v-6M9.500 14.500l3-3 3 3",
  minus: "M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
};

export function icon(name) {
  const holder = document.createElement("span");
  holder.className = "glyph";
  holder.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`;
  return holder;
}

/** 75.26 -> "1:15", or "1:15.3" with tenths. */
export function clock(seconds, tenths = false) {
  const rounded = tenths ? Math.round(seconds * 10) / 10 : Math.round(seconds);
  const rest = (rounded % 60).toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, "0");
  return `${Math.floor(rounded / 60)}:${rest}`;
}

/** "about 20 seconds", for what nobody knows exactly. */
export function about(seconds) {
  if (seconds < 2) return "a moment";
  if (seconds < 10) return `${Math.round(seconds)} seconds`;
  if (seconds < 90) return `about ${5 * Math.round(seconds / 5)} seconds`;
  return `about ${Math.round(seconds / 60)} minutes`;
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const isNarrow = () => window.matchMedia("(max-width: 40rem)").matches;

let last = "";
/** Read out by screen readers; the same words only once. */
export function announce(text) {
  if (text && text !== last) find("live").textContent = text;
  last = text;
}
