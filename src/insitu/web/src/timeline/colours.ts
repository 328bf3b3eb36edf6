// Colours of the timeline: one for each state of a thread, and a shade for each name.

import { css, hashed, rgb, type Lch, type Theme } from "../colour";

/** Hue and chroma of each state; those that are left out are drawn as nothing. */
const STATES: Record<string, [hue: number, chroma: number]> = {
  running: [150, 0.1],
  runnable: [100, 0.1],
  preempted: [68, 0.1],
  sleeping: [260, 0.012],
  uninterruptible: [22, 0.1],
  stopped: [305, 0.09],
  traced: [305, 0.09],
  parked: [305, 0.04],
  idle: [260, 0.012],
  unknown: [340, 0.08],
};
const PALE = new Set(["sleeping", "idle", "parked"]);
const HUES = [58, 250, 148, 305, 198, 28, 95, 345, 275, 172];

/** A colour as a pixel of ImageData on a little-endian machine, as all are that run a browser. */
export function pixel(colour: Lch): number {
  const [red, green, blue] = rgb(colour);
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

export interface Colours {
  stage: number;
  line: number;
  group: number;
  /** Of each state, in the order of the page's states; 0: nothing is drawn. */
  state: Uint32Array;
  /** Of the classes of states. */
  classes: Uint32Array;
  /** Of the time in no class. */
  rest: number;
  counter: number;
  sample: number;
  match: number;
  ink: string;
  quiet: string;
  accent: string;
  text: string;
  /** Of what a name is given to: a thread on a CPU, a call, an event; as a pixel, and for CSS. */
  name(text: string): number;
  named(text: string): string;
  /** Of a state, for CSS. */
  swatch(state: string): string;
}

export function coloursOf(theme: Theme, states: string[]): Colours {
  const light = theme === "light";
  const level = light ? 0.83 : 0.5;
  const state = (name: string): Lch | null => {
    const found = STATES[name];
    if (!found) return null;
    return [PALE.has(name) ? (light ? 0.945 : 0.27) : level, found[1], found[0]];
  };
  const ofName = (text: string): Lch => {
    const hash = hashed(text);
    const shade = ((hash >>> 8) % 7) / 6 - 0.5;
    return [level + shade * (light ? 0.07 : 0.055), 0.075, HUES[hash % HUES.length] + shade * 16];
  };
  const states_ = states.map((name) => state(name));
  const names = new Map<string, number>();
  return {
    stage: pixel(light ? [1, 0, 0] : [0.235, 0.006, 270]),
    line: pixel(light ? [0.93, 0.006, 80] : [0.3, 0.008, 270]),
    group: pixel(light ? [0.972, 0.005, 80] : [0.262, 0.007, 270]),
    state: Uint32Array.from(states_, (each) => (each ? pixel(each) : 0)),
    classes: Uint32Array.from(["running", "runnable", "uninterruptible"], (name) => pixel(state(name) as Lch)),
    rest: pixel(state("sleeping") as Lch),
    counter: pixel(light ? [0.72, 0.1, 250] : [0.58, 0.1, 250]),
    sample: pixel(light ? [0.72, 0.11, 58] : [0.58, 0.1, 58]),
    match: pixel(light ? [0.7, 0.2, 345] : [0.62, 0.2, 345]),
    ink: light ? "#1f1d1a" : "#eceae6",
    quiet: light ? "#6d6860" : "#9c9a95",
    accent: light ? "#b4530a" : "#f0a35e",
    text: light ? "#1b1a17" : "#f4f2ee",
    name(text) {
      let found = names.get(text);
      if (found === undefined) {
        found = pixel(ofName(text));
        names.set(text, found);
      }
      return found;
    },
    named: (text) => css(ofName(text)),
    swatch: (name) => {
      const found = state(name);
      return found ? css(found) : "transparent";
    },
  };
}
