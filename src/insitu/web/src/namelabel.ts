// A function's name in a box that may be too narrow: its scope goes first, then the end of its own first part, so that
// template arguments keep both brackets and operators stay whole.

import { element } from "./dom";
import { withoutScope } from "./shorten";

/** After a class or function: that it has arguments, and which operator of it the function is. */
const TAIL = /(?:<…>)?(?:::operator.*)?$/u;

/** `short` as the content of a flex box: scope and name, of which the class "cut" may lose its end. */
export function nameParts(short: string): HTMLElement[] {
  let own = withoutScope(short);
  let scope = short.slice(0, short.length - own.length);
  if (scope.endsWith("::")) {
    own = `::${own}`;
    scope = scope.slice(0, -2);
  }
  const parts = scope ? [element("span", { class: "scope" }, scope)] : [];
  const tail = TAIL.exec(own)?.[0] ?? "";
  const head = element("span", { class: "cut" }, own.slice(0, own.length - tail.length));
  return [...parts, element("span", { class: "own" }, head, tail ? element("span", {}, tail) : "")];
}
