// Colours of frames: a family per kind (or module) and within it a shade that is always the same for a function.

import { KINDS, type Kind, type NameTable } from "./names";

export type Theme = "light" | "dark";
export type Colouring = "kind" | "module";

/** Lightness 0..1, chroma 0..0.4, hue in degrees (the OKLCH space, in which equal steps look equal). */
export type Lch = [lightness: number, chroma: number, hue: number];

const SHADES = 12;

interface Look {
  hue: number;
  chroma: number;
  /** How far hues of shades lie from `hue`. */
  spread: number;
  /** Added to the lightness of other kinds. */
  lift?: number;
}

// States of threads and wakers (from "lock" to "waker") differ from each other, from user and from kernel code also for those
// who see two of the three primary colours only: by lightness, and for that their shades are close to each other.
const KIND_COLOURS: Record<Kind, Look> = {
  user: { hue: 58, chroma: 0.115, spread: 22 },
  kernel: { hue: 250, chroma: 0.085, spread: 16 },
  jit: { hue: 148, chroma: 0.105, spread: 14 },
  python: { hue: 305, chroma: 0.09, spread: 14 },
  inlined: { hue: 198, chroma: 0.075, spread: 12 },
  lock: { hue: 26, chroma: 0.112, spread: 3, lift: -0.16 },
  file: { hue: 167, chroma: 0.06, spread: 3, lift: -0.04 },
  socket: { hue: 292, chroma: 0.06, spread: 3, lift: -0.06 },
  sleep: { hue: 180, chroma: 0, spread: 0, lift: -0.17 },
  blocked: { hue: 38, chroma: 0.085, spread: 3, lift: -0.1 },
  runnable: { hue: 118, chroma: 0.08, spread: 3, lift: 0.035 },
  throttled: { hue: 330, chroma: 0.11, spread: 3, lift: -0.15 },
  waker: { hue: 320, chroma: 0.05, spread: 3, lift: -0.01 },
  unknown: { hue: 250, chroma: 0.008, spread: 6 },
  thread: { hue: 260, chroma: 0.018, spread: 4 },
};

const MODULE_HUES = [58, 250, 148, 305, 20, 198, 95, 345];
const MATCH: Lch = [0.75, 0.19, 345];

/** An OKLCH colour as CSS text in sRGB. */
export function css(colour: Lch): string {
  return `rgb(${rgb(colour).join(",")})`;
}

/** An OKLCH colour as red, green and blue (0..255) in sRGB, out-of-range channels clipped. */
export function rgb([lightness, chroma, hue]: Lch): [number, number, number] {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const channel = (linear: number): number => {
    const clipped = Math.min(1, Math.max(0, linear));
    return Math.round(255 * (clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055));
  };
  const red = channel(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s);
  const green = channel(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s);
  const blue = channel(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s);
  return [red, green, blue];
}

function lightnessOf(theme: Theme): number {
  return theme === "light" ? 0.845 : 0.488;
}

function shade(theme: Theme, { hue, chroma, spread, lift = 0 }: Look, step: number): Lch {
  const position = step / (SHADES - 1) - 0.5;
  // Hue and lightness move apart from each other, so that neighbours differ in both.
  const other = ((step * 5) % SHADES) / (SHADES - 1) - 0.5;
  const lightness = lightnessOf(theme) + lift + other * (lift ? 0.02 : 0.07);
  return [lightness, chroma * (theme === "light" ? 1 : 0.9), hue + position * 2 * spread];
}

export function hashed(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash ^ (hash >>> 13)) >>> 0;
}

export interface Family {
  label: string;
  swatch: string;
}

/** The colour of each name, and what the legend says about it. */
export class Palette {
  /** CSS colours; `dim` holds those of frames that a search leaves out. */
  readonly fill: string[] = [];
  readonly dim: string[] = [];
  readonly match: string;
  readonly dimMatchText: string;
  readonly text: string;
  /** For each name, an index into `fill`. */
  readonly of: Uint16Array;
  readonly families: Family[];

  constructor(names: NameTable, theme: Theme, colouring: Colouring, moduleWeight: Map<string, number>) {
    this.text = theme === "light" ? "#1b1a17" : "#f4f2ee";
    this.dimMatchText = theme === "light" ? "#7b766d" : "#9a968f";
    this.match = css(theme === "light" ? MATCH : [0.54, 0.2, 345]);
    const looks = KINDS.map((kind) => KIND_COLOURS[kind]);
    let familyOf: (name: number) => number;
    if (colouring === "kind") {
      familyOf = (name) => KINDS.indexOf(names.kind[name]);
      const present = new Set(names.kind.slice(1, names.functions));
      this.families = KINDS.filter((kind) => present.has(kind)).map((kind) => ({
        label: kind,
        swatch: css([
          lightnessOf(theme) + (KIND_COLOURS[kind].lift ?? 0),
          KIND_COLOURS[kind].chroma,
          KIND_COLOURS[kind].hue,
        ]),
      }));
    } else {
      const ranked = [...moduleWeight]
        .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
        .map(([module]) => module);
      const shown = ranked.filter((module) => module).slice(0, MODULE_HUES.length);
      const family = new Map(shown.map((module, i) => [module, KINDS.length + i]));
      for (let i = 0; i < shown.length; i++) looks.push({ hue: MODULE_HUES[i], chroma: 0.1, spread: 9 });
      const grey = KINDS.indexOf("unknown");
      const thread = KINDS.indexOf("thread");
      familyOf = (name) => (names.kind[name] === "thread" ? thread : (family.get(names.module(name)) ?? grey));
      this.families = shown.map((module, i) => ({
        label: module,
        swatch: css([lightnessOf(theme), 0.1, MODULE_HUES[i]]),
      }));
      if (ranked.length > shown.length)
        this.families.push({ label: "other", swatch: css([lightnessOf(theme), 0.008, 250]) });
    }
    for (const look of looks) {
      for (let step = 0; step < SHADES; step++) {
        this.fill.push(css(shade(theme, look, step)));
        const [lightness, , tint] = shade(theme, { ...look, lift: 0 }, step);
        this.dim.push(
          css([theme === "light" ? lightness * 0.4 + 0.55 : lightness * 0.35 + 0.155, look.chroma * 0.2, tint]),
        );
      }
    }
    this.of = Uint16Array.from(names.text, (text, name) => familyOf(name) * SHADES + (hashed(text) % SHADES));
  }
}

const DIFF_STEPS = 24;

/** Colours of change: index 0 shrank most (blue), the middle did not change, the last grew most (red). */
export function differenceColours(theme: Theme): string[] {
  const colours: string[] = [];
  for (let step = -DIFF_STEPS; step <= DIFF_STEPS; step++) {
    const strength = Math.abs(step) / DIFF_STEPS;
    const hue = step < 0 ? 250 : 25;
    colours.push(
      css(
        theme === "light"
          ? [0.945 - 0.285 * strength, 0.012 + 0.163 * strength, hue]
          : [0.31 + 0.22 * strength, 0.012 + 0.165 * strength, hue],
      ),
    );
  }
  return colours;
}

/** The index of a change within differenceColours; square roots keep small changes visible beside large ones. */
export function differenceIndex(delta: number, largest: number): number {
  if (!largest || !delta) return DIFF_STEPS;
  return DIFF_STEPS + Math.round(Math.sign(delta) * Math.sqrt(Math.min(1, Math.abs(delta) / largest)) * DIFF_STEPS);
}

/** `steps` colours from nothing to the most, evenly spaced in perceived lightness, for a heat map. */
export function heatColours(theme: Theme, steps: number): string[] {
  const colours: string[] = [];
  for (let i = 0; i < steps; i++) {
    const t = steps > 1 ? i / (steps - 1) : 1;
    const hue = 95 - 95 * t;
    const chroma = 0.06 + 0.13 * Math.sin(Math.PI * (0.12 + 0.72 * t));
    colours.push(
      css(
        theme === "light" ? [0.95 - 0.6 * t, chroma, hue] : [0.27 + 0.63 * t, chroma * (0.55 + 0.35 * t), 5 + 85 * t],
      ),
    );
  }
  return colours;
}
