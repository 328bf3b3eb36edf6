import { describe, expect, test } from "vitest";
import { differenceColours, Palette, type Theme } from "../src/colour";
import { KINDS, NameTable } from "../src/names";
import { meta } from "./pages";

// Linear RGB as those see it who lack one kind of cones: Machado, Oliveira and Fernandes 2009, severity 1.
const SIGHTS: Record<string, number[][]> = {
  whole: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protanopia: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranopia: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanopia: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

function times(matrix: number[][], vector: number[]): number[] {
  return matrix.map((row) => row.reduce((sum, value, at) => sum + value * vector[at], 0));
}

/** A CSS colour in the OKLab space, as somebody sees it: https://bottosson.github.io/posts/oklab/ */
function seen(colour: string, sight: number[][]): number[] {
  const cones = times(
    [
      [0.4122214708, 0.5363325363, 0.0514459929],
      [0.2119034982, 0.6806995451, 0.1073969566],
      [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    times(sight, linear(colour)).map((value) => Math.min(1, Math.max(0, value))),
  ).map(Math.cbrt);
  return times(
    [
      [0.2104542553, 0.793617785, -0.0040720468],
      [1.9779984951, -2.428592205, 0.4505937099],
      [0.0259040371, 0.7827717662, -0.808675766],
    ],
    cones,
  );
}

/** Contrast of two CSS colours as WCAG 2 defines it: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio */
function contrast(one: string, two: string): number {
  const [light, dark] = [luminance(one), luminance(two)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

function linear(colour: string): number[] {
  const channels = colour.startsWith("#")
    ? [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16))
    : (colour.match(/\d+/g) ?? []).map(Number);
  return channels.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
}

function luminance(colour: string): number {
  const [red, green, blue] = linear(colour);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

test("contrast is that of the definition's ends", () => {
  expect(contrast("#000000", "rgb(255,255,255)")).toBeCloseTo(21);
  expect(contrast("#777777", "#ffffff")).toBeCloseTo(4.48, 2);
});

describe.each<Theme>(["light", "dark"])("in the %s look", (theme) => {
  const names = new NameTable(meta());
  const palettes = (["kind", "module"] as const).map(
    (colouring) => new Palette(names, theme, colouring, new Map(KINDS.map((kind, i) => [kind, i]))),
  );

  test("names can be read on every frame: the contrast is at least 4.5", () => {
    for (const palette of palettes) {
      const least = Math.min(...[...palette.fill, palette.match].map((fill) => contrast(fill, palette.text)));
      expect(least).toBeGreaterThanOrEqual(4.5);
    }
  });

  test.each(Object.keys(SIGHTS))("states differ from each other and from code (%s)", (sight) => {
    const kinds = ["user", "kernel", "lock", "file", "socket", "sleep", "blocked", "runnable", "throttled", "waker"];
    const plain = meta();
    const one = kinds.map(() => 1);
    plain.names = { ...plain.names, function: ["root", ...kinds], kinds: ["root", ...kinds], modules: ["", "x"] };
    plain.names.kind = [0, ...kinds.map((_, i) => i + 1)];
    Object.assign(plain.names, { module: [0, ...one], symbolized: [1, ...one] });
    Object.assign(plain.names, { inlined: [0, ...one.map(() => 0)], file: [0, ...one.map(() => 0)] });
    const { families } = new Palette(new NameTable(plain), theme, "kind", new Map());
    expect(families.map(({ label }) => label).sort()).toEqual([...kinds].sort());
    const colours = families.map(({ swatch }) => seen(swatch, SIGHTS[sight]));
    const distances = colours.flatMap((a, i) =>
      colours.slice(i + 1).map((b) => Math.hypot(...a.map((value, at) => value - b[at]))),
    );
    expect(Math.min(...distances)).toBeGreaterThanOrEqual(0.035); // 0.02 is seen side by side
  });

  test("names can be read on every frame of a difference", () => {
    const least = Math.min(...differenceColours(theme).map((fill) => contrast(fill, palettes[0].text)));
    expect(least).toBeGreaterThanOrEqual(4.5);
  });

  test("names that a search leaves out can still be made out: the contrast is at least 3", () => {
    const least = Math.min(...palettes[0].dim.map((fill) => contrast(fill, palettes[0].dimMatchText)));
    expect(least).toBeGreaterThanOrEqual(3);
  });
});
