// The longest interval of any part of a lane, found in logarithmic steps.

/** How many intervals, or blocks of them, share one entry. */
export const BLOCK = 8;

/** Of each block the longest in it: which block of the lowest level has it, and how long it is. */
interface Level {
  block: Int32Array;
  length: Float64Array;
}

/** For each block of intervals its longest, then for each block of blocks, and so on. */
export class Longest {
  private readonly levels: Level[] = [];
  /** Of each block of intervals the position of the longest. */
  private readonly at: Int32Array;
  /** What that is, so that a drawing finds it side by side with its neighbours'. */
  readonly what: Int32Array;

  constructor(
    count: number,
    private readonly lengthOf: (at: number) => number,
    whatOf: (at: number) => number,
  ) {
    const blocks = Math.floor(count / BLOCK);
    this.at = new Int32Array(blocks);
    const lowest = { block: new Int32Array(blocks), length: new Float64Array(blocks) };
    for (let block = 0; block < blocks; block++) {
      const longest = this.compare(block * BLOCK, (block + 1) * BLOCK);
      this.at[block] = longest;
      lowest.block[block] = block;
      lowest.length[block] = lengthOf(longest);
    }
    this.what = Int32Array.from(this.at, whatOf);
    for (let below = lowest; below.length.length; ) {
      this.levels.push(below);
      const higher = Math.floor(below.length.length / BLOCK);
      const level = { block: new Int32Array(higher), length: new Float64Array(higher).fill(-1) };
      for (let i = 0; i < higher * BLOCK; i++) {
        const block = Math.floor(i / BLOCK);
        if (below.length[i] <= level.length[block]) continue;
        level.length[block] = below.length[i];
        level.block[block] = below.block[i];
      }
      below = level;
    }
  }

  /** The position of the longest of [from, to), of which there is one at least. */
  within(from: number, to: number): number {
    const [low, high] = [Math.ceil(from / BLOCK), Math.floor(to / BLOCK)];
    if (high <= low) return this.compare(from, to);
    // Blocks that lie in the range whole stand for their longest; what is left at both ends is compared one by one.
    let best = this.at[this.block(low, high)];
    for (const [first, last] of [
      [from, low * BLOCK],
      [high * BLOCK, to],
    ]) {
      if (first >= last) continue;
      const other = this.compare(first, last);
      if (this.lengthOf(other) > this.lengthOf(best)) best = other;
    }
    return best;
  }

  /** Of the blocks from `low` up to `high`, of which there is one at least, the one with the longest. */
  block(low: number, high: number): number {
    let best = low;
    let most = -1;
    for (let level = 0; low < high; level++) {
      const { block, length } = this.levels[level];
      const last = level + 1 === this.levels.length;
      for (; low < high && (last || low % BLOCK); low++) {
        if (length[low] <= most) continue;
        most = length[low];
        best = block[low];
      }
      while (low < high && high % BLOCK) {
        high--;
        if (length[high] <= most) continue;
        most = length[high];
        best = block[high];
      }
      low /= BLOCK;
      high /= BLOCK;
    }
    return best;
  }

  private compare(from: number, to: number): number {
    let best = from;
    let most = this.lengthOf(from);
    for (let at = from + 1; at < to; at++) {
      const length = this.lengthOf(at);
      if (length <= most) continue;
      most = length;
      best = at;
    }
    return best;
  }
}
