// The timeline: CPUs and threads as tracks, and beside them what is selected.

import { readPage } from "../data";
import { TIMELINE_ARRAYS, type TimelineData } from "../schema";
import { openAnyPage } from "../shell";
import { TimelinePanel } from "../timeline/panel";
import { TIMELINE_KEYS } from "../timeline/pointer";

const READING =
  "Time runs from left to right. Each track is a CPU, or a thread with its states, spans, samples and events. " +
  "Where more happened than a pixel can show, its height is shared: green is the part of the time on a CPU, yellow " +
  "waiting for one, red blocked. Click for details, drag for statistics of a range of time.";

let shown: TimelinePanel | null = null;

/** Resolves once the page is drawn; for scripts that drive the page. */
export const ready = openAnyPage(
  () => readPage<TimelineData>(TIMELINE_ARRAYS),
  () => READING,
  TIMELINE_KEYS,
  ({ data, state, theme, fill }) => {
    shown = new TimelinePanel(data, state, theme);
    fill(shown.element);
    shown.canvas.draw();
  },
);

export const panel = (): TimelinePanel | null => shown;

/** Where the middle of a time is in a track, in pixels of the window, after scrolling to it. */
export function place(track: string, time: number, lane = 0): { x: number; y: number } | null {
  if (!shown) return null;
  const { canvas } = shown;
  canvas.reveal(track);
  const found = canvas.visible().find(({ placed }) => placed.track.id === track);
  if (!found) return null;
  const box = canvas.element.getBoundingClientRect();
  const { type, height } = found.placed.track;
  const y = type === "spans" ? found.top + 10 + 18 * lane : found.top + height / 2;
  return { x: box.left + canvas.x(time), y: box.top + y };
}
