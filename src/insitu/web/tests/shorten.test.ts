// The cases are also those of tests/unit/test_function_names.py: pages and terminal shorten alike.

import { describe, expect, test } from "vitest";
import cases from "../../../../tests/unit/function_names.json";
import { moduleLabels, nameForms, shortName, toldApart } from "../src/shorten";

test.each(Object.entries(cases.shorter))("the ever shorter forms of %s", (name, forms) => {
  expect(nameForms(name)).toEqual([name, ...forms]);
});

test.each(cases.apart)("names that shorten alike are told apart: $names", ({ names, modules, shown }) => {
  expect(toldApart(names, modules)).toEqual(shown);
});

test.each(cases.modules)("modules of one file name are told apart: $paths", ({ paths, labels }) => {
  expect(moduleLabels(paths)).toEqual(labels);
});

describe("a hostile name", () => {
  test.each(["(", "<", "[", "{", "operator", "f<", "a::", " -> ", " ", "a:/"])(
    "of many %s is dealt with at once",
    (part) => {
      const name = part.repeat(50_000);
      expect(shortName(name).length).toBeLessThanOrEqual(name.length);
    },
  );

  test("that nests deep is not shortened", () => {
    const name = `f${"<a".repeat(900)}${">".repeat(900)}`;
    expect(nameForms(name)).toEqual([name]);
  });
});
