import { expect, test } from "vitest";
import { facts, shareChange } from "../src/numbers";
import { layOut } from "../src/tree";

const shape = {
  parent: Int32Array.of(0, 0, 0),
  name: Int32Array.of(0, 1, 2),
  own: Float64Array.of(0, 3, 1),
  ownBefore: null,
};
const rank = Int32Array.of(0, 1, 2);
const compared = { ...shape, ownBefore: Float64Array.of(0, 1, 1) };

test("a frame has its total, its share and what is its own", () => {
  const tree = layOut(shape, "weight", rank, false);
  expect(facts(1, { tree, own: tree.own, unit: "samples", zoom: 0, reversed: false })).toEqual([
    { label: "total", value: "3 samples" },
    { label: "of all", value: "75.00 %" },
    { label: "self", value: "3 samples · 75.00 %" },
  ]);
});

test("the share of the zoomed frame is given for what is in it", () => {
  const tree = layOut(shape, "weight", rank, false);
  const labels = facts(1, { tree, own: tree.own, unit: "samples", zoom: 1, reversed: true }).map(
    (fact) => fact.label,
  );
  expect(labels).toEqual(["total", "of all", "of zoomed"]);
});

test("a difference is of shares, not of counts", () => {
  const tree = layOut(compared, "weight", rank, false);
  // 3 of 4 after, 1 of 2 before.
  expect(shareChange(tree, 1)).toBeCloseTo(0.25);
  expect(shareChange(tree, 2)).toBeCloseTo(-0.25);
  expect(facts(2, { tree, own: tree.own, unit: "samples", zoom: 0, reversed: false })).toEqual([
    { label: "before", value: "50.00 % · 1 sample" },
    { label: "after", value: "25.00 % · 1 sample" },
    { label: "change", value: "−25.00 pp", tone: "shrank" },
  ]);
});

test("a tree of one recording has no change, and an empty side none either", () => {
  expect(shareChange(layOut(shape, "weight", rank, false), 1)).toBe(0);
  const appeared = layOut({ ...shape, ownBefore: new Float64Array(3) }, "weight", rank, false);
  expect(shareChange(appeared, 1)).toBeCloseTo(0.75);
});
