// A heat map with its controls: selecting cells writes their ranges of time and size into the page's state.

import "./style/heat.css";
import { between, covers, type Cells } from "./cells";
import type { PageData } from "./data";
import { Choice, element } from "./dom";
import { brief, exact, percent } from "./format";
import { HeatCanvas, type Tick } from "./heat";
import { Tooltip } from "./pointer";
import type { Heat } from "./schema";
import type { PageState } from "./state";
import type { ThemeSwitch } from "./theme";

export class HeatPanel {
  readonly element: HTMLElement;
  readonly canvas = new HeatCanvas();
  private readonly scale: Choice<"linear" | "log">;
  private readonly say = element("output", { class: "range", "aria-live": "polite" });
  private readonly clear = element("button", { type: "button", click: () => this.select(null) }, "Clear selection");
  private readonly legend = element("i", { class: "scale" });
  private readonly most = element("span");
  private readonly tooltip = new Tooltip();
  readonly heat: Heat;
  /** Edges of rows where these are sizes, one more than rows; empty where they are times within a column. */
  private readonly edges: number[];
  private count = new Float64Array(0);
  private countKey: string | null = null;
  private all = 0;
  /** Where a selection began whose end is still to be chosen; -1 for none. */
  private anchor = -1;
  private pressed = -1;
  private cursor = -1;

  constructor(
    private readonly data: PageData,
    private readonly state: PageState,
    private readonly theme: ThemeSwitch,
  ) {
    this.heat = data.meta.heat ?? { columns: 0, rows: 1, columnNs: 1e9 };
    this.edges = this.heat.edgesNs ?? [];
    this.scale = new Choice(
      "Colour scale",
      [
        ["linear", "Linear", "Colours follow the count"],
        ["log", "Log", "Colours follow the logarithm of the count: quiet moments become visible"],
      ],
      (value) => state.set({ scale: value === "log" ? "log" : "" }, false),
    );
    this.element = element(
      "section",
      { class: "heatmap", "aria-label": "Heat map" },
      element(
        "div",
        { class: "toolbar" },
        this.say,
        this.clear,
        element("span", { class: "legend" }, "0", this.legend, this.most),
        this.scale.element,
      ),
      this.canvas.element,
    );
    const area = this.canvas.element;
    area.setAttribute(
      "aria-label",
      "Heat map: arrow keys move, Enter sets the start and the end of a range, Escape clears it",
    );
    area.addEventListener("pointerdown", (event) => this.press(event));
    area.addEventListener("pointermove", (event) => this.move(event));
    area.addEventListener("pointerup", (event) => this.release(event));
    area.addEventListener("pointerleave", () => this.tooltip.hide());
    area.addEventListener("dblclick", () => this.cursor >= 0 && this.select(this.between(this.cursor, this.cursor)));
    area.addEventListener("keydown", (event) => this.key(event));
    state.onChange(() => this.apply());
    theme.onChange(() => this.apply());
  }

  /** The selected cells, as the page's state says; null for none. */
  get selected(): Cells | null {
    const match = /^([\d.]+)-([\d.]+)(?:@([\d.e+]+)-([\d.e+]+))?$/.exec(this.state.get("range"));
    if (!match) return null;
    const { columns, rows } = this.heat;
    const [start, end, low, high] = match.slice(1).map(Number);
    // The address gives edges, rounded: the start of the first cell and the end of the last.
    const from = Math.round(this.cellOf(start));
    const to = Math.min(Math.round(this.cellOf(end)) - 1, columns * rows - 1);
    if (!this.edges.length) return from > to ? null : between(from, to, 0);
    const top = match[4] ? Math.max(1, this.rowOf(high)) : rows;
    const bottom = match[3] ? Math.min(this.rowOf(low), top - 1) : 0;
    return from > to ? null : between(from + bottom, to - rows + top, rows);
  }

  apply(): void {
    this.tally();
    const logarithmic = this.state.get("scale") === "log";
    this.scale.show(logarithmic ? "log" : "linear");
    this.canvas.show({ ...this.heat, count: this.count, ticks: this.ticks() }, this.theme.current, logarithmic);
    this.legend.style.background = `linear-gradient(to right, ${this.canvas.colours.join(",")})`;
    this.most.textContent = exact(this.canvas.largest, this.data.meta.unit);
    this.show();
  }

  /** Add up what is in each cell, of the threads that the page shows. */
  private tally(): void {
    const thread = this.state.get("thread");
    if (thread === this.countKey) return;
    this.countKey = thread;
    const { tid, comm } = this.data.meta.threads;
    const wanted = thread.slice(2);
    const counts = (group: number): boolean =>
      thread.startsWith("c:")
        ? comm[group] === wanted
        : thread.startsWith("t:")
          ? String(tid[group]) === wanted
          : true;
    const shown = tid.map((_, group) => counts(group));
    this.count = new Float64Array(this.heat.columns * this.heat.rows);
    this.all = 0;
    const { entryCell, entryGroup, entryCount } = this.data;
    if (!entryCell) return;
    for (let i = 0; i < entryCell.length; i++) {
      if (tid.length && !shown[entryGroup[i]]) continue;
      this.count[entryCell[i]] += entryCount[i];
      this.all += entryCount[i];
    }
  }

  private show(): void {
    const range =
      this.anchor >= 0 ? this.between(this.anchor, this.cursor < 0 ? this.anchor : this.cursor) : this.selected;
    this.canvas.mark(range, this.cursor);
    this.clear.hidden = !this.selected && this.anchor < 0;
    if (!range) {
      this.say.textContent = this.all
        ? `Drag over a ${this.edges.length ? "rectangle, or click two corners" : "range, or click its start and end"}, to see its flame graph`
        : `No ${this.data.meta.counted}`;
      return;
    }
    const sum = this.sum(range);
    const text = `${this.where(range)} · ${exact(sum, this.data.meta.unit)} · ${percent(sum, this.all)}`;
    this.say.textContent = this.anchor >= 0 && this.pressed < 0 ? `${text} · now click the end` : text;
  }

  private between(a: number, b: number): Cells {
    return between(a, b, this.edges.length ? this.heat.rows : 0);
  }

  private sum(range: Cells): number {
    let sum = 0;
    for (let cell = range.first; cell <= range.last; cell++) if (covers(range, cell)) sum += this.count[cell];
    return sum;
  }

  private select(range: Cells | null): void {
    this.anchor = this.pressed = -1;
    this.state.set({ range: range ? this.address(range) : "" });
    this.show();
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0) return;
    const { cell, onAxis } = this.canvas.cellAt(event.clientX, event.clientY);
    if (cell < 0) return;
    if (onAxis) {
      this.select(this.between(cell, cell + this.heat.rows - 1));
      return;
    }
    this.canvas.element.setPointerCapture(event.pointerId);
    this.pressed = cell;
    this.cursor = cell;
    if (this.anchor < 0) this.anchor = cell;
    this.show();
  }

  private move(event: PointerEvent): void {
    const { cell, onAxis } = this.canvas.cellAt(event.clientX, event.clientY);
    this.canvas.element.style.cursor = cell < 0 ? "" : onAxis ? "pointer" : "crosshair";
    if (cell < 0) {
      this.tooltip.hide();
      return;
    }
    const under = this.between(cell, onAxis ? cell + this.heat.rows - 1 : cell);
    this.tooltip.show(
      event,
      element("strong", {}, exact(this.sum(under), this.data.meta.unit)),
      element("span", { class: "quiet" }, this.where(under)),
    );
    if (!onAxis && this.cursor !== cell) {
      this.cursor = cell;
      this.show();
    }
  }

  private release(event: PointerEvent): void {
    if (this.pressed < 0) return;
    const { cell } = this.canvas.cellAt(event.clientX, event.clientY);
    const end = cell < 0 ? this.cursor : cell;
    const dragged = end !== this.pressed;
    const second = this.anchor !== this.pressed;
    const start = this.anchor;
    this.pressed = -1;
    if (dragged || second) this.select(this.between(start, end));
    else this.show();
  }

  private key(event: KeyboardEvent): void {
    const { rows, columns } = this.heat;
    const steps: Record<string, number> = { ArrowUp: 1, ArrowDown: -1, ArrowRight: rows, ArrowLeft: -rows };
    if (event.key in steps) {
      const next = this.cursor < 0 ? 0 : this.cursor + steps[event.key];
      if (next >= 0 && next < rows * columns) {
        if (event.shiftKey && this.anchor < 0) this.anchor = Math.max(0, this.cursor);
        this.cursor = next;
        this.canvas.reveal(next);
      }
      this.show();
    } else if ((event.key === "Enter" || event.key === " ") && this.cursor >= 0) {
      if (this.anchor >= 0) {
        this.select(this.between(this.anchor, this.cursor));
      } else {
        this.anchor = this.cursor;
        this.show();
      }
    } else if (event.key === "Escape") {
      event.stopPropagation();
      this.select(null);
    } else {
      return;
    }
    event.preventDefault();
  }

  /** What `range` covers, as people read it. */
  private where(range: Cells): string {
    const [from, to] = this.seconds(range);
    if (!this.edges.length) return `${from} – ${to} s`;
    const [low, high] = this.sizes(range).map((size) => brief(size, "ns"));
    return `${from} – ${to} s · ${low} – ${high}`;
  }

  /** What `range` covers, as the page's address has it. */
  private address(range: Cells): string {
    const times = this.seconds(range).join("-");
    return this.edges.length ? `${times}@${this.sizes(range).join("-")}` : times;
  }

  private sizes({ first, last }: Cells): number[] {
    const { rows } = this.heat;
    return [this.edges[first % rows], this.edges[(last % rows) + 1]].map((edge) => Number(edge.toPrecision(6)));
  }

  /** Seconds from the start to the beginning and the end; enough digits to tell cells apart. */
  private seconds({ first, last }: Cells): string[] {
    const { rows, columnNs } = this.heat;
    const cellNs = this.edges.length ? columnNs : columnNs / rows;
    const number = (cell: number): number => (this.edges.length ? Math.floor(cell / rows) : cell);
    const digits = Math.max(4, Math.ceil(-Math.log10(cellNs / 1e9)) + 1);
    return [number(first), number(last) + 1].map((at) =>
      ((at * cellNs) / 1e9).toFixed(digits).replace(/(\.\d\d\d*?)0+$/, "$1"),
    );
  }

  /** The first cell of the column, or the cell within it, that begins at a time. */
  private cellOf(seconds: number): number {
    const { rows, columnNs } = this.heat;
    const columns = (seconds * 1e9) / columnNs;
    return this.edges.length ? Math.round(columns) * rows : columns * rows;
  }

  /** The row whose lower edge is nearest to a size. */
  private rowOf(size: number): number {
    let nearest = 0;
    const far = (row: number): number => Math.abs(this.edges[row] - size);
    this.edges.forEach((_, row) => {
      if (far(row) < far(nearest)) nearest = row;
    });
    return nearest;
  }

  private ticks(): Tick[] {
    const { rows, columnNs } = this.heat;
    if (this.edges.length)
      return this.edges.flatMap((edge, row) => (isPowerOfTen(edge) ? [{ row, text: brief(edge, "ns") }] : []));
    return [0, 1, 2, 3, 4].map((quarter) => {
      const milliseconds = ((quarter / 4) * columnNs) / 1e6;
      const text = columnNs > 1e9 ? `${milliseconds / 1e3} s` : `${milliseconds} ms`;
      return { row: (quarter / 4) * rows, text };
    });
  }
}

function isPowerOfTen(value: number): boolean {
  const exponent = Math.log10(value);
  return Math.abs(exponent - Math.round(exponent)) < 1e-9;
}
