// A function's name in a box that may be too narrow: its scope is cut first, so that the function's own name stays.

import { element } from "./dom";
import { withoutScope } from "./shorten";

/** `short` as the content of a flex box: scope and name. */
export function nameParts(short: string): HTMLElement[] {
  let own = withoutScope(short);
  let scope = short.slice(0, short.length - own.length);
  if (scope.endsWith("::")) {
    own = `::${own}`;
    scope = scope.slice(0, -2);
  }
  const parts = scope ? [element("span", { class: "scope" }, scope)] : [];
  return [...parts, element("span", { class: "own" }, own)];
}
