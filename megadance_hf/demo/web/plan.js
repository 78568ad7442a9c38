// Plans of genres: [[genre, or {genre: weight}, from this second of the dance on], ...], in order, the first from 0 on.

/** "waltz", or "rumba + waltz" for a mixture, the heaviest first. */
export function label(genre) {
  if (genre === null) return "?";
  if (typeof genre === "string") return genre;
  return Object.entries(genre).sort((one, other) => other[1] - one[1]).map(([name]) => name).join(" + ");
}

/** The genre that gives a span its colour. */
export const mainGenre = (genre) => (genre && typeof genre === "object" ? label(genre).split(" + ")[0] : genre);

/** The spans of a plan: {genre, start, end}. */
export function spans(plan, seconds) {
  return plan
    .map(([genre, start], index) => ({ genre, start, end: Math.min(plan[index + 1]?.[1] ?? seconds, seconds) }))
    .filter(({ start, end }) => end > start);
}

/** Number of the span at a second. */
export const spanAt = (plan, second) => Math.max(plan.findLastIndex(([, start]) => start <= second + 1e-3), 0);

/** With a change at a second; the new span has the genre `genre`. */
export function withChange(plan, second, genre) {
  const index = spanAt(plan, second) + 1;
  return [...plan.slice(0, index), [genre, second], ...plan.slice(index)];
}

export const withoutChange = (plan, index) => plan.filter((_, other) => other !== index);
export const withGenre = (plan, index, genre) => plan.map((entry, other) => (other === index ? [genre, entry[1]] : entry));
export const withStart = (plan, index, start) => plan.map((entry, other) => (other === index ? [entry[0], start] : entry));

export const samePlan = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// --- ranges of the dance: {start, end, part: "all" | "upper" | "lower", dancer: 0 or 1} ------------------------------------------------

export const PARTS = { all: "whole body", upper: "upper body", lower: "lower body" };
const covers = (part, other) => part === "all" || other === "all" || part === other;

/** Whether two ranges have anything in common. */
export const overlap = (one, other) => one.dancer === other.dancer && covers(one.part, other.part) && one.start < other.end - 1e-3 && other.start < one.end - 1e-3;
export const sameRange = (one, other) => one.dancer === other.dancer && one.part === other.part && one.start === other.start && one.end === other.end;

/** With one more range; those of the same part and dancer that it touches become one with it. */
export function withRange(ranges, range) {
  const touched = ranges.filter((one) => one.part === range.part && one.dancer === range.dancer && one.start <= range.end && range.start <= one.end);
  const all = [...touched, range];
  const joined = { ...range, start: Math.min(...all.map((one) => one.start)), end: Math.max(...all.map((one) => one.end)) };
  return [...ranges.filter((one) => !touched.includes(one)), joined].sort((one, other) => one.start - other.start);
}
