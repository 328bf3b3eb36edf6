import { expect, test } from "vitest";
import { functionSums, searchNames, waitsAsLeaves } from "../src/functions";
import { NameTable } from "../src/names";
import { layOut } from "../src/tree";
import { meta } from "./pages";

// "parse" as a call and, inlined, within itself; another file has a "parse" of its own.
const names = new NameTable(
  meta({
    names: {
      function: ["root", "main", "parse", "parse", "parse"],
      module: [0, 1, 1, 1, 2],
      kind: [0, 1, 1, 1, 1],
      inlined: [0, 0, 0, 1, 0],
      symbolized: [1, 1, 1, 1, 1],
      file: [0, 0, 0, 0, 0],
      modules: ["", "prog", "lib.so"],
      kinds: ["root", "user"],
      files: [""],
    },
    threads: { tid: [], pid: [], comm: [] },
  }),
);

test("a function's inlined copies are the function, one of another module is not", () => {
  expect([...names.same]).toEqual([0, 1, 2, 2, 4]);
  // root - main - parse (3) - parse inlined (4) - main (0) - parse of lib.so (5)
  const tree = layOut(
    {
      parent: Int32Array.of(0, 0, 1, 2, 3, 4),
      name: Int32Array.of(0, 1, 2, 3, 1, 4),
      own: Float64Array.of(0, 0, 3, 4, 0, 5),
      ownBefore: null,
    },
    "weight",
    names.rank,
    false,
  );
  const sums = functionSums(tree, names.same);
  expect([...sums.self]).toEqual([0, 0, 7, 0, 5]);
  expect([...sums.total]).toEqual([0, 12, 12, 0, 5]);
});

test("the stack of a waker costs nothing: the wait below it is the leaf", () => {
  // root - main - wait (2) - two frames of a waker, the first of which is main again (3, 4)
  const tree = layOut(
    {
      parent: Int32Array.of(0, 0, 1, 2, 3),
      name: Int32Array.of(0, 1, 2, 3, 4),
      own: Float64Array.of(0, 0, 2, 3, 4),
      ownBefore: null,
    },
    "weight",
    names.rank,
    false,
  );
  const sums = functionSums(tree, Int32Array.of(0, 1, 2, 1, 4), ["thread", "user", "blocked", "waker", "waker"]);
  expect([...sums.self]).toEqual([0, 0, 9, 0, 0]);
  expect([...sums.total]).toEqual([0, 9, 9, 0, 0]);
});

test("a search counts functions, not their copies", () => {
  const found = searchNames(names.text, names.same, "parse");
  expect(found.functions).toBe(2);
  expect([...found.matches]).toEqual([0, 0, 1, 1, 1]);
});

test("a waker's frames are so whether they are inlined or have no symbol; bottom-up begins with the wait", () => {
  const page = new NameTable(
    meta({
      names: {
        function: ["root", "main", "[futex 0x10]", "futex_wake", "libc.so.6+0x12"],
        module: [0, 0, 0, 0, 0],
        kind: [0, 1, 2, 3, 3],
        inlined: [0, 0, 0, 1, 0],
        symbolized: [1, 1, 1, 1, 0],
        file: [0, 0, 0, 0, 0],
        modules: [""],
        kinds: ["root", "user", "blocked", "waker"],
        files: [""],
      },
      threads: { tid: [], pid: [], comm: [] },
    }),
  );
  // root - main - wait (2), with 1 alone and 8 below two frames of the waker (3, 4)
  const shape = {
    parent: Int32Array.of(0, 0, 1, 2, 3),
    name: Int32Array.of(0, 1, 2, 3, 4),
    own: Float64Array.of(0, 0, 1, 0, 8),
    ownBefore: null,
  };
  const tree = layOut(shape, "weight", page.rank, false);
  expect([...functionSums(tree, page.same, page.kind).self]).toEqual([0, 0, 9, 0, 0]);
  const { own } = waitsAsLeaves(shape, page.kind);
  expect([...own]).toEqual([0, 0, 9, 0, 0]);
  expect([...shape.own]).toEqual([0, 0, 1, 0, 8]);
});
