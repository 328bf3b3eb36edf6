import { expect, test } from "vitest";
import { exact, percent, points } from "../src/format";

test("a count has its unit, in the singular for one", () => {
  expect(exact(1_234_567, "samples")).toBe("1,234,567 samples");
  expect(exact(1, "samples")).toBe("1 sample");
  expect(exact(1, "bytes")).toBe("1 byte");
  expect(exact(0, "samples")).toBe("0 samples");
});

test.each([
  [1_234_567_890, "ns", "1.235 s"],
  [12_345_678, "ns", "12.346 ms"],
  [1_500, "ns", "1.500 µs"],
  [400, "ns", "400 ns"],
  [1_536, "bytes", "1.500 KiB"],
  [3 * 2 ** 30, "bytes", "3.000 GiB"],
  [512, "bytes", "512 bytes"],
])("%d %s are shown as %s, a time or size in the unit that suits it", (value, unit, shown) => {
  expect(exact(value, unit)).toBe(shown);
});

test("a share has two decimals; there is none of nothing", () => {
  expect(percent(1, 3)).toBe("33.33 %");
  expect(percent(7, 7)).toBe("100.00 %");
  expect(percent(0, 0)).toBe("–");
});

test("a difference has a sign unless it rounds to zero", () => {
  expect(points(0.0123)).toBe("+1.23 pp");
  expect(points(-0.5)).toBe("−50.00 pp");
  expect(points(0.00004)).toBe("±0.00 pp");
  expect(points(-0.00004)).toBe("±0.00 pp");
});
