// Which samples are shown, and the trees of them: as recorded, split by thread, or rooted in the callees.

import { covers, type Cells } from "./cells";
import type { PageData } from "./data";
import type { Shape } from "./tree";

export interface Selection {
  /** 1 for each thread that is shown; null for all. */
  groups: Uint8Array | null;
  /** Of a heat map; null for all. */
  cells: Cells | null;
}

/** The indexes of the entries in `cells`, of the threads in `groups`. */
function* entries(data: PageData, { groups, cells }: Selection): Generator<number> {
  const cell = data.entryCell;
  const all = !cell || !cells;
  const from = all ? 0 : lowerBound(cell, cells.first);
  const to = all ? data.entryNode.length : lowerBound(cell, cells.last + 1);
  const rectangle = all || !cells.rows ? null : cells;
  for (let i = from; i < to; i++) {
    if (groups && !groups[data.entryGroup[i]]) continue;
    if (rectangle && !covers(rectangle, (cell as Int32Array)[i])) continue;
    yield i;
  }
}

function lowerBound(sorted: Int32Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The count of each thread within `cells`. */
export function groupTotals(data: PageData, cells: Cells | null): Float64Array {
  const totals = new Float64Array(data.meta.threads.tid.length);
  for (const i of entries(data, { groups: null, cells })) totals[data.entryGroup[i]] += data.entryCount[i];
  return totals;
}

/** The tree as recorded: its node numbers do not depend on the selection. */
export function selectedTree(data: PageData, selection: Selection): Shape {
  const own = new Float64Array(data.parent.length);
  const ownBefore = data.entryBefore && new Float64Array(data.parent.length);
  for (const i of entries(data, selection)) {
    own[data.entryNode[i]] += data.entryCount[i];
    if (ownBefore && data.entryBefore) ownBefore[data.entryNode[i]] += data.entryBefore[i];
  }
  return { parent: data.parent, name: data.name, own, ownBefore };
}

/**
 * The tree with a level of threads (or commands) below the root. `label` maps a thread to the name of its new node.
 * Threads of equal label become one.
 */
export function splitTree(data: PageData, selection: Selection, label: Int32Array): Shape {
  const grower = new Grower(false);
  const byLabel = new Map<number, number[]>();
  for (const i of entries(data, selection)) {
    const group = data.entryGroup[i];
    const found = byLabel.get(label[group]);
    if (found) found.push(i);
    else byLabel.set(label[group], [i]);
  }
  const copy = new Int32Array(data.parent.length);
  const path: number[] = [];
  for (const [name, found] of byLabel) {
    copy.fill(0);
    const top = grower.add(0, name);
    for (const i of found) {
      let node = data.entryNode[i];
      for (; node && !copy[node]; node = data.parent[node]) path.push(node);
      let at = node ? copy[node] : top;
      while (path.length) {
        const below = path.pop() as number;
        at = copy[below] = grower.add(at, data.name[below]);
      }
      grower.own[at] += data.entryCount[i];
    }
  }
  return grower.shape();
}

/** Bottom-up, frames below this share of what is looked at are not followed to their callers until they are zoomed. */
const FOLLOWED = 1 / 20_000;

/**
 * The tree that starts at the leaves of `shape` and goes on to their callers. With `split` the level of threads below
 * the root stays there. A tree of every caller of every function can be some ten times larger than `shape`, so paths of
 * negligible weight end early (`whole` is then false), but for those along `focus`, a path of names from the root, and
 * those that weigh enough at its end.
 */
export function reversedTree(shape: Shape, split: boolean, focus: number[]): { shape: Shape; whole: boolean } {
  const { parent, name, own, ownBefore } = shape;
  const grower = new Grower(ownBefore !== null);
  const weight = ownBefore ? own.map((value, i) => value + ownBefore[i]) : own;
  const leaf = Int32Array.from(parent.keys()).filter((node) => node > 0 && weight[node] > 0);
  let live = leaf.length;
  grower.addOwn(0, own[0], ownBefore ? ownBefore[0] : 0);

  const current = leaf.slice();
  const at = new Int32Array(live);
  const top = new Uint8Array(parent.length); // where the walks end
  top[0] = 1;
  if (split) live = startBelowThreads(shape, grower, leaf, current, at, top);
  let focused = 0; // the node that `focus` has led to; -1 once it led nowhere
  if (split && focus.length) focused = grower.find(0, focus[0]);
  const least = weight.reduce((sum, value) => sum + value, 0) * FOLLOWED;
  let leastInside = least;
  const inside = new Uint8Array(live); // 1 for walks that came through the end of `focus`
  let whole = true;

  // All stacks take one step towards their root per pass; equal steps from the same node become one node.
  for (let level = split ? 1 : 0; live; level++) {
    const firstNew = grower.count;
    const table = new StepTable(live);
    const step = new Int32Array(live);
    for (let i = 0; i < live; i++) step[i] = table.step(grower, at[i], name[current[i]]);
    const arrived = new Float64Array(grower.count - firstNew);
    for (let i = 0; i < live; i++) arrived[step[i] - firstNew] += weight[leaf[i]];
    let onPath = -1;
    if (level < focus.length && focused >= 0) onPath = focused = table.found(focused, focus[level]);
    const atEnd = level === focus.length - 1 && onPath >= 0;
    if (atEnd) leastInside = arrived[onPath - firstNew] * FOLLOWED;
    let kept = 0;
    for (let i = 0; i < live; i++) {
      const node = step[i];
      const caller = parent[current[i]];
      const within = inside[i] || Number(atEnd && node === onPath);
      const enough = node === onPath || arrived[node - firstNew] >= (within ? leastInside : least);
      if (top[caller] || !enough) {
        if (!top[caller]) whole = false;
        grower.addOwn(node, own[leaf[i]], ownBefore ? ownBefore[leaf[i]] : 0);
        continue;
      }
      leaf[kept] = leaf[i];
      current[kept] = caller;
      inside[kept] = within;
      at[kept++] = node;
    }
    live = kept;
  }
  return { shape: grower.shape(), whole };
}

/** Give each thread its node and let the leaves' walks begin there; how many walks there are. */
function startBelowThreads(
  { parent, name, own }: Shape,
  grower: Grower,
  leaf: Int32Array,
  current: Int32Array,
  at: Int32Array,
  top: Uint8Array,
): number {
  const thread = new Int32Array(parent.length);
  for (let i = 1; i < parent.length; i++) {
    top[i] = Number(parent[i] === 0);
    thread[i] = top[i] ? grower.add(0, name[i]) : thread[parent[i]];
  }
  let kept = 0;
  for (const node of leaf) {
    if (top[node]) {
      grower.addOwn(thread[node], own[node], 0);
    } else {
      leaf[kept] = current[kept] = node;
      at[kept++] = thread[node];
    }
  }
  return kept;
}

/** A tree under construction, in arrays that grow. */
class Grower {
  private parent = new Int32Array(1024);
  private name = new Int32Array(1024);
  own = new Float64Array(1024);
  private before: Float64Array | null;
  count = 1;

  constructor(differential: boolean) {
    this.before = differential ? new Float64Array(1024) : null;
  }

  add(parent: number, name: number): number {
    if (this.count === this.parent.length) this.grow();
    this.parent[this.count] = parent;
    this.name[this.count] = name;
    return this.count++;
  }

  /** The child of `parent` that has this name; -1 where there is none. Slow. */
  find(parent: number, name: number): number {
    for (let i = 1; i < this.count; i++) if (this.parent[i] === parent && this.name[i] === name) return i;
    return -1;
  }

  addOwn(node: number, after: number, before: number): void {
    this.own[node] += after;
    if (this.before) this.before[node] += before;
  }

  shape(): Shape {
    return {
      parent: this.parent.slice(0, this.count),
      name: this.name.slice(0, this.count),
      own: this.own.slice(0, this.count),
      ownBefore: this.before ? this.before.slice(0, this.count) : null,
    };
  }

  private grow(): void {
    const larger = <T extends Int32Array | Float64Array>(old: T, array: T): T => {
      array.set(old);
      return array;
    };
    const size = this.count * 2;
    this.parent = larger(this.parent, new Int32Array(size));
    this.name = larger(this.name, new Int32Array(size));
    this.own = larger(this.own, new Float64Array(size));
    if (this.before) this.before = larger(this.before, new Float64Array(size));
  }
}

/** (node, name) -> the node that this step leads to: open addressing, for at most `size` different steps. */
class StepTable {
  private readonly mask: number;
  private readonly from: Int32Array;
  private readonly name: Int32Array;
  private readonly to: Int32Array;

  constructor(size: number) {
    let slots = 16;
    while (slots < size * 2) slots *= 2;
    this.mask = slots - 1;
    this.from = new Int32Array(slots);
    this.name = new Int32Array(slots);
    this.to = new Int32Array(slots);
  }

  step(grower: Grower, from: number, name: number): number {
    const slot = this.slot(from, name);
    if (!this.to[slot]) {
      this.from[slot] = from;
      this.name[slot] = name;
      this.to[slot] = grower.add(from, name);
    }
    return this.to[slot];
  }

  /** Where this step led; -1 where nobody took it. */
  found(from: number, name: number): number {
    return this.to[this.slot(from, name)] || -1;
  }

  private slot(from: number, name: number): number {
    let hash = Math.imul(from, 0x9e3779b1) ^ Math.imul(name, 0x85ebca6b);
    hash ^= hash >>> 15;
    let slot = hash & this.mask;
    while (this.to[slot] && (this.from[slot] !== from || this.name[slot] !== name)) slot = (slot + 1) & this.mask;
    return slot;
  }
}
