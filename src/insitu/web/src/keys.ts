// The keys of a flame graph, and what they do.

import { typing } from "./dom";
import type { FlamePanel } from "./panel";
import type { Keys } from "./shell";

export const FLAME_KEYS: Keys = [
  ["/ Ctrl+F", "search by regular expression (smart case)"],
  ["← → ↑ ↓", "move between frames"],
  ["Enter", "zoom into the frame"],
  ["Esc", "leave the search field, then the zoom, then the search"],
  ["Home", "reset the zoom"],
  ["i", "flame or icicle: root at the bottom or on top"],
  ["r", "top-down (callees) or bottom-up (callers)"],
  ["f", "table of functions"],
  ["t", "light or dark"],
  ["?", "this help"],
];

/** Keys that work wherever the focus is. */
export function listenForKeys(panel: FlamePanel): void {
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const { search } = panel.toolbar;
    if (event.key === "f" && (event.ctrlKey || event.metaKey) && document.activeElement !== search) {
      event.preventDefault();
      search.select();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === search && (event.key === "Escape" || event.key === "Enter")) {
      event.preventDefault();
      panel.graph.element.focus();
      return;
    }
    if (typing(event.target)) return;
    if (event.key === "/") {
      event.preventDefault();
      search.select();
    } else if (event.key === "Escape") panel.escape();
    else if (event.key === "i") panel.toolbar.toggle("icicle");
    else if (event.key === "r") panel.toolbar.toggle("reverse");
    else if (event.key === "f") panel.toolbar.toggleFunctions();
  });
}
