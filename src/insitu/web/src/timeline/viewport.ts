// Which part of the time is shown, and how times are written. All times are nanoseconds since the recording's start.

export interface Span {
  from: number;
  to: number;
}

/** Less than this many nanoseconds are never shown. */
const LEAST_NS = 20;

/** The range, moved and widened so that it is neither too short nor outside of [0, end]. */
export function clamped({ from, to }: Span, end: number): Span {
  const width = Math.min(Math.max(to - from, Math.min(LEAST_NS, end)), end);
  const middle = (from + to) / 2;
  const start = Math.min(Math.max(to - from === width ? from : middle - width / 2, 0), end - width);
  return { from: start, to: start + width };
}

/** `factor` < 1 shows less time; what is at `anchor` stays where it is. */
export function zoomed({ from, to }: Span, factor: number, anchor: number, end: number): Span {
  const least = Math.min(LEAST_NS, end) / (to - from);
  const by = Math.max(factor, least);
  return clamped({ from: anchor - (anchor - from) * by, to: anchor + (to - anchor) * by }, end);
}

/** The time between two ticks of a ruler that has room for `most` of them: 1, 2 or 5 times a power of ten. */
export function tickStep(width: number, most: number): number {
  const raw = Math.max(width / Math.max(most, 1), 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((each) => each * power).find((step) => step >= raw * 0.999999) as number;
}

/** A time since the start with the digits that a step needs, in groups of three: "1.234 567 s". */
export function moment(ns: number, step: number): string {
  const digits = 3 * Math.ceil(Math.max(0, 9 - Math.floor(Math.log10(Math.max(step, 1)) + 1e-9)) / 3);
  const rounded = Math.round(ns / 10 ** (9 - digits));
  const scale = 10 ** digits;
  const fraction = String(rounded % scale).padStart(digits, "0");
  const groups = fraction.match(/.{1,3}/g)?.join(" ") ?? "";
  return digits ? `${Math.floor(rounded / scale)}.${groups} s` : `${Math.floor(rounded / scale)} s`;
}

const UNITS: [number, string][] = [
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "µs"],
];

/** A duration in the unit that suits it, exact to the nanosecond below a second: "1.234567 ms", "12 ns". */
export function length(ns: number): string {
  const found = UNITS.find(([factor]) => ns >= factor);
  return found ? `${Number((ns / found[0]).toFixed(6))} ${found[1]}` : `${Math.round(ns)} ns`;
}

/** A range for the page's address, in whole nanoseconds. */
export function rangeText({ from, to }: Span): string {
  return `${Math.round(from)}-${Math.round(to)}`;
}

/** The range of such a text; null for one that is none. */
export function rangeOf(text: string): Span | null {
  const found = /^(\d{1,16})-(\d{1,16})$/.exec(text);
  const [from, to] = found ? [Number(found[1]), Number(found[2])] : [0, 0];
  return to > from ? { from, to } : null;
}
