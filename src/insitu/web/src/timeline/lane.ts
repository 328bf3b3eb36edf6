// A row of the timeline: intervals in the order of time, found by time in logarithmic steps, however many there are.

/** How many intervals share one entry of an index over them. */
const BLOCK = 16;
/** The same of sums: each interval that is added to one is read from all over memory. */
const SUMMED = 4;

/** The first index of sorted times, from `from` on, that is not before `t`. Near `from` it is found quickest. */
export function firstFrom(times: Float64Array, t: number, from = 0): number {
  let low = from;
  let step = 1;
  while (low + step <= times.length && times[low + step - 1] < t) {
    low += step;
    step *= 2;
  }
  let high = Math.min(low + step - 1, times.length);
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Rows of a table, by their start and duration, that belong to one lane of a track and do not overlap. */
export class Lane {
  private longestOf: Int32Array[] | null = null;
  /** Of each row its time, side by side: what searches read. */
  private readonly starts: Float64Array;

  constructor(
    time: Float64Array,
    /** null: moments without a duration. */
    readonly duration: Float64Array | null,
    /** Indexes into `time` and `duration`, in the order of time. */
    readonly rows: Int32Array,
  ) {
    this.starts = new Float64Array(rows.length);
    for (let at = 0; at < rows.length; at++) this.starts[at] = time[rows[at]];
  }

  get length(): number {
    return this.rows.length;
  }

  start(at: number): number {
    return this.starts[at];
  }

  end(at: number): number {
    return this.duration ? this.starts[at] + this.duration[this.rows[at]] : this.starts[at];
  }

  /** The first position, from `from` on, that starts at `t` or later. */
  firstFrom(t: number, from = 0): number {
    return firstFrom(this.starts, t, from);
  }

  /** The position of the interval that `t` lies in, or -1. */
  at(t: number): number {
    const found = this.firstFrom(t + Number.EPSILON * Math.max(1, Math.abs(t))) - 1;
    return found >= 0 && (t < this.end(found) || this.start(found) === t) ? found : -1;
  }

  /** The position of the longest interval of [from, to). */
  longest(from: number, to: number): number {
    const { duration, rows } = this;
    if (!duration) return from;
    this.longestOf ??= pyramid(duration, rows);
    let best = from;
    const better = (at: number): void => {
      if (duration[rows[at]] > duration[rows[best]]) best = at;
    };
    let low = from;
    let high = to;
    // Blocks that lie in the range whole stand for their longest; what is left at both ends is compared one by one.
    for (let level = -1; low < high; level++) {
      const entry = (at: number): number => (level < 0 ? at : (this.longestOf as Int32Array[])[level][at]);
      const last = level + 1 >= (this.longestOf as Int32Array[]).length;
      while (low < high && (last || low % BLOCK)) better(entry(low++));
      while (low < high && high % BLOCK) better(entry(--high));
      low /= BLOCK;
      high /= BLOCK;
    }
    return best;
  }
}

/** For each block the position of its longest interval, then for each block of blocks, and so on. */
function pyramid(duration: Float64Array, rows: Int32Array): Int32Array[] {
  const levels: Int32Array[] = [];
  for (let length = rows.length; length > BLOCK; length = levels[levels.length - 1].length) {
    const below = levels.at(-1);
    const level = new Int32Array(Math.floor(length / BLOCK));
    if (!level.length) break;
    for (let block = 0; block < level.length; block++) {
      let best = below ? below[block * BLOCK] : block * BLOCK;
      for (let i = block * BLOCK + 1; i < (block + 1) * BLOCK; i++) {
        const at = below ? below[i] : i;
        if (duration[rows[at]] > duration[rows[best]]) best = at;
      }
      level[block] = best;
    }
    levels.push(level);
  }
  return levels;
}

/** How long a lane's intervals were of each class, up to any time. */
export class Shares {
  private readonly sums: Float64Array;

  constructor(
    private readonly lane: Lane,
    /** Of each row of the table what it is, and of that the class, from 0 to `classes` - 1; -1: none. */
    private readonly what: Int32Array,
    private readonly classOf: Int8Array,
    readonly classes: number,
  ) {
    const blocks = Math.floor(lane.length / SUMMED) + 1;
    this.sums = new Float64Array(blocks * classes);
    const sum = new Float64Array(classes);
    for (let at = 0; at <= lane.length; at++) {
      if (at % SUMMED === 0) this.sums.set(sum, (at / SUMMED) * classes);
      if (at < lane.length) this.add(at, lane.end(at) - lane.start(at), sum);
    }
  }

  /** Put into `into` the time of each class before `t`, of which `next` is the first position that starts later. */
  upTo(t: number, next: number, into: Float64Array): void {
    const { lane, classes, sums } = this;
    const block = Math.floor(next / SUMMED);
    for (let each = 0; each < classes; each++) into[each] = sums[block * classes + each];
    for (let at = block * SUMMED; at < next; at++) this.add(at, lane.end(at) - lane.start(at), into);
    if (next > 0 && lane.end(next - 1) > t) this.add(next - 1, t - lane.end(next - 1), into);
  }

  /** The time of each class within [from, to). */
  within(from: number, to: number): Float64Array {
    const [before, after] = [new Float64Array(this.classes), new Float64Array(this.classes)];
    this.upTo(from, this.lane.firstFrom(from), before);
    this.upTo(to, this.lane.firstFrom(to), after);
    return after.map((time, each) => time - before[each]);
  }

  private add(at: number, time: number, into: Float64Array): void {
    const found = this.classOf[this.what[this.lane.rows[at]]];
    if (found >= 0) into[found] += time;
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
export function stacked(time: Float64Array, duration: Float64Array, rows: Int32Array, most: number): Lane[] {
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
  return lanes.map((each) => new Lane(time, duration, Int32Array.from(each)));
}
