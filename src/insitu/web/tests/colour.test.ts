import { describe, expect, test } from "vitest";
import { differenceColours, Palette, type Theme } from "../src/colour";
import { KINDS, NameTable } from "../src/names";
import { meta } from "./pages";

/** Contrast of two CSS colours as WCAG 2 defines it: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio */
function contrast(one: string, two: string): number {
  const [light, dark] = [luminance(one), luminance(two)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

function luminance(colour: string): number {
  const channels = colour.startsWith("#")
    ? [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16))
    : (colour.match(/\d+/g) ?? []).map(Number);
  const [red, green, blue] = channels.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
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

  test("names can be read on every frame of a difference", () => {
    const least = Math.min(...differenceColours(theme).map((fill) => contrast(fill, palettes[0].text)));
    expect(least).toBeGreaterThanOrEqual(4.5);
  });

  test("names that a search leaves out can still be made out: the contrast is at least 3", () => {
    const least = Math.min(...palettes[0].dim.map((fill) => contrast(fill, palettes[0].dimMatchText)));
    expect(least).toBeGreaterThanOrEqual(3);
  });
});
