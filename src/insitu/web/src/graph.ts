// The canvas of a flame graph: draws the frames that are wide enough to see, finds the one under the pointer.

import { element } from "./dom";
import { Measure } from "./label";
import { childAt, nodeAt, type Tree } from "./tree";

export const ROW = 21;
const FONT = '12px Inter, "Segoe UI", Roboto, "Helvetica Neue", Arial, system-ui, sans-serif';
const PADDING = 5;
const MIN_LABEL = 24;
const ANIMATION_MS = 180;

/** How frames look; colours are CSS texts. */
export interface Paint {
  fill(node: number): string;
  text: string;
  dimText: string;
  rest: string;
  outline: string;
  /** Is the frame's text to stand back, as a search leaves it out? */
  dimmed(node: number): boolean;
}

export interface DrawnFrame {
  node: number;
  /** Pixels within the page's viewport. */
  x: number;
  y: number;
  width: number;
  height: number;
}

export class Graph {
  /** Scrolls; holds the canvas, which is only as large as what can be seen. */
  readonly element: HTMLDivElement;
  /** Lies over `element`: how many rows are out of sight beyond its ends, each of which a click scrolls to. */
  readonly beyond = [this.hint("above", -1), this.hint("below", 1)];
  private readonly canvas = element("canvas", { "aria-hidden": "true" });
  private readonly spacer = element("div", { class: "spacer" });
  private readonly context: CanvasRenderingContext2D;
  private readonly measure: Measure;
  private readonly reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  private tree: Tree | null = null;
  private paint: Paint | null = null;
  private labels: string[] = [];
  private icicle = false;
  private minWidth = 0.5;
  private from = 0;
  private to = 1;
  private rows = 1;
  private zoomDepth = 0;
  /** Of a flame graph: pixels between what is to be seen and the root's end. */
  private below = 0;
  private scheduled = 0;
  private animation = 0;
  private printing = false;
  private drawn: DrawnFrame[] = [];
  hovered = -1;
  selected = -1;
  /** Of the last drawing: its time in milliseconds. */
  lastDrawMs = 0;

  constructor() {
    this.element = element("div", {
      class: "graph",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "flame graph",
    });
    this.element.append(this.spacer, this.canvas);
    this.context = this.canvas.getContext("2d", { alpha: false }) as CanvasRenderingContext2D;
    this.context.font = FONT;
    this.measure = new Measure(this.context);
    this.element.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.resized()).observe(this.element);
    addEventListener("beforeprint", () => this.print(true));
    addEventListener("afterprint", () => this.print(false));
  }

  show(tree: Tree, labels: string[], icicle: boolean, minWidth: number): void {
    this.tree = tree;
    this.labels = labels;
    this.icicle = icicle;
    this.minWidth = minWidth;
    this.schedule();
  }

  recolour(paint: Paint): void {
    this.paint = paint;
    this.schedule();
  }

  /** Let `node` fill the width; what it was called from stays, faded. */
  zoom(node: number, animated: boolean): void {
    const tree = this.tree;
    if (!tree) return;
    this.zoomDepth = tree.depth[node];
    const [from, to] = [tree.x[node], tree.x[node] + (tree.width[node] || 1)];
    cancelAnimationFrame(this.animation);
    if (!animated || this.reducedMotion.matches || (from === this.from && to === this.to)) {
      this.from = from;
      this.to = to;
      this.measureRows();
      this.schedule();
      return;
    }
    const [startFrom, startTo, start] = [this.from, this.to, performance.now()];
    const step = (now: number): void => {
      const t = Math.min(1, Math.max(0, now - start) / ANIMATION_MS);
      const eased = 1 - (1 - t) ** 3;
      this.from = t < 1 ? startFrom + (from - startFrom) * eased : from;
      this.to = t < 1 ? startTo + (to - startTo) * eased : to;
      if (t < 1) this.animation = requestAnimationFrame(step);
      else this.measureRows();
      this.draw();
    };
    this.animation = requestAnimationFrame(step);
  }

  /** The node at a position of the page, or -1. */
  hit(clientX: number, clientY: number): number {
    const tree = this.tree;
    if (!tree) return -1;
    const box = this.canvas.getBoundingClientRect();
    const y = clientY - box.top;
    const depth = this.icicle
      ? Math.floor((y + this.element.scrollTop) / ROW)
      : Math.floor((this.origin() - y) / ROW);
    if (depth < 0 || depth >= this.rows) return -1;
    const position = this.from + ((clientX - box.left) / box.width) * (this.to - this.from);
    return nodeAt(tree, position, depth);
  }

  /** How many frames are drawn as one where `node` lies; 0 when it is drawn itself. */
  crowd(node: number): number {
    const tree = this.tree;
    if (!tree || !node || tree.width[node] * this.scale() >= this.minWidth) return 0;
    const parent = tree.parent[node];
    let count = 0;
    for (let k = tree.first[parent]; k < tree.first[parent + 1]; k++) {
      if (tree.width[tree.child[k]] * this.scale() < this.minWidth) count++;
    }
    return count;
  }

  /** Scroll so that the row of `node` can be seen. */
  reveal(node: number): void {
    if (!this.tree || node < 0) return;
    const top = this.icicle ? this.tree.depth[node] * ROW : this.contentHeight() - (this.tree.depth[node] + 1) * ROW;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + ROW > scrollTop + clientHeight) this.element.scrollTop = top + ROW - clientHeight;
    this.scrolled();
  }

  frames(): DrawnFrame[] {
    this.draw();
    const box = this.canvas.getBoundingClientRect();
    return this.drawn.map((frame) => ({ ...frame, x: frame.x + box.left, y: frame.y + box.top }));
  }

  schedule(): void {
    this.scheduled ||= requestAnimationFrame(() => {
      this.scheduled = 0;
      this.draw();
    });
  }

  private scale(): number {
    return this.canvas.clientWidth / (this.to - this.from);
  }

  private contentHeight(): number {
    return this.rows * ROW;
  }

  /** Of a flame graph: the canvas's y at which the root's row ends. */
  private origin(): number {
    return Math.max(this.contentHeight(), this.canvas.clientHeight) - this.element.scrollTop;
  }

  private hint(where: string, direction: number): HTMLButtonElement {
    const scroll = (): void => {
      const behavior = this.reducedMotion.matches ? "auto" : "smooth";
      this.element.scrollBy({ top: direction * (this.element.clientHeight - ROW), behavior });
    };
    return element("button", { type: "button", class: `beyond ${where}`, hidden: true, tabindex: -1, click: scroll });
  }

  private showBeyond(): void {
    const { scrollTop, clientHeight } = this.element;
    const hidden = [scrollTop, this.contentHeight() - scrollTop - clientHeight];
    for (const [at, hint] of this.beyond.entries()) {
      const rows = this.printing ? 0 : Math.round(hidden[at] / ROW);
      hint.hidden = rows < 1;
      hint.textContent = `${at ? "↓" : "↑"} ${rows.toLocaleString("en-US")} more ${rows === 1 ? "row" : "rows"}`;
    }
  }

  /** As many rows as there are frames to see. */
  private measureRows(): void {
    this.anchored(() => {
      let deepest = 0;
      this.visit((_, depth) => (deepest = Math.max(deepest, depth)));
      this.rows = deepest + 1;
      this.spacer.style.height = `${this.contentHeight()}px`;
    });
  }

  /** Do what changes the graph's height or the part to be seen; the graph stays where it is at its root's end. */
  private anchored(change: () => void): void {
    change();
    if (!this.icicle) this.element.scrollTop = this.contentHeight() - this.element.clientHeight - this.below;
  }

  private scrolled(): void {
    this.below = Math.max(0, this.contentHeight() - this.element.scrollTop - this.element.clientHeight);
    this.schedule();
  }

  /** To the root's end of the graph. */
  home(): void {
    this.below = 0;
    this.element.scrollTop = this.icicle ? 0 : this.contentHeight();
  }

  private resized(): void {
    this.anchored(() => {
      const ratio = devicePixelRatio || 1;
      const width = this.element.clientWidth;
      const height = this.printing ? Math.min(this.contentHeight(), 8000) : this.element.clientHeight;
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    });
    this.measureRows();
    this.draw();
  }

  private print(printing: boolean): void {
    this.printing = printing;
    this.element.style.height = printing ? `${this.contentHeight()}px` : "";
    this.resized();
  }

  /**
   * Call `frame` for each frame wide enough to draw, parents first, with its pixels; and `rest` for each run of
   * siblings that are not.
   */
  private visit(
    frame: (node: number, depth: number, left: number, right: number) => void,
    rest?: (depth: number, left: number, right: number) => void,
    deepest = Infinity,
  ): void {
    const tree = this.tree;
    const limit = this.canvas.clientWidth;
    if (!tree || !limit) return;
    const { x, width, first, child, depth } = tree;
    const { from, to, minWidth } = this;
    const scale = this.scale();
    const sorted = tree.order === "weight";
    const open = [0];
    while (open.length) {
      const node = open.pop() as number;
      const level = depth[node];
      frame(
        node,
        level,
        Math.max(0, (x[node] - from) * scale),
        Math.min(limit, (x[node] + width[node] - from) * scale),
      );
      if (level >= deepest) continue;
      const end = first[node + 1];
      let runStart = -1;
      let runEnd = 0;
      const mark = open.length;
      for (let k = childAt(tree, node, from); k < end; k++) {
        const below = child[k];
        if (x[below] >= to) break;
        if (width[below] * scale >= minWidth) {
          open.push(below);
          continue;
        }
        const right = sorted ? x[child[end - 1]] + width[child[end - 1]] : x[below] + width[below];
        if (runStart >= 0 && x[below] <= runEnd) {
          runEnd = right;
        } else {
          if (runStart >= 0) rest?.(level + 1, (runStart - from) * scale, (runEnd - from) * scale);
          runStart = x[below];
          runEnd = right;
        }
        if (sorted) break; // all that follow are narrower still
      }
      if (runStart >= 0) rest?.(level + 1, (runStart - from) * scale, Math.min(limit, (runEnd - from) * scale));
      open.splice(mark, open.length - mark, ...open.slice(mark).reverse());
    }
  }

  private draw(): void {
    const { tree, paint, context, canvas } = this;
    if (!tree || !paint || !canvas.width) return;
    const start = performance.now();
    const ratio = canvas.width / canvas.clientWidth;
    const height = canvas.clientHeight;
    const scrolled = this.element.scrollTop;
    const origin = this.origin();
    const top = this.icicle
      ? (depth: number) => depth * ROW - scrolled
      : (depth: number) => origin - (depth + 1) * ROW;
    const deepest = this.icicle ? Math.floor((scrolled + height) / ROW) : Math.floor(origin / ROW);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = getComputedStyle(this.element).backgroundColor;
    context.fillRect(0, 0, canvas.clientWidth, height);
    context.font = FONT;
    context.textBaseline = "middle";

    const drawn: DrawnFrame[] = [];
    let colour = "";
    const rests: number[] = [];
    this.visit(
      (node, depth, left, right) => {
        const y = top(depth);
        if (y <= -ROW || y >= height || right <= left) return;
        const fill = paint.fill(node);
        if (fill !== colour) context.fillStyle = colour = fill;
        // A gap between neighbours, but not where it would eat the frame.
        const width = right - left > 3 ? right - left - 1 : right - left > 1 ? right - left - 0.4 : right - left;
        context.globalAlpha = depth < this.zoomDepth ? 0.5 : 1;
        context.fillRect(left, y, width, ROW - 1);
        drawn.push({ node, x: left, y, width, height: ROW - 1 });
      },
      (depth, left, right) => {
        if (right - left >= 0.5) rests.push(left, top(depth), right - left);
      },
      deepest,
    );
    context.globalAlpha = 1;
    context.fillStyle = paint.rest;
    for (let i = 0; i < rests.length; i += 3) context.fillRect(rests[i], rests[i + 1] + ROW / 2 - 3, rests[i + 2], 5);
    for (const dim of [true, false]) {
      context.fillStyle = dim ? paint.dimText : paint.text;
      for (const frame of drawn) {
        if (frame.width < MIN_LABEL || paint.dimmed(frame.node) !== dim) continue;
        const label = this.measure.fit(this.labels[tree.name[frame.node]], frame.width - 2 * PADDING);
        if (label) context.fillText(label, frame.x + PADDING, frame.y + ROW / 2);
      }
    }
    for (const frame of drawn) {
      if (frame.node === this.selected || frame.node === this.hovered)
        this.outline(frame, frame.node === this.selected);
    }
    this.drawn = drawn;
    this.showBeyond();
    this.lastDrawMs = performance.now() - start;
  }

  private outline(frame: DrawnFrame, strong: boolean): void {
    const { context, paint } = this;
    if (!paint) return;
    const line = strong ? 2 : 1;
    context.strokeStyle = paint.outline;
    context.lineWidth = line;
    context.strokeRect(frame.x + line / 2, frame.y + line / 2, Math.max(1, frame.width - line), frame.height - line);
  }
}
