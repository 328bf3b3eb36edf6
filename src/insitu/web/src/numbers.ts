// What is known of one frame, as label and value pairs: for the tooltip, the status line and the spoken text.

import { exact, percent, points } from "./format";
import type { Tree } from "./tree";

export interface Fact {
  label: string;
  value: string;
  tone?: "grew" | "shrank";
}

export interface FactContext {
  tree: Tree;
  /** Self by node: `tree.own`, but where waits are leaves (functions.ts). */
  own: Float64Array;
  unit: string;
  zoom: number;
  reversed: boolean;
}

/** The change of `node`'s share between the two sides of a difference, from -1 to 1. */
export function shareChange(tree: Tree, node: number): number {
  if (!tree.totalBefore) return 0;
  return tree.total[node] / (tree.total[0] || 1) - tree.totalBefore[node] / (tree.totalBefore[0] || 1);
}

export function facts(node: number, { tree, own, unit, zoom, reversed }: FactContext): Fact[] {
  const { total, totalBefore } = tree;
  if (totalBefore) {
    const delta = shareChange(tree, node);
    return [
      { label: "before", value: `${percent(totalBefore[node], totalBefore[0])} · ${exact(totalBefore[node], unit)}` },
      { label: "after", value: `${percent(total[node], total[0])} · ${exact(total[node], unit)}` },
      { label: "change", value: points(delta), tone: delta > 0 ? "grew" : delta < 0 ? "shrank" : undefined },
    ];
  }
  const rows: Fact[] = [
    { label: "total", value: exact(total[node], unit) },
    { label: "of all", value: percent(total[node], total[0]) },
  ];
  if (zoom && tree.depth[node] >= tree.depth[zoom])
    rows.push({ label: "of zoomed", value: percent(total[node], total[zoom]) });
  // Rooted in the callees, what a frame has of its own belongs to the row next to the root, not to it.
  if (!reversed) rows.push({ label: "self", value: `${exact(own[node], unit)} · ${percent(own[node], total[0])}` });
  return rows;
}
