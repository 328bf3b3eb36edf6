// From one frame to the next, as the arrow keys go.

import { childAt, nodeAt, type Tree } from "./tree";

/** Outwards is towards the root. */
export type Direction = "outwards" | "inwards" | "left" | "right";

/** The frame next to `node` as the screen shows it; -1 where there is none. */
export function neighbour(tree: Tree, node: number, direction: Direction): number {
  if (direction === "outwards") return node ? tree.parent[node] : -1;
  if (direction === "inwards") return widestChild(tree, node);
  return sideways(tree, node, direction === "left");
}

function widestChild(tree: Tree, node: number): number {
  let widest = -1;
  for (let k = tree.first[node]; k < tree.first[node + 1]; k++) {
    if (widest < 0 || tree.width[tree.child[k]] > tree.width[widest]) widest = tree.child[k];
  }
  return widest;
}

/** The next frame of the same row, across gaps where nothing is that deep. */
function sideways(tree: Tree, node: number, left: boolean): number {
  for (let above = node; above; above = tree.parent[above]) {
    const parent = tree.parent[above];
    const here = childAt(tree, parent, tree.x[above]);
    for (
      let k = left ? here - 1 : here + 1;
      k >= tree.first[parent] && k < tree.first[parent + 1];
      k += left ? -1 : 1
    ) {
      const found = atDepth(tree, tree.child[k], tree.depth[node], left);
      if (found >= 0) return found;
    }
  }
  return -1;
}

/** The outermost frame at `depth` in the subtree of `node`, on its nearer side; -1 where it is less deep. */
function atDepth(tree: Tree, node: number, depth: number, fromRight: boolean): number {
  const edge = fromRight ? tree.x[node] + tree.width[node] - 1e-9 * tree.width[0] : tree.x[node];
  const direct = nodeAt(tree, edge, depth);
  if (direct >= 0) return direct;
  const open = [node];
  while (open.length) {
    const at = open.pop() as number;
    if (tree.depth[at] === depth) return at;
    const children = Array.from(tree.child.subarray(tree.first[at], tree.first[at + 1]));
    open.push(...(fromRight ? children : children.reverse()));
  }
  return -1;
}
