// Which samples are shown, and the trees of them: as recorded, split by thread, or rooted in the callees.

import type { PageData } from "./data";
import type { Shape } from "./tree";

export interface Selection {
  /** 1 for each thread that is shown; null for all. */
  groups: Uint8Array | null;
  /** First and last cell of time, both included; null for all. */
  cells: [number, number] | null;
}

/** The entries that `selection` takes, as a range of indexes and a test within it. */
function entryRange(data: PageData, cells: [number, number] | null): [number, number] {
  const cell = data.entryCell;
  if (!cell || !cells) return [0, data.entryNode.length];
  return [lowerBound(cell, cells[0]), lowerBound(cell, cells[1] + 1)];
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
export function groupTotals(data: PageData, cells: [number, number] | null): Float64Array {
  const totals = new Float64Array(data.meta.threads.tid.length);
  const [from, to] = entryRange(data, cells);
  for (let i = from; i < to; i++) totals[data.entryGroup[i]] += data.entryCount[i];
  return totals;
}

/** The tree as recorded: its node numbers do not depend on the selection. */
export function selectedTree(data: PageData, { groups, cells }: Selection): Shape {
  const own = new Float64Array(data.parent.length);
  const ownBefore = data.entryBefore && new Float64Array(data.parent.length);
  const [from, to] = entryRange(data, cells);
  for (let i = from; i < to; i++) {
    if (groups && !groups[data.entryGroup[i]]) continue;
    own[data.entryNode[i]] += data.entryCount[i];
    if (ownBefore && data.entryBefore) ownBefore[data.entryNode[i]] += data.entryBefore[i];
  }
  return { parent: data.parent, name: data.name, own, ownBefore };
}

/**
 * The tree with a level of threads (or commands) below the root. `label` maps a thread to the name of its new node.
 * Threads of equal label become one.
 */
export function splitTree(data: PageData, { groups, cells }: Selection, label: Int32Array): Shape {
  const grower = new Grower(false);
  const [from, to] = entryRange(data, cells);
  const byLabel = new Map<number, number[]>();
  for (let i = from; i < to; i++) {
    const group = data.entryGroup[i];
    if (groups && !groups[group]) continue;
    const entries = byLabel.get(label[group]);
    if (entries) entries.push(i);
    else byLabel.set(label[group], [i]);
  }
  const copy = new Int32Array(data.parent.length);
  const path: number[] = [];
  for (const [name, entries] of byLabel) {
    copy.fill(0);
    const top = grower.add(0, name);
    for (const i of entries) {
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

/**
 * The tree that starts at the leaves of `shape` and goes on to their callers. With `split` the level of threads below
 * the root stays there.
 */
export function reversedTree(shape: Shape, split: boolean): Shape {
  const { parent, name, own, ownBefore } = shape;
  const grower = new Grower(ownBefore !== null);
  let live = 0;
  for (let i = 1; i < parent.length; i++) if (own[i] || ownBefore?.[i]) live++;
  const leaf = new Int32Array(live);
  live = 0;
  for (let i = 1; i < parent.length; i++) if (own[i] || ownBefore?.[i]) leaf[live++] = i;
  grower.addOwn(0, own[0], ownBefore ? ownBefore[0] : 0);

  // All stacks take one step towards their root per pass; equal steps from the same node become one node.
  const current = leaf.slice();
  const at = new Int32Array(live);
  const top = new Uint8Array(parent.length); // where the walk ends
  top[0] = 1;
  if (split) live = startBelowThreads(shape, grower, leaf, current, at, top);
  while (live) {
    const table = new StepTable(live);
    let kept = 0;
    for (let i = 0; i < live; i++) {
      const node = table.step(grower, at[i], name[current[i]]);
      const caller = parent[current[i]];
      if (!top[caller]) {
        leaf[kept] = leaf[i];
        current[kept] = caller;
        at[kept++] = node;
      } else {
        grower.addOwn(node, own[leaf[i]], ownBefore ? ownBefore[leaf[i]] : 0);
      }
    }
    live = kept;
  }
  return grower.shape();
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
  private count = 1;

  constructor(differential: boolean) {
    this.before = differential ? new Float64Array(1024) : null;
  }

  add(parent: number, name: number): number {
    if (this.count === this.parent.length) this.grow();
    this.parent[this.count] = parent;
    this.name[this.count] = name;
    return this.count++;
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
      ownBefore: this.before && this.before.slice(0, this.count),
    };
  }

  private grow(): void {
    const larger = <T extends Int32Array | Float64Array>(old: T, array: T): T => (array.set(old), array);
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
    let hash = Math.imul(from, 0x9e3779b1) ^ Math.imul(name, 0x85ebca6b);
    hash ^= hash >>> 15;
    for (let slot = hash & this.mask; ; slot = (slot + 1) & this.mask) {
      if (!this.to[slot]) {
        this.from[slot] = from;
        this.name[slot] = name;
        return (this.to[slot] = grower.add(from, name));
      }
      if (this.from[slot] === from && this.name[slot] === name) return this.to[slot];
    }
  }
}
