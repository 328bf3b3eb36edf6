import { describe, expect, test } from "vitest";
import { Measure, plainName, shorterForms } from "../src/label";

describe("the plain name", () => {
  test.each([
    ["main", "main"],
    ["std::vector<int, std::allocator<int> >::push_back(int const&)", "std::vector::push_back"],
    ["ns::f(std::pair<a, b>) const", "ns::f"],
    ["<alloc::vec::Vec<T> as core::clone::Clone>::clone", "alloc::vec::Vec::clone"],
    ["ns::Klass::operator()(int)", "ns::Klass::operator()"],
    ["operator<<(std::ostream&, int)", "operator<<"],
    ["bool ns::operator<(a<b> const&, a<b> const&)", "bool ns::operator<"],
    ["JS:*sort /srv/app.js:8:19", "JS:*sort"],
    ["py::sort:/srv/app.py", "py::sort"],
    ["f [clone .cold]", "f"],
    ["[unknown]", "[unknown]"],
    ["(garbage collector)", "(garbage collector)"],
  ])("of %s is %s", (name, plain) => {
    expect(plainName(name)).toBe(plain);
  });

  test("of a name whose brackets do not match is not cut", () => {
    expect(plainName("a<b::c")).toBe("a<b::c");
    expect(plainName("a>b::c")).toBe("a>b::c");
  });

  test("takes the arrow of a pointer for no bracket", () => {
    expect(plainName("f<g->h>(int)")).toBe("f");
  });
});

test("each shorter form is shorter than the one before it, and the last is the function alone", () => {
  const forms = shorterForms("ns::Klass<int>::method(std::string const&) const");
  expect(forms).toEqual([
    "ns::Klass<int>::method(std::string const&) const",
    "ns::Klass<int>::method",
    "ns::Klass::method",
    "method",
  ]);
  expect(shorterForms("read")).toEqual(["read"]);
});

test("an operator keeps its class, without which it says nothing", () => {
  expect(shorterForms("ns::Klass::operator()(int)").at(-1)).toBe("Klass::operator()");
});

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
