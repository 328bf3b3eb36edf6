import { expect, test } from "vitest";
import { baseName, NameTable } from "../src/names";
import { FUNCTIONS, meta } from "./pages";

const names = new NameTable(meta());

test("functions come first, then threads, then commands", () => {
  expect(names.text).toEqual([...FUNCTIONS, "prog/10", "prog/11", "cat/20", "prog", "cat"]);
  expect([...names.threadName].map((name) => names.text[name])).toEqual(["prog/10", "prog/11", "cat/20"]);
  expect([...names.commName].map((name) => names.text[name])).toEqual(["prog", "prog", "cat"]);
});

test("the rank is the alphabetical position", () => {
  const sorted = [...names.text].sort();
  expect(names.text.map((_, name) => sorted[names.rank[name]])).toEqual(names.text);
});

test("a name without a symbol is unknown, whatever its file's kind; the root counts as a thread", () => {
  expect(names.kind.slice(0, 8)).toEqual([
    "thread",
    "user",
    "inlined",
    "kernel",
    "unknown",
    "unknown",
    "unknown",
    "thread",
  ]);
});

test("a kind that this page does not know is unknown", () => {
  const odd = meta();
  odd.names = { ...odd.names, kinds: ["root", "quantum", "kernel"] };
  expect(new NameTable(odd).kind[1]).toBe("unknown");
});

test("of an address in a file the label leaves the directory out", () => {
  expect(names.label[6]).toBe("libz.so+0xab");
  expect(names.label[1]).toBe("main");
});

test("a thread is in no module", () => {
  expect(names.module(1)).toBe("/usr/bin/prog");
  expect(names.module(FUNCTIONS.length)).toBe("");
  expect(names.file(FUNCTIONS.length)).toBe("");
});

test.each([
  ["/usr/lib/libc.so", "libc.so"],
  ["plain", "plain"],
  ["/ends/", "/ends/"],
])("the last part of %s is %s", (path, last) => {
  expect(baseName(path)).toBe(last);
});
