// Draws the lanes of tracks into a raster: what is at least a pixel wide as a box; of what is narrower, states and CPUs as
// the shares of a pixel's time, calls as the longest in it.

import type { Colours } from "./colours";
import type { Lane, Shares } from "./lane";
import { BINS, CLASSES, type Model } from "./model";
import type { Raster } from "./raster";
import type { Track } from "./tracks";
import { LANE } from "./tracks";
import type { Span } from "./viewport";

/** Where a lane is drawn, in device pixels. */
export interface Strip {
  left: number;
  right: number;
  top: number;
  bottom: number;
  /** Nothing is drawn above. */
  clip: number;
}

export interface Label {
  x: number;
  width: number;
  y: number;
  text: string;
}

const MOST_LABELS = 1200;
/** Of a collapsed process. */
const MOST_BOXES = 3000;

export class Painter {
  labels: Label[] = [];
  /** Of the last crowded pixel: the time of each class before its beginning, and before its end. */
  private before = new Float64Array(CLASSES);
  private after = new Float64Array(CLASSES);
  private summed = Number.NaN;

  constructor(
    private readonly model: Model,
    private readonly raster: Raster,
    public colours: Colours,
    /** Device pixels to a CSS pixel. */
    public scale: number,
  ) {}

  /** `summed`: of a group, which is collapsed, what its threads did. */
  draw(track: Track, strip: Strip, view: Span, summed: boolean): void {
    if (track.type === "state") this.states(track.lanes[0], this.inset(strip, 2), view);
    else if (track.type === "cpu") this.cpu(track.lanes[0], this.inset(strip, 2), view);
    else if (track.type === "counter") this.counter(track.of, this.inset(strip, 3), view);
    else if (track.type === "spans") {
      for (const [depth, lane] of track.lanes.entries()) {
        const top = strip.top + Math.round((1 + depth * LANE) * this.scale);
        this.spans(lane, { ...strip, top, bottom: top + Math.round((LANE - 1) * this.scale) }, view);
      }
    } else if (track.type === "group") {
      if (summed && track.of > 0) this.group(track, this.inset(strip, 3), view);
    } else this.marks(track, this.inset(strip, 2), view);
  }

  private inset(strip: Strip, by: number): Strip {
    return {
      ...strip,
      top: strip.top + Math.round(by * this.scale),
      bottom: strip.bottom - Math.round(by * this.scale),
    };
  }

  /** The time of each class within a pixel, of which the neighbour to the left has often been drawn just before. */
  private within(shares: Shares, first: number, next: number, from: number, to: number): Float64Array {
    const { before, after } = this;
    if (this.summed !== from) shares.upTo(from, first, after);
    [this.before, this.after] = [after, before];
    shares.upTo(to, next, this.after);
    this.summed = to;
    for (let each = 0; each < CLASSES; each++) this.before[each] = this.after[each] - this.before[each];
    return this.before;
  }

  private states(lane: Lane, strip: Strip, view: Span): void {
    const { model, raster, colours } = this;
    const { stateWhat } = model.data;
    const shares = model.sharesOf(lane);
    const height = strip.bottom - strip.top;
    this.boxes(
      lane,
      strip,
      view,
      (row) => colours.state[stateWhat[row]],
      (row) => model.state(row),
      (x, first, next, from, to) => {
        const sums = this.within(shares, first, next, from, to);
        raster.box(x, strip.top, x + 1, strip.bottom, colours.rest, strip.clip);
        let y = strip.bottom;
        for (let each = 0; each < CLASSES; each++) {
          const part = Math.round((sums[each] / (to - from)) * height);
          raster.box(x, y - part, x + 1, y, colours.classes[each], strip.clip);
          y -= part;
        }
      },
    );
  }

  private cpu(lane: Lane, strip: Strip, view: Span): void {
    const { model, raster, colours } = this;
    const { stateThread } = model.data;
    const { comm } = model.data.meta.threads;
    const shares = model.sharesOf(lane);
    const height = strip.bottom - strip.top;
    this.boxes(
      lane,
      strip,
      view,
      (row) => colours.name(comm[stateThread[row]]),
      (row) => model.thread(stateThread[row]),
      (x, first, next, from, to, at) => {
        const sums = this.within(shares, first, next, from, to);
        const longest = lane.longest(at, next);
        const part = Math.max(1, Math.round((sums[0] / (to - from)) * height));
        const colour = colours.name(comm[stateThread[lane.rows[longest]]]);
        raster.box(x, strip.bottom - part, x + 1, strip.bottom, colour, strip.clip);
      },
    );
  }

  private spans(lane: Lane, strip: Strip, view: Span): void {
    const { spanName, spanText, meta } = this.model.data;
    const { raster } = this;
    const colour = (row: number): number => this.colours.name(meta.names[spanName[row]]);
    // All boxes are as high as the lane: one row of pixels is drawn, and repeated.
    const y = Math.max(strip.top, strip.clip, 0);
    if (y >= Math.min(strip.bottom, raster.height)) return;
    this.boxes(
      lane,
      { ...strip, top: y, bottom: y + 1 },
      view,
      colour,
      (row) => meta.names[spanName[row]] + meta.texts[spanText[row]],
      (x, _first, next, _from, _to, at) => raster.box(x, y, x + 1, y + 1, colour(lane.rows[lane.longest(at, next)])),
      (strip.top + strip.bottom) / 2,
    );
    raster.repeat(strip.left, strip.right, y, strip.bottom);
  }

  /**
   * Boxes of a lane. `crowd` draws one pixel in which intervals end: `first` and `next` are the first positions that
   * start at its beginning and its end, or later; `at` is the first that lies in it. Labels are at `middle`.
   */
  private boxes(
    lane: Lane,
    { left, right, top, bottom, clip }: Strip,
    view: Span,
    colour: (row: number) => number,
    label: (row: number) => string,
    crowd: (x: number, first: number, next: number, from: number, to: number, at: number) => void,
    middle = (top + bottom) / 2,
  ): void {
    const ns = (view.to - view.from) / (right - left);
    const width = right - left;
    let done = 0;
    let at = Math.max(0, lane.firstFrom(view.from) - 1);
    this.summed = Number.NaN;
    while (at < lane.length) {
      const start = lane.start(at);
      if (start >= view.to) break;
      const x0 = Math.max(done, Math.floor((start - view.from) / ns));
      const x1 = Math.min(width, Math.floor((lane.end(at) - view.from) / ns));
      if (x1 > x0) {
        const row = lane.rows[at];
        const fill = colour(row);
        // A gap of one pixel keeps neighbours of one colour apart.
        if (fill)
          this.raster.box(left + x0, top, left + (x1 - x0 > 3 && x1 < width ? x1 - 1 : x1), bottom, fill, clip);
        if (fill && x1 - x0 > 26 * this.scale && this.labels.length < MOST_LABELS && middle > clip)
          this.labels.push({ x: left + x0, width: x1 - x0, y: middle, text: label(row) });
        done = x1;
        at++;
        continue;
      }
      if (x0 >= width) break;
      const from = view.from + x0 * ns;
      const next = lane.firstFrom(from + ns, at + 1);
      if (lane.end(next - 1) > view.from) crowd(left + x0, start < from ? at + 1 : at, next, from, from + ns, at);
      done = x0 + 1;
      at = next - 1 > at && lane.end(next - 1) > from + 2 * ns ? next - 1 : next;
    }
  }

  /** When the threads of a process ran: box by box, a row for each CPU; from afar as the share of all CPUs. */
  private group(track: Track, { left, right, top, bottom, clip }: Strip, view: Span): void {
    const { model, raster } = this;
    const { stateThread, meta } = model.data;
    const cpus = model.cpus.filter((lane) => lane.length);
    const ns = (view.to - view.from) / (right - left);
    const colour = this.colours.name(track.name);
    const ranges = cpus.map((lane) => [Math.max(0, lane.firstFrom(view.from) - 1), lane.firstFrom(view.to)]);
    if (ranges.reduce((sum, [first, last]) => sum + last - first, 0) > MOST_BOXES) {
      const bins = model.activity(track.of);
      for (let x = left; x < right; x++) {
        const value = bins[Math.min(BINS - 1, Math.floor(((view.from + (x - left + 0.5) * ns) / model.end) * BINS))];
        if (value)
          raster.box(x, bottom - Math.max(1, Math.round(value * (bottom - top))), x + 1, bottom, colour, clip);
      }
      return;
    }
    const height = (bottom - top) / cpus.length;
    for (const [cpu, lane] of cpus.entries()) {
      const y = Math.round(top + cpu * height);
      for (let at = ranges[cpu][0]; at < ranges[cpu][1]; at++) {
        if (meta.threads.process[stateThread[lane.rows[at]]] !== track.of) continue;
        const x0 = left + Math.max(0, Math.floor((lane.start(at) - view.from) / ns));
        const x1 = Math.min(right, left + Math.ceil((lane.end(at) - view.from) / ns));
        raster.box(x0, y, x1, Math.max(y + 1, Math.round(top + (cpu + 1) * height)), colour, clip);
      }
    }
  }

  private marks(track: Track, { left, right, top, bottom, clip }: Strip, view: Span): void {
    const lane = track.lanes[0];
    const { eventType, meta } = this.model.data;
    const width = right - left;
    const ns = (view.to - view.from) / width;
    const wide = Math.max(1, Math.round(2 * this.scale));
    const height = bottom - top;
    let at = lane.firstFrom(view.from);
    while (at < lane.length && lane.start(at) <= view.to) {
      const x = Math.min(width - 1, Math.floor((lane.start(at) - view.from) / ns));
      const next = Math.max(at + 1, lane.firstFrom(view.from + (x + 1) * ns, at));
      // One mark is half as high as the track; the more there are in the pixel, the higher.
      const part = Math.round(height * Math.min(1, 0.5 + 0.12 * Math.log2(next - at)));
      const colour =
        track.type === "events" ? this.colours.name(meta.events[eventType[lane.rows[at]]]) : this.colours.sample;
      this.raster.box(left + x, bottom - part, Math.min(left + x + wide, right), bottom, colour, clip);
      at = next;
    }
  }

  private counter(counter: number, { left, right, top, bottom, clip }: Strip, view: Span): void {
    const { counterValue } = this.model.data;
    const lane = this.model.counters[counter];
    const [least, most] = this.model.extent(counter);
    const ns = (view.to - view.from) / (right - left);
    const level = (value: number): number =>
      bottom - Math.round(((value - least) / (most - least || 1)) * (bottom - top));
    let at = lane.firstFrom(view.from);
    let value = at ? counterValue[lane.rows[at - 1]] : Number.NaN;
    for (let x = 0; x < right - left; x++) {
      const next = lane.firstFrom(view.from + (x + 1) * ns, at);
      let [low, high] = [value, value];
      const step = Math.max(1, Math.floor((next - at) / 64));
      for (let each = at; each < next; each += step) {
        const found = counterValue[lane.rows[each]];
        if (!(low <= found)) low = found;
        if (!(high >= found)) high = found;
      }
      if (next > at) value = counterValue[lane.rows[next - 1]];
      at = next;
      if (Number.isNaN(high)) continue;
      this.raster.box(left + x, level(high), left + x + 1, bottom, this.colours.rest, clip);
      const y = level(high);
      this.raster.box(
        left + x,
        y,
        left + x + 1,
        Math.max(level(low), y + Math.round(1.5 * this.scale)),
        this.colours.counter,
        clip,
      );
    }
  }
}
