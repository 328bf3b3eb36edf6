// A call tree laid out: totals, children in drawing order, and where each node lies.

export type Order = "weight" | "name";

/** Node 0 is the root; every node comes after its parent. */
export interface Shape {
  parent: Int32Array;
  name: Int32Array;
  own: Float64Array;
  ownBefore: Float64Array | null;
}

export interface Tree extends Shape {
  total: Float64Array;
  totalBefore: Float64Array | null;
  depth: Int32Array;
  /** What widths stand for: `total`, or `totalBefore` when that side of a difference is shown. */
  width: Float64Array;
  /** Left edge, in the unit of `width`. */
  x: Float64Array;
  /** The children of node i that have a width are child[first[i]] up to child[first[i + 1]], left to right. */
  first: Int32Array;
  child: Int32Array;
  order: Order;
}

/** Lay out `shape`. `rank` orders names alphabetically. */
export function layOut(shape: Shape, order: Order, rank: Int32Array, showBefore: boolean): Tree {
  const { parent, name, own, ownBefore } = shape;
  const count = parent.length;
  const total = summedUp(parent, own);
  const totalBefore = ownBefore && summedUp(parent, ownBefore);
  const width = showBefore && totalBefore ? totalBefore : total;

  const depth = new Int32Array(count);
  for (let i = 1; i < count; i++) depth[i] = depth[parent[i]] + 1;

  let shown = 0;
  const sorted = new Int32Array(count);
  for (let i = 1; i < count; i++) if (width[i] > 0) sorted[shown++] = i;
  const nodes = sorted.subarray(0, shown);
  if (order === "weight") nodes.sort((a, b) => width[b] - width[a] || rank[name[a]] - rank[name[b]] || a - b);
  else nodes.sort((a, b) => rank[name[a]] - rank[name[b]] || a - b);

  const first = new Int32Array(count + 1);
  for (const node of nodes) first[parent[node] + 1]++;
  for (let i = 0; i < count; i++) first[i + 1] += first[i];
  const next = first.slice(0, count);
  const child = new Int32Array(shown);
  for (const node of nodes) child[next[parent[node]]++] = node;

  const x = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    let left = x[i];
    for (let k = first[i]; k < first[i + 1]; k++) {
      x[child[k]] = left;
      left += width[child[k]];
    }
  }
  return { ...shape, total, totalBefore, depth, width, x, first, child, order };
}

function summedUp(parent: Int32Array, own: Float64Array): Float64Array {
  const total = own.slice();
  for (let i = parent.length - 1; i > 0; i--) total[parent[i]] += total[i];
  return total;
}

/** The first of the children of `node` whose right edge lies right of `x`, as an index into `child`. */
export function childAt(tree: Tree, node: number, x: number): number {
  let low = tree.first[node];
  let high = tree.first[node + 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    const candidate = tree.child[middle];
    if (tree.x[candidate] + tree.width[candidate] > x) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The node at `depth` that covers position `x`, or -1 where there is none. */
export function nodeAt(tree: Tree, x: number, depth: number): number {
  let node = 0;
  if (x < 0 || x >= tree.width[0]) return -1;
  for (let level = 0; level < depth; level++) {
    const k = childAt(tree, node, x);
    if (k === tree.first[node + 1] || tree.x[tree.child[k]] > x) return -1;
    node = tree.child[k];
  }
  return node;
}

/** From the root to `node`, both included. */
export function pathTo(tree: Shape, node: number): number[] {
  const path = [node];
  for (let at = node; at; at = tree.parent[at]) path.unshift(tree.parent[at]);
  return path;
}

/** A node as the names on the way to it, which say the same whichever threads and times the tree is of. */
export function namePath(tree: Shape, node: number): string {
  return pathTo(tree, node)
    .slice(1)
    .map((step) => tree.name[step])
    .join(".");
}

/** The node that a name path leads to; the root where it leads nowhere. */
export function nodeOfPath(tree: Tree, path: number[]): number {
  let node = 0;
  for (const name of path) {
    let k = tree.first[node];
    while (k < tree.first[node + 1] && tree.name[tree.child[k]] !== name) k++;
    if (k === tree.first[node + 1]) return 0;
    node = tree.child[k];
  }
  return node;
}
