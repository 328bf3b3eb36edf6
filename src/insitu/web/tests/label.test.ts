import { describe, expect, test } from "vitest";
import { Measure } from "../src/label";

describe("in a font in which every character is 10 pixels wide", () => {
  const context = { measureText: (text: string) => ({ width: 10 * [...text].length }) } as CanvasRenderingContext2D;
  const measure = new Measure(context);

  test("the longest form that fits is taken", () => {
    expect(measure.fit("ns::method(int)", 150)).toBe("ns::method(int)");
    expect(measure.fit("ns::method(int)", 149)).toBe("ns::method");
    expect(measure.fit("ns::method(int)", 60)).toBe("method");
  });

  test("what is too long loses its end, an address its beginning", () => {
    expect(measure.fit("a_long_name", 50)).toBe("a_lo…");
    expect(measure.fit("libc.so.6+0x1234", 60)).toBe("…x1234");
  });

  test("what is cut within brackets loses them", () => {
    expect(measure.fit("std::map<int, int>::map", 40)).toBe("map");
    expect(measure.fit("std::a_map<int>", 80)).toBe("a_map<…>");
    expect(measure.fit("std::a_map<int>", 79)).toBe("a_map…");
    expect(measure.fit("std::a_map<int>", 70)).toBe("a_map…");
  });

  test("less than two characters are not shown", () => {
    expect(measure.fit("a_long_name", 30)).toBe("a_…");
    expect(measure.fit("a_long_name", 29)).toBe("");
    expect(measure.fit("libc.so.6+0x1234", 29)).toBe("");
  });

  test("a character outside ASCII, too, is as wide as the font has it", () => {
    expect(measure.fit("äöü€x", 50)).toBe("äöü€x");
    expect(measure.fit("äöü€x", 49)).toBe("äöü…");
  });
});
