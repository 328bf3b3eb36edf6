// Sums per function: the hottest ones, and what a search matches.

import type { Shape, Tree } from "./tree";

export interface FunctionSums {
  self: Float64Array;
  /** Samples that have the function anywhere in their stack, each counted once however often it recurs. */
  total: Float64Array;
  selfBefore: Float64Array | null;
  totalBefore: Float64Array | null;
}

/** `shape` with the own weights of frames of kind "waker", which stand above the wait that they ended, at that wait. */
export function waitsAsLeaves(shape: Shape, kind: readonly string[]): Shape {
  if (!kind.includes("waker")) return shape;
  const { parent, name } = shape;
  const own = shape.own.slice();
  const ownBefore = shape.ownBefore?.slice() ?? null;
  const leaf = Int32Array.from(parent.keys());
  for (let node = 1; node < parent.length; node++) {
    if (kind[name[node]] !== "waker") continue;
    leaf[node] = leaf[parent[node]]; // parents come first
    for (const weights of [own, ownBefore]) {
      if (!weights) continue;
      weights[leaf[node]] += weights[node];
      weights[node] = 0;
    }
  }
  return { parent, name, own, ownBefore };
}

/** The sums of each function over a caller-rooted tree; `same` says for each name which function it is. */
export function functionSums(
  tree: Shape & { total: Float64Array; totalBefore: Float64Array | null },
  same: Int32Array,
  kind: readonly string[] = [],
): FunctionSums {
  const { parent, name, total, totalBefore } = tree;
  const { own, ownBefore } = waitsAsLeaves(tree, kind);
  const count = parent.length;
  const names = same.length;
  const sums: FunctionSums = {
    self: new Float64Array(names),
    total: new Float64Array(names),
    selfBefore: ownBefore && new Float64Array(names),
    totalBefore: totalBefore && new Float64Array(names),
  };
  // Nodes as linked lists of children: no order is needed here, so this is quicker than a layout.
  const firstChild = new Int32Array(count);
  const sibling = new Int32Array(count);
  for (let i = count - 1; i > 0; i--) {
    sibling[i] = firstChild[parent[i]];
    firstChild[parent[i]] = i;
  }
  const open = new Int32Array(names); // how often each function is on the way from the root
  let node = firstChild[0];
  while (node) {
    const of = same[name[node]];
    const wakes = kind[name[node]] === "waker";
    sums.self[of] += own[node];
    if (sums.selfBefore && ownBefore) sums.selfBefore[of] += ownBefore[node];
    if (!open[of]++ && !wakes) {
      sums.total[of] += total[node];
      if (sums.totalBefore && totalBefore) sums.totalBefore[of] += totalBefore[node];
    }
    if (firstChild[node]) {
      node = firstChild[node];
      continue;
    }
    for (;;) {
      open[same[name[node]]]--;
      if (sibling[node]) {
        node = sibling[node];
        break;
      }
      node = parent[node];
      if (!node) break;
    }
  }
  return sums;
}

export interface SearchResult {
  /** 1 for each name that matches. */
  matches: Uint8Array;
  functions: number;
  error: string;
}

/** A regular expression in which letter case counts only with a capital in it; or what is wrong with it. */
export function smartCase(pattern: string): RegExp | string {
  try {
    // A class such as \S or \W does not count as a capital letter.
    return new RegExp(pattern, /[A-Z]/.test(pattern.replace(/\\./g, "")) ? "" : "i");
  } catch (error) {
    return String((error as Error).message).replace(/^Invalid regular expression: /, "");
  }
}

/** The names that `pattern` matches; letter case counts only when the pattern has a capital. */
export function searchNames(functions: string[], same: Int32Array, pattern: string): SearchResult {
  const matches = new Uint8Array(functions.length);
  const expression = smartCase(pattern);
  if (typeof expression === "string") return { matches, functions: 0, error: expression };
  let count = 0;
  for (let i = 1; i < functions.length; i++) {
    if (expression.test(functions[i])) {
      matches[i] = 1;
      if (same[i] === i) count++;
    }
  }
  return { matches, functions: count, error: "" };
}

/** The weight of all samples below `root` that have a match in their stack (above `root` too), each counted once. */
export function matchedWeight(tree: Tree, matches: Uint8Array, root: number): number {
  for (let node = root; node; node = tree.parent[node]) if (matches[tree.name[node]]) return tree.width[root];
  let sum = 0;
  const open = [root];
  while (open.length) {
    const node = open.pop() as number;
    for (let k = tree.first[node]; k < tree.first[node + 1]; k++) {
      const child = tree.child[k];
      if (matches[tree.name[child]]) sum += tree.width[child];
      else if (tree.first[child] < tree.first[child + 1]) open.push(child);
    }
  }
  return sum;
}
