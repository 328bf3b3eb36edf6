// A row of the timeline: intervals in the order of time, found by time in logarithmic steps, however many there are.

import { BLOCK, Longest } from "./longest";

/** How many intervals share one entry of the index of times. */
const INDEXED = 8;
/** Stands for a length in Lane.lengths that does not fit: 4.29 s or more. */
const LONG = 0xffffffff;

/** The first index of sorted times, of those from `low` up to `high`, that is not before `t`. */
export function firstFrom(times: Float64Array, t: number, low = 0, high = times.length): number {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Rows of a table, by their start and duration, that belong to one lane of a track and do not overlap.
 *
 * What drawing reads of them lies side by side in memory: the rows of a lane are far apart in the table, and to fetch
 * each from there takes longer than all else.
 */
export class Lane {
  private tree: Longest | null = null;
  /** Of each row its start. */
  private readonly starts: Float64Array;
  /** Of each row its duration, LONG for those that are longer; empty without durations. */
  private readonly lengths: Uint32Array;
  /** The time from the first row to the last in equal parts: of each the first position in it or later. */
  private readonly index: Int32Array;
  /** How long such a part is. */
  readonly part: number;

  constructor(
    time: Float64Array,
    /** In whole nanoseconds; null: moments without a duration. */
    readonly duration: Float64Array | null,
    /** Indexes into `time` and `duration`, in the order of time. */
    readonly rows: Int32Array,
    /** A column of the table: what each row is, which decides its colour. */
    private readonly what: Int32Array,
  ) {
    const count = rows.length;
    this.starts = new Float64Array(count);
    for (let at = 0; at < count; at++) this.starts[at] = time[rows[at]];
    this.lengths = new Uint32Array(duration ? count : 0);
    for (let at = 0; at < this.lengths.length; at++) this.lengths[at] = Math.min(duration?.[rows[at]] ?? 0, LONG);
    const parts = Math.floor(count / INDEXED);
    this.part = parts ? (this.starts[count - 1] - this.starts[0]) / parts || 1 : Number.POSITIVE_INFINITY;
    this.index = new Int32Array(parts + 2).fill(count);
    let filled = 0;
    for (let at = 0; at < count; at++)
      for (const last = this.partOf(this.starts[at]); filled <= last; filled++) this.index[filled] = at;
  }

  get length(): number {
    return this.rows.length;
  }

  start(at: number): number {
    return this.starts[at];
  }

  end(at: number): number {
    return this.starts[at] + this.lengthOf(at);
  }

  /** How long an interval is; 0 for moments. */
  lengthOf(at: number): number {
    if (!this.duration) return 0;
    const found = this.lengths[at];
    return found === LONG ? this.duration[this.rows[at]] : found;
  }

  whatOf(at: number): number {
    return this.what[this.rows[at]];
  }

  /** Which part of the index a time is in: never an earlier one than that of an earlier time. */
  private partOf(t: number): number {
    return Math.min(Math.max(Math.floor((t - this.starts[0]) / this.part), 0), this.index.length - 2);
  }

  /** The first position, from `from` on, that starts at `t` or later. */
  firstFrom(t: number, from = 0): number {
    if (!this.length) return 0;
    const part = this.partOf(t);
    return Math.max(firstFrom(this.starts, t, this.index[part], this.index[part + 1]), from);
  }

  /** The position of the interval that `t` lies in, or -1. */
  at(t: number): number {
    const found = this.firstFrom(t + Number.EPSILON * Math.max(1, Math.abs(t))) - 1;
    return found >= 0 && (t < this.end(found) || this.start(found) === t) ? found : -1;
  }

  /** The position of the longest interval of [from, to). */
  longest(from: number, to: number): number {
    return this.longestOf.within(from, to);
  }

  // Blocks of intervals: what is drawn from afar reads nothing else

  /** The block that begins near a time: earlier than that by half a part of the index and a block, or less. */
  blockNear(t: number): number {
    return Math.floor(this.index[this.partOf(t + this.part / 2)] / BLOCK);
  }

  /** What the longest interval is of the blocks from `low` up to `high`, of which there is one at least. */
  whatOfLongest(low: number, high: number): number {
    const { longestOf } = this;
    return longestOf.what[longestOf.block(low, high)];
  }

  private get longestOf(): Longest {
    this.tree ??= new Longest(
      this.length,
      (at) => this.lengthOf(at),
      (at) => this.whatOf(at),
    );
    return this.tree;
  }
}

/** How long a lane's intervals were of each class, up to any time. */
export class Shares {
  /** Of each block of intervals: when it begins, and the time of each class before that. */
  private readonly sums: Float64Array;
  private readonly size: number;
  /** Of each position its class; -1: none. */
  private readonly classOf: Int8Array;

  constructor(
    private readonly lane: Lane,
    /** Of each row of the table what it is, and of that the class, from 0 to `classes` - 1; -1: none. */
    what: Int32Array,
    classOf: Int8Array,
    readonly classes: number,
  ) {
    this.classOf = new Int8Array(lane.length);
    for (let at = 0; at < lane.length; at++) this.classOf[at] = classOf[what[lane.rows[at]]];
    this.size = classes + 1;
    this.sums = new Float64Array((Math.floor(lane.length / BLOCK) + 1) * this.size);
    const sum = new Float64Array(classes);
    for (let at = 0; at <= lane.length; at++) {
      if (at % BLOCK === 0) {
        const entry = (at / BLOCK) * this.size;
        this.sums[entry] = at < lane.length ? lane.start(at) : lane.end(at - 1);
        this.sums.set(sum, entry + 1);
      }
      if (at < lane.length && this.classOf[at] >= 0) sum[this.classOf[at]] += lane.lengthOf(at);
    }
  }

  /** Put into `into` the time of each class before `t`, of which `next` is the first position that starts later. */
  upTo(t: number, next: number, into: Float64Array): void {
    const { lane, classes, classOf, sums } = this;
    const block = Math.floor(next / BLOCK);
    for (let each = 0; each < classes; each++) into[each] = sums[block * this.size + 1 + each];
    for (let at = block * BLOCK; at < next; at++) {
      const found = classOf[at];
      if (found >= 0) into[found] += lane.lengthOf(at);
    }
    const last = next - 1;
    if (last < 0 || classOf[last] < 0) return;
    const after = lane.end(last) - t;
    if (after > 0) into[classOf[last]] -= after;
  }

  /** The time of each class within [from, to). */
  within(from: number, to: number): Float64Array {
    const [before, after] = [new Float64Array(this.classes), new Float64Array(this.classes)];
    this.upTo(from, this.lane.firstFrom(from), before);
    this.upTo(to, this.lane.firstFrom(to), after);
    return after.map((time, each) => time - before[each]);
  }

  /** Put into `into` the time of each class in the blocks from `low` up to `high`; returns how long they are in all. */
  ofBlocks(low: number, high: number, into: Float64Array): number {
    const { sums, size } = this;
    for (let each = 0; each < this.classes; each++)
      into[each] = sums[high * size + 1 + each] - sums[low * size + 1 + each];
    return sums[high * size] - sums[low * size];
  }
}

/** Rows by what `keyOf` says of each (-1: left out), those of one key in their order. */
export function grouped(length: number, keys: number, keyOf: (row: number) => number): Int32Array[] {
  const counts = new Int32Array(keys);
  for (let row = 0; row < length; row++) {
    const key = keyOf(row);
    if (key >= 0) counts[key]++;
  }
  const groups = Array.from(counts, (count) => new Int32Array(count));
  counts.fill(0);
  for (let row = 0; row < length; row++) {
    const key = keyOf(row);
    if (key >= 0) groups[key][counts[key]++] = row;
  }
  return groups;
}

/**
 * Intervals that may overlap, in as few lanes as they need: those that are nested lie below what they are nested in.
 * The last of `most` lanes takes all that need more.
 */
export function stacked(
  time: Float64Array,
  duration: Float64Array,
  rows: Int32Array,
  what: Int32Array,
  most: number,
): Lane[] {
  const ends: number[] = [];
  const lanes: number[][] = [];
  for (const row of rows) {
    let lane = ends.findIndex((end) => end <= time[row]);
    if (lane < 0) {
      if (ends.length < most) lanes.push([]);
      lane = Math.min(ends.length, most - 1);
    }
    ends[lane] = Math.max(ends[lane] ?? 0, time[row] + duration[row]);
    lanes[lane].push(row);
  }
  return lanes.map((each) => new Lane(time, duration, Int32Array.from(each), what));
}
