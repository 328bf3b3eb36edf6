// Keys and the pointer of the timeline, as users of ui.perfetto.dev expect them.

import { element, typing } from "../dom";
import type { Keys } from "../shell";
import type { Point } from "./canvas";
import type { TimelinePanel } from "./panel";
import { Tooltip } from "../pointer";
import { length } from "./viewport";

export const TIMELINE_KEYS: Keys = [
  ["w s", "zoom in and out; so does the wheel with Ctrl"],
  ["a d", "pan left and right; so do ← → and the wheel with Shift"],
  ["↑ ↓", "scroll the tracks; so does the wheel"],
  ["f", "zoom to the selection"],
  ["0", "show the whole recording"],
  ["/ Ctrl+F", "search by regular expression (smart case)"],
  ["Enter", "next match; with Shift the previous one"],
  [", .", "previous and next on the track"],
  ["[ ]", "follow a wakeup: to the waker, to the thread woken"],
  ["p", "pin the selected track to the top"],
  ["c", "collapse or expand all"],
  ["Esc", "leave the field, then the selection"],
  ["t", "light or dark"],
  ["?", "this help"],
];

const PAN_PER_S = 1.1;
const ZOOM_PER_S = 6;
/** Less than that many pixels are a click. */
const DRAG = 4;

export function listen(panel: TimelinePanel): void {
  listenForPointer(panel);
  listenForKeys(panel);
}

function listenForPointer(panel: TimelinePanel): void {
  const { canvas } = panel;
  const area = canvas.element;
  const tooltip = new Tooltip();
  let pressed: { x: number; y: number; point: Point; view: { from: number; to: number }; pans: boolean } | null =
    null;
  let dragged = false;

  area.addEventListener(
    "wheel",
    (event) => {
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey || event.metaKey) {
        const box = area.getBoundingClientRect();
        panel.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 250))), canvas.time(event.clientX - box.left));
      } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) panel.pan(sideways / 1000);
      else return;
      tooltip.hide();
      event.preventDefault();
    },
    { passive: false },
  );

  area.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    const point = canvas.hit(event.clientX, event.clientY);
    pressed = {
      x: event.clientX,
      y: event.clientY,
      point,
      view: { ...canvas.view },
      pans: event.shiftKey || event.button === 1,
    };
    dragged = false;
    area.setPointerCapture(event.pointerId);
    if (point.part === "overview") centre(panel, point.time);
    if (event.button === 1) event.preventDefault();
  });

  area.addEventListener("pointermove", (event) => {
    const point = canvas.hit(event.clientX, event.clientY);
    if (!pressed) return hover(panel, tooltip, event, point);
    dragged ||= Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > DRAG;
    if (!dragged || pressed.point.part === "label") return;
    tooltip.hide();
    if (pressed.point.part === "overview") centre(panel, canvas.overviewTime(event.clientX));
    else if (pressed.pans || event.pointerType === "touch") {
      const { from, to } = pressed.view;
      const by = ((pressed.x - event.clientX) / (area.clientWidth - canvas.labels)) * (to - from);
      panel.look({ from: from + by, to: to + by });
    } else {
      const box = area.getBoundingClientRect();
      const [a, b] = [pressed.point.time, canvas.time(event.clientX - box.left)].map((t) =>
        Math.min(Math.max(t, 0), panel.model.end),
      );
      canvas.range = { from: Math.round(Math.min(a, b)), to: Math.round(Math.max(a, b)) };
      canvas.schedule();
    }
  });

  area.addEventListener("pointerup", () => {
    const was = pressed;
    pressed = null;
    if (!was || was.point.part === "overview") return;
    if (dragged) {
      const { range } = canvas;
      if (!was.pans && was.point.part !== "label" && range) panel.selectRange(range.to > range.from ? range : null);
      return;
    }
    const { placed, part, row, pin } = was.point;
    if (part === "label" && placed?.track.type === "group") panel.toggleGroup(placed.track.id);
    else if (part === "label" && placed && pin) panel.togglePin(placed.track.id);
    else if (part === "label" && placed?.track.type === "cpu") panel.showHostThread(placed.track.of);
    else if (part === "plot" && placed?.track.type === "group") panel.toggleGroup(placed.track.id);
    else if (part === "plot") panel.select(row);
    tooltip.hide();
  });
  area.addEventListener("pointercancel", () => {
    pressed = null;
  });
  area.addEventListener("pointerleave", () => {
    tooltip.hide();
    canvas.hovered = null;
    canvas.schedule();
  });
  area.addEventListener("dblclick", () => panel.fit());
}

function centre(panel: TimelinePanel, time: number): void {
  const { from, to } = panel.canvas.view;
  panel.look({ from: time - (to - from) / 2, to: time + (to - from) / 2 });
}

function hover(panel: TimelinePanel, tooltip: Tooltip, event: PointerEvent, point: Point): void {
  const { canvas, model } = panel;
  const before = canvas.hovered;
  canvas.hovered = point;
  if (before?.placed?.track !== point.placed?.track) canvas.schedule();
  const track = point.placed?.track;
  const leads = point.part === "label" && track?.type === "cpu" && model.hostThread(track.of);
  const clickable = point.row || point.pin || track?.type === "group" || leads;
  canvas.element.style.cursor = clickable ? "pointer" : point.part === "overview" ? "ew-resize" : "";
  if (event.pointerType === "touch") return;
  if (point.row) {
    const thread = model.threadOf(point.row);
    const duration = model.duration(point.row);
    const title = model.name(point.row);
    tooltip.show(
      event,
      element("strong", {}, title),
      thread ? element("span", { class: "quiet" }, model.thread(thread)) : null,
      duration ? element("span", {}, length(duration)) : null,
      model.text(point.row) ? element("em", {}, model.text(point.row).slice(0, 300)) : null,
    );
  } else if (point.part === "label" && track) {
    tooltip.show(
      event,
      element("strong", {}, track.name),
      track.hint ? element("span", { class: "quiet" }, track.hint) : null,
      leads ? element("em", {}, "Click for that thread") : null,
    );
  } else tooltip.hide();
}

function listenForKeys(panel: TimelinePanel): void {
  const { canvas, searchField, filterField } = panel;
  const held = new Set<string>();
  let frame = 0;
  let last = 0;
  const glide = (now: number): void => {
    const seconds = Math.min(0.05, (now - last) / 1000);
    last = now;
    const pan = Number(held.has("d") || held.has("ArrowRight")) - Number(held.has("a") || held.has("ArrowLeft"));
    const zoom = Number(held.has("s")) - Number(held.has("w"));
    if (pan) panel.pan(pan * PAN_PER_S * seconds);
    if (zoom) {
      const pointed = canvas.hovered?.part === "plot" ? canvas.hovered.time : undefined;
      panel.zoom(ZOOM_PER_S ** (zoom * seconds), pointed);
    }
    frame = held.size ? requestAnimationFrame(glide) : 0;
  };
  const hold = (key: string): void => {
    if (held.has(key)) return;
    held.add(key);
    // The first step is seen at once, however short the key was pressed.
    if (key === "w" || key === "s")
      panel.zoom(key === "w" ? 1 / 1.2 : 1.2, canvas.hovered?.part === "plot" ? canvas.hovered.time : undefined);
    else panel.pan(key === "d" || key === "ArrowRight" ? 0.08 : -0.08);
    if (!frame) {
      last = performance.now();
      frame = requestAnimationFrame(glide);
    }
  };
  addEventListener("keyup", (event) => held.delete(event.key.length === 1 ? event.key.toLowerCase() : event.key));
  addEventListener("blur", () => held.clear());
  const actions: Record<string, () => void> = {
    ArrowUp: () => canvas.element.scrollBy(0, -60),
    ArrowDown: () => canvas.element.scrollBy(0, 60),
    f: () => panel.fit(),
    "0": () => panel.look({ from: 0, to: panel.model.end }),
    Home: () => panel.look({ from: 0, to: panel.model.end }),
    "/": () => searchField.select(),
    ",": () => panel.move(-1),
    ".": () => panel.move(1),
    "[": () => panel.follow(true),
    "]": () => panel.follow(false),
    c: () => panel.toggleAll(),
    p: () => {
      const track = canvas.selected ? panel.trackOf(canvas.selected) : canvas.hovered?.placed?.track;
      if (track) panel.togglePin(track.id);
    },
    Escape: () => panel.selectRange(null),
  };
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "f" && (event.ctrlKey || event.metaKey) && document.activeElement !== searchField) {
      event.preventDefault();
      searchField.select();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === searchField && event.key === "Enter") {
      event.preventDefault();
      panel.step(event.shiftKey);
    } else if ((event.target === searchField || event.target === filterField) && event.key === "Escape") {
      event.preventDefault();
      canvas.element.focus();
    } else if (typing(event.target)) return;
    else if (event.key === "Enter") {
      if (event.target instanceof HTMLButtonElement) return;
      panel.step(event.shiftKey);
    } else if (["w", "a", "s", "d", "ArrowLeft", "ArrowRight"].includes(event.key)) {
      event.preventDefault();
      hold(event.key);
    } else if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    }
  });
}
