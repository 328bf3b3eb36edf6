// Small pages for tests, with numbers that can be added up by hand.

import type { Meta, PageData } from "../src/data";

export const FUNCTIONS = ["root", "main", "parse", "read", "[unknown]", "libc.so.6+0x1234", "/usr/lib/libz.so+0xab"];

export function meta(more: Partial<Meta> = {}): Meta {
  const none = FUNCTIONS.map(() => 0);
  return {
    mode: "flame",
    title: "",
    subtitle: "",
    notes: [],
    losses: {},
    unit: "samples",
    counted: "samples",
    names: {
      function: FUNCTIONS,
      module: [0, 1, 1, 2, 0, 0, 0],
      kind: [0, 1, 1, 2, 1, 1, 1],
      inlined: [0, 0, 1, 0, 0, 0, 0],
      symbolized: [1, 1, 1, 1, 0, 0, 0],
      file: none,
      modules: ["", "/usr/bin/prog", "[kernel]"],
      kinds: ["root", "user", "kernel"],
      files: [""],
    },
    threads: { tid: [10, 11, 20], pid: [10, 10, 20], comm: ["prog", "prog", "cat"] },
    reverse: false,
    icicle: false,
    minWidth: 0.5,
    ...more,
  };
}

/**
 * Two stacks under main, and one that is main alone:
 *
 *     root ── main ┬─ parse          thread 10: 3 in cell 0, thread 20: 4 in cell 2
 *                  └─ read ── parse  thread 11: 2 in cell 1
 *
 * main has 1 of its own, thread 10 in cell 1.
 */
export function page(more: Partial<PageData> = {}): PageData {
  return {
    meta: meta(),
    parent: Int32Array.of(0, 0, 1, 1, 3),
    name: Int32Array.of(0, 1, 2, 3, 2),
    entryNode: Int32Array.of(2, 1, 4, 2),
    entryGroup: Int32Array.of(0, 0, 1, 2),
    entryCount: Float64Array.of(3, 1, 2, 4),
    entryBefore: null,
    entryCell: Int32Array.of(0, 1, 1, 2),
    ...more,
  };
}

export const ALL = { groups: null, cells: null };
