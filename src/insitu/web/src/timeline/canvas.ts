// The canvas of the timeline: overview, ruler, pinned tracks and those that scroll; and what is at a point of it.

import { element } from "../dom";
import { brief } from "../format";
import { Measure } from "../label";
import type { ThemeSwitch } from "../theme";
import { coloursOf, type Colours } from "./colours";
import type { Kind, Model, Row } from "./model";
import { Overview } from "./overview";
import { Painter } from "./paint";
import { Raster } from "./raster";
import { LANE, type Layout, type Placed, threadOf } from "./tracks";
import { length, moment, tickStep, type Span } from "./viewport";

export const OVERVIEW = 40;
const RULER = 24;
const HEAD = OVERVIEW + RULER;
const FONT = '11.5px Inter, "Segoe UI", Roboto, "Helvetica Neue", Arial, system-ui, sans-serif';
const BOLD = `600 ${FONT}`;
const MOST_ARROWS = 400;
/** Of a row that is selected, from its left to its right neighbour in pixels: where a narrow one is found. */
const REACH = 3;

const KINDS: Partial<Record<Placed["track"]["type"], Kind>> = {
  cpu: "state",
  state: "state",
  spans: "span",
  samples: "sample",
  events: "event",
  counter: "counter",
};

export interface Point {
  part: "overview" | "ruler" | "label" | "plot";
  /** Since the recording's start. */
  time: number;
  placed: Placed | null;
  row: Row | null;
  /** Within the label: what is at the pointer. */
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
  private readonly measure: Measure;
  private readonly painter: Painter;
  private readonly overview: Overview;
  private colours: Colours;
  private scheduled = 0;
  private layout: Layout = { pinned: [], pinnedHeight: 0, rest: [], height: 0 };
  view: Span;
  selected: Row | null = null;
  range: Span | null = null;
  matched: Set<number> = new Set();
  hovered: Point | null = null;
  collapsed: Set<string> = new Set();
  pinned: Set<string> = new Set();
  arrows = true;
  /** Of the drawings since the last look at it, in milliseconds. */
  drawMs: number[] = [];

  constructor(
    private readonly model: Model,
    private readonly theme: ThemeSwitch,
  ) {
    this.view = { from: 0, to: model.end };
    this.element.append(this.spacer, this.canvas);
    this.context = this.canvas.getContext("2d", { alpha: false }) as CanvasRenderingContext2D;
    this.context.font = FONT;
    this.measure = new Measure(this.context);
    this.colours = coloursOf(theme.current, model.data.meta.states);
    this.painter = new Painter(model, this.raster, this.colours, 1);
    this.overview = new Overview(model);
    this.element.addEventListener("scroll", () => this.schedule(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.element);
    theme.onChange(() => {
      this.colours = this.painter.colours = coloursOf(this.theme.current, model.data.meta.states);
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

  private get plot(): number {
    return Math.max(1, this.element.clientWidth - this.labels);
  }

  x(t: number): number {
    return this.labels + ((t - this.view.from) / (this.view.to - this.view.from)) * this.plot;
  }

  time(x: number): number {
    return this.view.from + ((x - this.labels) / this.plot) * (this.view.to - this.view.from);
  }

  /** The tracks that can be seen, and from where on they are drawn. */
  visible(): { placed: Placed; top: number; clip: number }[] {
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

  hit(clientX: number, clientY: number): Point {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [clientX - box.left, clientY - box.top];
    const time = this.time(x);
    const point: Point = { part: "plot", time, placed: null, row: null, pin: false };
    if (y < OVERVIEW) return { ...point, part: "overview", time: this.overview.time(x, this.labels, this.plot) };
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
    this.raster.resize(wide, high);
    this.raster.clear(this.colours.stage);
    this.painter.scale = scale;
    this.painter.labels = [];
    const left = Math.round(this.labels * scale);
    const shown = this.visible();
    for (const { placed, top, clip } of shown) {
      const { track } = placed;
      const strip = {
        left,
        right: wide,
        top: Math.round(top * scale),
        bottom: Math.round((top + track.height) * scale),
        clip: Math.round(clip * scale),
      };
      const hovered = this.hovered?.placed?.track === track;
      const ground = track.type === "group" ? this.colours.group : hovered ? this.colours.hovered : 0;
      if (ground) this.raster.box(0, strip.top, wide, strip.bottom, ground, strip.clip);
      if (this.matched.size && track.depth === 1 && this.matched.has(threadOf(this.model, track)))
        this.raster.box(0, strip.top, Math.round(3 * scale), strip.bottom, this.colours.match, strip.clip);
      this.painter.draw(track, strip, this.view, this.collapsed.has(track.id));
      this.raster.box(0, strip.bottom - 1, wide, strip.bottom, this.colours.line, strip.clip);
    }
    this.raster.box(left - 1, Math.round(HEAD * scale), left, high, this.colours.line);
    this.overview.draw(this.raster, this.colours, left, wide, Math.round(OVERVIEW * scale));
    this.raster.put(this.context);
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.context.textBaseline = "middle";
    this.drawLabels(shown, scale);
    this.drawArrows(shown);
    this.drawSelection(shown);
    this.drawHead(width);
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.drawMs.push(performance.now() - begun);
    if (this.drawMs.length > 4096) this.drawMs.splice(0, 2048);
  }

  private drawLabels(shown: ReturnType<TimelineCanvas["visible"]>, scale: number): void {
    const { context, colours } = this;
    context.font = FONT;
    context.fillStyle = colours.text;
    for (const { x, width, y, text } of this.painter.labels) {
      const fitting = this.measure.fit(text, width / scale - 8);
      if (fitting) context.fillText(fitting, x / scale + 4, y / scale + 0.5);
    }
    for (const { placed, top, clip } of shown) {
      const { track } = placed;
      context.save();
      context.beginPath();
      context.rect(0, clip, this.labels - 4, this.element.clientHeight);
      context.clip();
      const y = top + Math.min(track.height, 34) / 2 + 0.5;
      const x = track.type === "group" ? 24 : 12 + 12 * track.depth;
      const pinned = this.pinned.has(track.id);
      const pins = track.type !== "group" && (pinned || this.hovered?.placed?.track === track);
      const room = this.labels - x - (pins ? 28 : 8);
      context.font = track.type === "group" ? BOLD : FONT;
      context.fillStyle = track.depth === 2 ? colours.quiet : colours.ink;
      const name = this.measure.fit(track.name, track.type === "group" ? room * 0.94 : room);
      context.fillText(name, x, y);
      const used = context.measureText(name).width + 8;
      if (track.hint && room - used > 24) {
        context.font = FONT;
        context.fillStyle = colours.quiet;
        context.fillText(this.measure.fit(track.hint, room - used), x + used, y);
      }
      if (track.type === "group") this.drawTriangle(12, y, this.collapsed.has(track.id));
      if (pins) this.drawPin(this.labels - 16, y, pinned);
      context.restore();
    }
  }

  private drawTriangle(x: number, y: number, collapsed: boolean): void {
    const { context } = this;
    context.fillStyle = this.colours.quiet;
    context.beginPath();
    if (collapsed) {
      context.moveTo(x - 3, y - 4.5);
      context.lineTo(x + 3.5, y);
      context.lineTo(x - 3, y + 4.5);
    } else {
      context.moveTo(x - 4.5, y - 3);
      context.lineTo(x + 4.5, y - 3);
      context.lineTo(x, y + 3.5);
    }
    context.fill();
  }

  private drawPin(x: number, y: number, pinned: boolean): void {
    const { context } = this;
    context.strokeStyle = context.fillStyle = pinned ? this.colours.accent : this.colours.quiet;
    context.lineWidth = 1.4;
    context.beginPath();
    context.arc(x, y - 2, 3.2, 0, 2 * Math.PI);
    if (pinned) context.fill();
    context.moveTo(x, y + 1.2);
    context.lineTo(x, y + 6);
    context.stroke();
  }

  /** Wakeups that can be seen, if they are not too many: from the one that woke down or up to the one woken. */
  private drawArrows(shown: ReturnType<TimelineCanvas["visible"]>): void {
    const { data } = this.model;
    const middle = new Map<number, number>();
    for (const { placed, top, clip } of shown)
      if (placed.track.type === "state" && top >= clip) middle.set(placed.track.of, top + placed.track.height / 2);
    const draw = (row: number, strong: boolean): void => {
      const waker = data.stateWaker[row];
      const [from, to] = [middle.get(waker), middle.get(data.stateThread[row])];
      if (!waker || from === undefined || to === undefined || from === to) return;
      this.drawArrow(this.x(data.stateTime[row]), from, to, strong);
    };
    if (this.arrows && middle.size > 1) {
      const [first, last] = [bound(data.stateTime, this.view.from), bound(data.stateTime, this.view.to)];
      let waking = 0;
      for (let row = first; row < last && waking <= MOST_ARROWS && row - first < 20 * MOST_ARROWS; row++)
        if (data.stateWaker[row] && middle.has(data.stateThread[row])) waking++;
      if (waking <= MOST_ARROWS && last - first < 20 * MOST_ARROWS)
        for (let row = first; row < last; row++) if (data.stateWaker[row]) draw(row, false);
    }
    if (this.selected?.kind === "state") draw(this.selected.row, true);
  }

  private drawArrow(x: number, from: number, to: number, strong: boolean): void {
    if (x < this.labels || x > this.element.clientWidth) return;
    const { context } = this;
    const up = to < from ? -1 : 1;
    context.strokeStyle = context.fillStyle = strong ? this.colours.accent : this.colours.quiet;
    context.lineWidth = strong ? 1.6 : 1;
    context.globalAlpha = strong ? 1 : 0.75;
    context.beginPath();
    context.moveTo(x + 0.5, from);
    context.lineTo(x + 0.5, to - 7 * up);
    context.stroke();
    context.beginPath();
    context.arc(x + 0.5, from, strong ? 2.5 : 1.8, 0, 2 * Math.PI);
    context.moveTo(x + 0.5, to - 2 * up);
    context.lineTo(x - 3, to - 8 * up);
    context.lineTo(x + 4, to - 8 * up);
    context.fill();
    context.globalAlpha = 1;
  }

  private drawSelection(shown: ReturnType<TimelineCanvas["visible"]>): void {
    const { context, colours } = this;
    for (const { placed, top, clip } of shown) {
      const box = this.boxOf(placed, top);
      if (!box) continue;
      context.save();
      context.beginPath();
      context.rect(this.labels, clip, this.plot, this.element.clientHeight);
      context.clip();
      context.strokeStyle = colours.ink;
      context.lineWidth = 2;
      context.strokeRect(box.x, box.y, box.width, box.height);
      context.restore();
    }
    if (!this.range) return;
    const [from, to] = [this.x(this.range.from), this.x(this.range.to)].map((x) =>
      Math.min(Math.max(x, this.labels), this.labels + this.plot),
    );
    context.globalAlpha = 0.12;
    context.fillStyle = colours.accent;
    context.fillRect(from, HEAD, to - from, this.element.clientHeight);
    context.globalAlpha = 1;
    context.fillRect(from, OVERVIEW, 1, this.element.clientHeight);
    context.fillRect(to - 1, OVERVIEW, 1, this.element.clientHeight);
  }

  /** Where the selected row is drawn in a track, if it is there. */
  private boxOf({ track }: Placed, top: number): { x: number; y: number; width: number; height: number } | null {
    const row = this.selected;
    if (!row || KINDS[track.type] !== row.kind) return null;
    const { model } = this;
    const lane = track.lanes.findIndex((each) => {
      for (let at = each.firstFrom(model.start(row)); at < each.length && each.start(at) === model.start(row); at++)
        if (each.rows[at] === row.row) return true;
      return false;
    });
    if (lane < 0) return null;
    const from = Math.max(this.x(model.start(row)), this.labels - 4);
    const to = Math.min(this.x(model.start(row) + model.duration(row)), this.labels + this.plot + 4);
    const width = Math.max(to - from, 3);
    if (track.type === "spans") return { x: from, y: top + 1 + lane * LANE, width, height: LANE - 1 };
    return { x: from, y: top + 2, width, height: track.height - 4 };
  }

  private drawHead(width: number): void {
    const { context, colours } = this;
    const css = (pixel: number): string => `rgb(${pixel & 255},${(pixel >> 8) & 255},${(pixel >> 16) & 255})`;
    context.fillStyle = css(colours.group);
    context.fillRect(0, OVERVIEW, width, RULER);
    context.fillStyle = css(colours.line);
    context.fillRect(0, HEAD - 1, width, 1);
    context.fillRect(0, OVERVIEW - 1, width, 1);
    context.font = FONT;
    context.fillStyle = colours.quiet;
    context.fillText(`${brief(this.view.to - this.view.from, "ns")} shown`, 12, OVERVIEW + RULER / 2);
    context.fillText(`${brief(this.model.end, "ns")} recorded`, 12, OVERVIEW / 2);
    const step = tickStep(this.view.to - this.view.from, this.plot / 130);
    context.save();
    context.beginPath();
    context.rect(this.labels, OVERVIEW, this.plot, this.element.clientHeight);
    context.clip();
    for (let tick = Math.floor(this.view.from / step); tick * step <= this.view.to; tick++) {
      const x = Math.round(this.x(tick * step));
      context.fillStyle = css(colours.line);
      context.fillRect(x, OVERVIEW + 5, 1, RULER - 5);
      context.fillStyle = colours.quiet;
      context.fillText(moment(tick * step, step), x + 5, OVERVIEW + RULER / 2);
    }
    if (this.range) {
      const [from, to] = [this.x(this.range.from), this.x(this.range.to)];
      const text = length(Math.round(this.range.to - this.range.from));
      const wide = context.measureText(text).width + 12;
      const x = Math.min(Math.max((from + to - wide) / 2, this.labels), this.labels + this.plot - wide);
      context.fillStyle = colours.accent;
      context.fillRect(Math.max(from, this.labels), HEAD - 3, to - Math.max(from, this.labels), 2);
      context.beginPath();
      context.roundRect(x, OVERVIEW + 3, wide, RULER - 8, 4);
      context.fill();
      context.fillStyle = css(colours.stage);
      context.fillText(text, x + 6, OVERVIEW + RULER / 2 - 1);
    }
    context.restore();
    this.overview.drawWindow(context, colours, this.view, this.labels, this.plot, OVERVIEW);
  }
}

/** The first index of sorted times that is not before `t`. */
function bound(time: Float64Array, t: number): number {
  let low = 0;
  let high = time.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}
