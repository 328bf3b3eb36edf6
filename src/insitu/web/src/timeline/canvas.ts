// The canvas of the timeline: overview, ruler, pinned tracks and those that scroll; and what is at a point of it.

import { element } from "../dom";
import type { ThemeSwitch } from "../theme";
import { coloursOf, type Colours } from "./colours";
import type { Kind, Model, Row } from "./model";
import { Overlay } from "./overlay";
import { Overview } from "./overview";
import { Painter } from "./paint";
import { Raster } from "./raster";
import { LANE, type Layout, type Placed, threadOf } from "./tracks";
import type { Span } from "./viewport";

export const OVERVIEW = 40;
export const RULER = 24;
export const HEAD = OVERVIEW + RULER;
/** So many pixels to each side of the pointer a narrow row is found. */
const REACH = 3;

export const KINDS: Partial<Record<Placed["track"]["type"], Kind>> = {
  cpu: "state",
  state: "state",
  spans: "span",
  samples: "sample",
  events: "event",
  counter: "counter",
};

/** A track that can be seen, from where on it is drawn, and what is hidden of it. */
export interface Shown {
  placed: Placed;
  top: number;
  clip: number;
}

export interface Point {
  part: "overview" | "ruler" | "label" | "plot";
  /** Since the recording's start. */
  time: number;
  placed: Placed | null;
  row: Row | null;
  /** Whether it is the place in a label that pins the track. */
  pin: boolean;
}

export class TimelineCanvas {
  readonly element = element("div", {
    class: "graph tracks",
    tabindex: 0,
    role: "application",
    "aria-roledescription": "timeline",
  });
  private readonly canvas = element("canvas", { "aria-hidden": "true" });
  private readonly spacer = element("div", { class: "spacer" });
  private readonly context: CanvasRenderingContext2D;
  private readonly raster = new Raster();
  private readonly painter: Painter;
  private readonly overlay: Overlay;
  readonly overview: Overview;
  colours: Colours;
  /** What the raster was painted for. */
  private drawn: unknown[] = [];
  private scheduled = 0;
  private layout: Layout = { pinned: [], pinnedHeight: 0, rest: [], height: 0, wanted: new Set() };
  view: Span;
  selected: Row | null = null;
  range: Span | null = null;
  matched: Set<number> = new Set();
  hovered: Point | null = null;
  collapsed: Set<string> = new Set();
  pinned: Set<string> = new Set();
  arrows = true;
  /** Of the last drawings, in milliseconds. */
  drawMs: number[] = [];

  constructor(
    private readonly model: Model,
    private readonly theme: ThemeSwitch,
  ) {
    this.view = { from: 0, to: model.end };
    this.element.append(this.spacer, this.canvas);
    this.context = this.canvas.getContext("2d", { alpha: false }) as CanvasRenderingContext2D;
    this.colours = coloursOf(theme.current, model.data.meta.states);
    this.painter = new Painter(model, this.raster, this.colours, 1);
    this.overview = new Overview(model);
    this.overlay = new Overlay(this, model, this.context);
    this.element.addEventListener("scroll", () => this.schedule(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.element);
    theme.onChange(() => {
      this.colours = coloursOf(this.theme.current, model.data.meta.states);
      this.painter.recolour(this.colours);
      this.schedule();
    });
  }

  show(layout: Layout): void {
    this.layout = layout;
    this.spacer.style.height = `${HEAD + layout.pinnedHeight + layout.height + 8}px`;
    this.schedule();
  }

  schedule(): void {
    this.scheduled ||= requestAnimationFrame(() => this.draw());
  }

  /** The width of the names beside the tracks. */
  get labels(): number {
    return this.element.clientWidth < 700 ? 150 : 230;
  }

  /** The width of the tracks. */
  get plot(): number {
    return Math.max(1, this.element.clientWidth - this.labels);
  }

  x(t: number): number {
    return this.labels + ((t - this.view.from) / (this.view.to - this.view.from)) * this.plot;
  }

  time(x: number): number {
    return this.view.from + ((x - this.labels) / this.plot) * (this.view.to - this.view.from);
  }

  /** The tracks that can be seen, and from where on they are drawn. */
  visible(): Shown[] {
    const { pinned, pinnedHeight, rest } = this.layout;
    const height = this.element.clientHeight;
    const from = this.element.scrollTop;
    let low = 0;
    let high = rest.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rest[middle].y + rest[middle].track.height <= from) low = middle + 1;
      else high = middle;
    }
    const found = pinned.map((placed) => ({ placed, top: HEAD + placed.y, clip: HEAD }));
    for (let at = low; at < rest.length; at++) {
      const top = HEAD + pinnedHeight + rest[at].y - from;
      if (top > height) break;
      found.push({ placed: rest[at], top, clip: HEAD + pinnedHeight });
    }
    return found;
  }

  /** Scroll so that a track can be seen. */
  reveal(id: string): void {
    if (this.pinned.has(id)) return;
    const placed = this.layout.rest.find(({ track }) => track.id === id);
    if (!placed) return;
    const room = this.element.clientHeight - HEAD - this.layout.pinnedHeight;
    const from = this.element.scrollTop;
    if (placed.y < from || placed.y + placed.track.height > from + room)
      this.element.scrollTop = placed.y - Math.max(0, room - placed.track.height) / 2;
  }

  /** The time of the whole recording at a place of the overview. */
  overviewTime(clientX: number): number {
    const x = clientX - this.canvas.getBoundingClientRect().left;
    return this.overview.time(x, this.labels, this.plot);
  }

  hit(clientX: number, clientY: number): Point {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [clientX - box.left, clientY - box.top];
    const time = this.time(x);
    const point: Point = { part: "plot", time, placed: null, row: null, pin: false };
    if (y < OVERVIEW) return { ...point, part: "overview", time: this.overviewTime(clientX) };
    if (y < HEAD) return { ...point, part: "ruler" };
    const found = this.visible().find(
      ({ placed, top, clip }) => y >= Math.max(top, clip) && y < top + placed.track.height,
    );
    if (!found) return point;
    const { placed, top } = found;
    if (x < this.labels) return { ...point, part: "label", placed, pin: x > this.labels - 26 };
    return { ...point, placed, row: this.rowAt(placed, time, y - top) };
  }

  private rowAt({ track }: Placed, time: number, y: number): Row | null {
    const kind = KINDS[track.type];
    const lane = track.lanes[track.type === "spans" ? Math.floor((y - 1) / LANE) : 0];
    if (!kind || !lane) return null;
    const near = (REACH * (this.view.to - this.view.from)) / this.plot;
    if (!lane.duration) {
      // Of a counter the last value, of moments the nearest.
      const next = lane.firstFrom(time);
      if (kind === "counter") return next ? { kind, row: lane.rows[next - 1] } : null;
      const distance = (at: number): number =>
        at >= 0 && at < lane.length ? Math.abs(lane.start(at) - time) : 1 / 0;
      const best = distance(next - 1) < distance(next) ? next - 1 : next;
      return distance(best) <= near ? { kind, row: lane.rows[best] } : null;
    }
    const at = lane.at(time);
    if (at >= 0 && lane.end(at) - lane.start(at) > near) return { kind, row: lane.rows[at] };
    const [first, last] = [lane.firstFrom(time - near), lane.firstFrom(time + near)];
    if (last > first) return { kind, row: lane.rows[lane.longest(first, last)] };
    return at >= 0 ? { kind, row: lane.rows[at] } : null;
  }

  draw(): void {
    cancelAnimationFrame(this.scheduled);
    this.scheduled = 0;
    const begun = performance.now();
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    const scale = devicePixelRatio || 1;
    if (!width || !height) return;
    const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      this.canvas.width = wide;
      this.canvas.height = high;
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
    }
    const shown = this.visible();
    // A pointer that moves, or what is selected, changes nothing of the tracks' boxes.
    const { view, colours, layout, matched } = this;
    const key = [view.from, view.to, this.element.scrollTop, wide, high, colours, layout, matched];
    if (key.some((each, at) => each !== this.drawn[at])) this.paint(shown, wide, high, scale);
    this.drawn = key;
    this.raster.put(this.context);
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.overlay.draw(shown, this.painter.labels, scale);
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.drawMs.push(performance.now() - begun);
    if (this.drawMs.length > 4096) this.drawMs.splice(0, 2048);
  }

  /** Draw the boxes of the tracks and the overview into the raster. */
  private paint(shown: Shown[], wide: number, high: number, scale: number): void {
    const { raster, painter, colours } = this;
    raster.resize(wide, high);
    raster.clear(colours.stage);
    painter.scale = scale;
    painter.labels = [];
    const left = Math.round(this.labels * scale);
    for (const { placed, top, clip } of shown) {
      const { track } = placed;
      const strip = {
        left,
        right: wide,
        top: Math.round(top * scale),
        bottom: Math.round((top + track.height) * scale),
        clip: Math.round(clip * scale),
      };
      if (track.type === "group") raster.box(0, strip.top, wide, strip.bottom, colours.group, strip.clip);
      if (this.matched.size && track.depth === 1 && this.matched.has(threadOf(this.model, track)))
        raster.box(0, strip.top, Math.round(3 * scale), strip.bottom, colours.match, strip.clip);
      painter.draw(track, strip, this.view, this.collapsed.has(track.id));
      raster.box(0, strip.bottom - 1, wide, strip.bottom, colours.line, strip.clip);
    }
    raster.box(left - 1, Math.round(HEAD * scale), left, high, colours.line);
    this.overview.draw(raster, colours, left, wide, Math.round(OVERVIEW * scale));
  }
}
