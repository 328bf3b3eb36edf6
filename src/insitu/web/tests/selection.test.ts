import { describe, expect, test } from "vitest";
import { between } from "../src/cells";
import { groupTotals, reversedTree, selectedTree, splitTree } from "../src/selection";
import { layOut, namePath, type Shape } from "../src/tree";
import { ALL, FUNCTIONS, page } from "./pages";

const data = page();

/** Name path -> total, of every node but the root. */
function totals(shape: Shape): Record<string, number> {
  const rank = Int32Array.from({ length: 20 }, (_, i) => i);
  const tree = layOut(shape, "name", rank, false);
  return Object.fromEntries([...tree.child].map((node) => [namePath(tree, node), tree.total[node]]));
}

describe("the selected tree", () => {
  test("of everything has every count", () => {
    expect([...selectedTree(data, ALL).own]).toEqual([0, 1, 7, 0, 2]);
  });

  test("of one thread has that thread's", () => {
    expect([...selectedTree(data, { groups: Uint8Array.of(0, 1, 0), cells: null }).own]).toEqual([0, 0, 0, 0, 2]);
  });

  test("of a range of time has its first and its last cell", () => {
    expect([...selectedTree(data, { groups: null, cells: between(1, 2, 0) }).own]).toEqual([0, 1, 4, 0, 2]);
    expect([...selectedTree(data, { groups: null, cells: between(0, 0, 0) }).own]).toEqual([0, 0, 3, 0, 0]);
    expect([...selectedTree(data, { groups: null, cells: between(5, 9, 0) }).own]).toEqual([0, 0, 0, 0, 0]);
  });

  test("of a rectangle has the rows between its corners in each column, whichever corners they are", () => {
    // Two rows in a column: cells 0 and 2 are the lower row.
    const own = (a: number, b: number): number[] => [
      ...selectedTree(data, { groups: null, cells: between(a, b, 2) }).own,
    ];
    expect(own(0, 2)).toEqual([0, 0, 7, 0, 0]);
    expect(own(2, 0)).toEqual(own(0, 2));
    expect(own(1, 2)).toEqual([0, 1, 7, 0, 2]);
    expect(own(1, 1)).toEqual([0, 1, 0, 0, 2]);
  });

  test("of a page without time does not depend on the range", () => {
    const timeless = page({ entryCell: null });
    expect([...selectedTree(timeless, { groups: null, cells: between(5, 9, 0) }).own]).toEqual([0, 1, 7, 0, 2]);
  });

  test("of a difference has both sides", () => {
    const compared = page({ entryBefore: Float64Array.of(10, 0, 0, 30), entryCell: null });
    const shape = selectedTree(compared, { groups: Uint8Array.of(1, 1, 0), cells: null });
    expect([...shape.own]).toEqual([0, 1, 3, 0, 2]);
    expect([...(shape.ownBefore ?? [])]).toEqual([0, 0, 10, 0, 0]);
  });
});

test("each thread's total is the sum of its counts in the range", () => {
  expect([...groupTotals(data, null)]).toEqual([4, 2, 4]);
  expect([...groupTotals(data, between(0, 1, 0))]).toEqual([4, 2, 0]);
});

describe("split by thread", () => {
  const first = FUNCTIONS.length;

  test("each thread has a tree of its own below the root", () => {
    const shape = splitTree(data, ALL, Int32Array.of(first, first + 1, first + 2));
    expect(totals(shape)).toEqual({
      "7": 4,
      "7.1": 4,
      "7.1.2": 3,
      "8": 2,
      "8.1": 2,
      "8.1.3": 2,
      "8.1.3.2": 2,
      "9": 4,
      "9.1": 4,
      "9.1.2": 4,
    });
  });

  test("threads of one label become one", () => {
    const shape = splitTree(data, { groups: Uint8Array.of(1, 1, 0), cells: null }, Int32Array.of(first, first, 8));
    expect(totals(shape)).toEqual({ "7": 6, "7.1": 6, "7.1.2": 3, "7.1.3": 2, "7.1.3.2": 2 });
  });
});

describe("reversed", () => {
  test("the functions that ran come first, then their callers", () => {
    const { shape, whole } = reversedTree(selectedTree(data, ALL), false, []);
    expect(totals(shape)).toEqual({ "1": 1, "2": 9, "2.1": 7, "2.3": 2, "2.3.1": 2 });
    expect(whole).toBe(true);
  });

  test("both sides of a difference are kept", () => {
    const compared = page({ entryBefore: Float64Array.of(10, 0, 0, 30), entryCell: null });
    const { shape } = reversedTree(selectedTree(compared, ALL), false, []);
    const tree = layOut(shape, "name", Int32Array.of(0, 1, 2, 3), false);
    expect([tree.total[0], tree.totalBefore?.[0]]).toEqual([10, 40]);
  });

  test("the level of threads stays where it is", () => {
    const first = FUNCTIONS.length;
    const split = splitTree(data, ALL, Int32Array.of(first, first + 1, first + 2));
    expect(totals(reversedTree(split, true, []).shape)).toEqual({
      "7": 4,
      "7.1": 1,
      "7.2": 3,
      "7.2.1": 3,
      "8": 2,
      "8.2": 2,
      "8.2.3": 2,
      "8.2.3.1": 2,
      "9": 4,
      "9.2": 4,
      "9.2.1": 4,
    });
  });

  // A chain of a million samples beside one sample, which is less than a 20,000th.
  const rare = {
    parent: Int32Array.of(0, 0, 1, 1, 3),
    name: Int32Array.of(0, 1, 2, 3, 4),
    own: Float64Array.of(0, 0, 1_000_000, 0, 1),
    ownBefore: null,
  };

  test("negligible paths end early, and that is said", () => {
    const { shape, whole } = reversedTree(rare, false, []);
    expect(whole).toBe(false);
    expect(totals(shape)).toEqual({ "2": 1_000_000, "2.1": 1_000_000, "4": 1 });
  });

  test("a path that is zoomed is followed to its end", () => {
    expect(totals(reversedTree(rare, false, [4]).shape)).toMatchObject({ "4": 1, "4.3": 1, "4.3.1": 1 });
  });

  test("a tree that outgrows its first arrays loses no sample", () => {
    const count = 5_000;
    const parent = Int32Array.from({ length: count }, (_, i) =>
      Math.max(0, i - 1 - ((i * 7919) % Math.min(i || 1, 1000))),
    );
    const name = Int32Array.from({ length: count }, (_, i) => 1 + (i % 97));
    const own = Float64Array.from({ length: count }, (_, i) => (i ? (i % 3) + 1 : 0));
    const sum = own.reduce((total, value) => total + value, 0);
    const { shape } = reversedTree({ parent, name, own, ownBefore: null }, false, []);
    expect(shape.own.reduce((total, value) => total + value, 0)).toBe(sum);
  });
});
