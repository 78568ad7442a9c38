// A handle on a line of time: moved by mouse, finger or keys, and a slider for screen readers.

import { make } from "./dom.js";

/**
 * Create a handle. Its `props` are set by `setHandle`:
 *   name, value, min, max: seconds; total: seconds of the whole line; text(value): the value in words
 *   snap(value): the nearest value that is possible; next(value, direction, fine): the next one
 *   change(value, final): called while it moves, and once more when it is let go; remove(), pick(): optional, for Delete and when it is chosen
 */
export function makeHandle(kind) {
  const handle = make("div", { className: `handle ${kind}`, tabIndex: 0, aria: { role: "slider", orientation: "horizontal" } });
  let grip = null; // the value at which it was grabbed, and how far beside it, in seconds
  const second = (event) => {
    const { left, width } = handle.parentElement.getBoundingClientRect();
    return ((event.clientX - left) / width) * handle.props.total;
  };
  const clamp = (value) => Math.min(Math.max(value, handle.props.min), handle.props.max);
  handle.onpointerdown = (event) => {
    if (event.button > 0) return;
    event.stopPropagation();
    handle.setPointerCapture(event.pointerId);
    handle.props.pick?.();
    const { value } = handle.props;
    grip = { value, beside: second(event) - value };
  };
  handle.onpointermove = (event) => {
    if (grip === null) return;
    handle.props.change(clamp(handle.props.snap(second(event) - grip.beside)), false);
  };
  const letGo = (value) => {
    if (grip !== null) handle.props.change(value, true);
    grip = null;
  };
  handle.onpointerup = () => letGo(handle.props.value);
  handle.onpointercancel = () => letGo(grip?.value); // the finger scrolls the page instead
  handle.onfocus = () => handle.props?.pick?.();
  handle.onclick = handle.ondblclick = (event) => event.stopPropagation();
  handle.onkeydown = (event) => {
    const { value, min, max, next, change, remove } = handle.props;
    const direction = { ArrowRight: 1, ArrowUp: 1, PageUp: 1, ArrowLeft: -1, ArrowDown: -1, PageDown: -1 }[event.key];
    if (direction) change(clamp(next(value, direction, event.shiftKey)), true);
    else if (event.key === "Home") change(min, true);
    else if (event.key === "End") change(max, true);
    else if ((event.key === "Delete" || event.key === "Backspace") && remove) remove();
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (handle.isConnected) handle.scrollIntoView({ inline: "nearest", block: "nearest" }); // a timeline may be zoomed
  };
  return handle;
}

export function setHandle(handle, props) {
  handle.props = props;
  handle.style.left = `${(100 * props.value) / props.total}%`;
  const set = (name, value) => handle.setAttribute(`aria-${name}`, value);
  set("label", props.name);
  set("valuemin", props.min.toFixed(2));
  set("valuemax", props.max.toFixed(2));
  set("valuenow", props.value.toFixed(2));
  set("valuetext", props.text(props.value));
}
