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
/**
 * From afar, where the index of a lane has so many parts in a pixel and this pixel so many blocks of intervals, what
 * is drawn reads blocks only: a pixel then begins and ends earlier by up to a quarter of it.
 */
const PARTS = 4;
const BLOCKS = 4;
/** Of a collapsed process. */
const MOST_BOXES = 3000;

export class Painter {
  labels: Label[] = [];
  /** The colour of each thread, span's name and type of events. */
  private threads = new Uint32Array(0);
  private names = new Uint32Array(0);
  private events = new Uint32Array(0);
  /** Of a crowded pixel: how much of it was of each class. */
  private readonly part = new Float64Array(CLASSES);
  /** The time of each class before its beginning, and before its end. */
  private before = new Float64Array(CLASSES);
  private after = new Float64Array(CLASSES);
  private summed = Number.NaN;

  constructor(
    private readonly model: Model,
    private readonly raster: Raster,
    private colours: Colours,
    /** Device pixels to a CSS pixel. */
    public scale: number,
  ) {
    this.recolour(colours);
  }

  recolour(colours: Colours): void {
    const { threads, names, events } = this.model.data.meta;
    const of = (texts: string[]): Uint32Array<ArrayBuffer> => Uint32Array.from(texts, (text) => colours.name(text));
    this.colours = colours;
    [this.threads, this.names, this.events] = [of(threads.comm), of(names), of(events)];
  }

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

  /** The rows of pixels of a strip that can be seen. */
  private seen({ top, bottom, clip }: Strip): [top: number, bottom: number] {
    return [Math.max(top, clip, 0), Math.min(bottom, this.raster.height)];
  }

  private states(lane: Lane, strip: Strip, view: Span): void {
    const { model, raster, colours } = this;
    const { stateWhat } = model.data;
    const shares = model.sharesOf(lane);
    const height = strip.bottom - strip.top;
    const [top, bottom] = this.seen(strip);
    this.boxes(
      lane,
      shares,
      strip,
      view,
      (row) => colours.state[stateWhat[row]],
      (row) => model.state(row),
      (x) => {
        let y = strip.bottom;
        for (let each = 0; each < CLASSES; each++) {
          const part = Math.round(this.part[each] * height);
          if (!part) continue;
          raster.column(x, Math.max(y - part, top), Math.min(y, bottom), colours.classes[each]);
          y -= part;
        }
        raster.column(x, top, Math.min(y, bottom), colours.rest);
      },
    );
  }

  private cpu(lane: Lane, strip: Strip, view: Span): void {
    const { model, raster, threads } = this;
    const { stateThread } = model.data;
    const shares = model.sharesOf(lane);
    const height = strip.bottom - strip.top;
    const [top, bottom] = this.seen(strip);
    this.boxes(
      lane,
      shares,
      strip,
      view,
      (row) => threads[stateThread[row]],
      (row) => model.thread(stateThread[row]),
      (x, longest) => {
        const part = Math.max(1, Math.round(this.part[0] * height));
        raster.column(x, Math.max(strip.bottom - part, top), bottom, threads[longest()]);
      },
    );
  }

  private spans(lane: Lane, strip: Strip, view: Span): void {
    const { spanName, spanText, meta } = this.model.data;
    const { raster, names } = this;
    const colour = (row: number): number => names[spanName[row]];
    // All boxes are as high as the lane: one row of pixels is drawn, and repeated.
    const y = Math.max(strip.top, strip.clip, 0);
    if (y >= Math.min(strip.bottom, raster.height)) return;
    this.boxes(
      lane,
      null,
      { ...strip, top: y, bottom: y + 1 },
      view,
      colour,
      (row) => meta.names[spanName[row]] + meta.texts[spanText[row]],
      (x, longest) => raster.column(x, y, y + 1, names[longest()]),
      (strip.top + strip.bottom) / 2,
    );
    raster.repeat(strip.left, strip.right, y, strip.bottom);
  }

  /**
   * Boxes of a lane. `crowd` draws one pixel in which intervals end; `longest` says what the longest of them is, and
   * with `shares` there is this.part. Labels are at `middle`.
   */
  private boxes(
    lane: Lane,
    shares: Shares | null,
    { left, right, top, bottom, clip }: Strip,
    view: Span,
    colour: (row: number) => number,
    label: (row: number) => string,
    crowd: (x: number, longest: () => number) => void,
    middle = (top + bottom) / 2,
  ): void {
    const ns = (view.to - view.from) / (right - left);
    const width = right - left;
    const afar = lane.part * PARTS <= ns;
    let done = 0;
    let at = Math.max(0, lane.firstFrom(view.from) - 1);
    let [low, high] = [0, 0];
    const longest = (): number => lane.whatOf(lane.longest(low, high));
    const longestBlock = (): number => lane.whatOfLongest(low, high);
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
      let next = lane.firstFrom(from + ns, at + 1);
      if (lane.end(next - 1) > view.from) {
        if (shares) this.divide(shares, from, start < from ? at + 1 : at, from + ns, next);
        [low, high] = [at, next];
        crowd(left + x0, longest);
      }
      done = x0 + 1;
      if (afar) {
        high = lane.blockNear(view.from + done * ns);
        while (done < width) {
          low = high;
          high = lane.blockNear(view.from + (done + 1) * ns);
          if (high - low < BLOCKS) break;
          const all = shares?.ofBlocks(low, high, this.part) || 1;
          for (let each = 0; each < CLASSES; each++) this.part[each] /= all;
          crowd(left + done, longestBlock);
          done++;
        }
        next = lane.firstFrom(view.from + done * ns, next);
      }
      at = next - 1 > at && lane.end(next - 1) > view.from + (done + 1) * ns ? next - 1 : next;
    }
  }

  /**
   * Put into this.part the share of each class in a pixel, of which the neighbour to the left has often been drawn
   * just before. `first` and `next` are the first positions that start at its beginning and its end, or later.
   */
  private divide(shares: Shares, from: number, first: number, to: number, next: number): void {
    const { before, after, part } = this;
    if (this.summed !== from) shares.upTo(from, first, after);
    [this.before, this.after] = [after, before];
    shares.upTo(to, next, this.after);
    this.summed = to;
    for (let each = 0; each < CLASSES; each++) part[each] = (this.after[each] - this.before[each]) / (to - from);
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
    const { eventType } = this.model.data;
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
      const colour = track.type === "events" ? this.events[eventType[lane.rows[at]]] : this.colours.sample;
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
