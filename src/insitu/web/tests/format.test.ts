import { expect, test } from "vitest";
import { exact, percent, points } from "../src/format";

test("a count has its unit, in the singular for one", () => {
  expect(exact(1_234_567, "samples")).toBe("1,234,567 samples");
  expect(exact(1, "samples")).toBe("1 sample");
  expect(exact(1, "bytes")).toBe("1 byte");
  expect(exact(0, "samples")).toBe("0 samples");
});

test("nanoseconds are shown as milliseconds to the microsecond", () => {
  expect(exact(1_234_567_890, "ns")).toBe("1,234.568 ms");
  expect(exact(400, "ns")).toBe("0.000 ms");
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
