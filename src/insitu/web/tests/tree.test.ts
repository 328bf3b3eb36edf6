import { describe, expect, test } from "vitest";
import { childAt, layOut, namePath, nodeAt, nodeOfPath, pathTo } from "../src/tree";

// root ── main ┬─ parse (3)
//              └─ read (5) ── parse (2); main itself 1
const shape = {
  parent: Int32Array.of(0, 0, 1, 1, 3),
  name: Int32Array.of(0, 1, 2, 3, 2),
  own: Float64Array.of(0, 1, 3, 5, 2),
  ownBefore: null,
};
const rank = Int32Array.of(0, 1, 2, 3);

describe("laid out", () => {
  const tree = layOut(shape, "weight", rank, false);

  test("a node's total is its own and its children's", () => {
    expect([...tree.total]).toEqual([11, 11, 3, 7, 2]);
    expect([...tree.depth]).toEqual([0, 1, 2, 2, 3]);
  });

  test("by weight, the heaviest child comes first", () => {
    expect([...tree.child]).toEqual([1, 3, 2, 4]);
    expect([...tree.first]).toEqual([0, 1, 3, 3, 4, 4]);
    expect([...tree.x]).toEqual([0, 0, 7, 0, 0]);
  });

  test("by name, the alphabet decides", () => {
    const byName = layOut(shape, "name", rank, false);
    expect([byName.x[2], byName.x[3], byName.x[4]]).toEqual([0, 3, 3]);
  });

  test("a node without weight is left out, equal weights are in alphabetical order", () => {
    const own = Float64Array.of(0, 0, 4, 2, 2);
    expect([...layOut({ ...shape, own }, "weight", rank, false).child]).toEqual([1, 2, 3, 4]);
    const bare = layOut({ ...shape, own: Float64Array.of(0, 1, 3, 0, 0) }, "weight", rank, false);
    expect([...bare.child]).toEqual([1, 2]);
  });

  test("the other side of a difference can be what widths stand for", () => {
    const compared = { ...shape, ownBefore: Float64Array.of(0, 0, 9, 1, 0) };
    const before = layOut(compared, "weight", rank, true);
    expect([...before.width]).toEqual([10, 10, 9, 1, 0]);
    expect([...before.total]).toEqual([11, 11, 3, 7, 2]);
    expect([...before.child]).toEqual([1, 2, 3]);
  });
});

describe("a position", () => {
  const tree = layOut(shape, "weight", rank, false);

  test.each([
    [0, 0, 0],
    [10.9, 1, 1],
    [6.9, 2, 3],
    [7, 2, 2],
    [9.9, 2, 2],
    [1.9, 3, 4],
    [2, 3, -1],
    [10, 2, -1],
    [11, 0, -1],
    [-0.1, 0, -1],
  ])("%d at depth %d is node %d", (x, depth, node) => {
    expect(nodeAt(tree, x, depth)).toBe(node);
  });

  test("right of all children is the end of their range", () => {
    expect(childAt(tree, 1, 10)).toBe(tree.first[2]);
    expect(childAt(tree, 2, 0)).toBe(tree.first[3]);
  });
});

describe("a path", () => {
  const tree = layOut(shape, "weight", rank, false);

  test("leads from the root to the node, both included", () => {
    expect(pathTo(shape, 4)).toEqual([0, 1, 3, 4]);
    expect(pathTo(shape, 0)).toEqual([0]);
  });

  test("of names leads back to its node", () => {
    expect(namePath(shape, 4)).toBe("1.3.2");
    for (const node of [1, 2, 3, 4]) {
      expect(nodeOfPath(tree, namePath(shape, node).split(".").map(Number))).toBe(node);
    }
  });

  test("of names that leads nowhere is the root's", () => {
    expect(nodeOfPath(tree, [1, 7])).toBe(0);
    expect(nodeOfPath(tree, [])).toBe(0);
  });
});
