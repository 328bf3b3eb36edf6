// A heat map with its controls: selecting a range of time writes it into the page's state.

import "./style/heat.css";
import type { PageData } from "./data";
import { Choice, element } from "./dom";
import { exact, percent } from "./format";
import { HeatCanvas, type CellRange } from "./heat";
import { Tooltip } from "./pointer";
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
  private readonly heat: { columns: number; rows: number; columnNs: number };
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
    area.addEventListener("dblclick", () => this.cursor >= 0 && this.select([this.cursor, this.cursor]));
    area.addEventListener("keydown", (event) => this.key(event));
    state.onChange(() => this.apply());
    theme.onChange(() => this.apply());
  }

  /** The selected cells, as the page's state says; null for none. */
  get selected(): CellRange | null {
    const match = /^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)$/.exec(this.state.get("range"));
    if (!match) return null;
    // The address gives seconds, rounded: the start of the first cell and the end of the last.
    const from = Math.round(this.cellOf(Number(match[1])));
    const to = Math.round(this.cellOf(Number(match[2]))) - 1;
    const last = this.heat.columns * this.heat.rows - 1;
    return from > last || to < from ? null : [from, Math.min(to, last)];
  }

  apply(): void {
    this.tally();
    const logarithmic = this.state.get("scale") === "log";
    this.scale.show(logarithmic ? "log" : "linear");
    const { columns, rows, columnNs } = this.heat;
    this.canvas.show({ columns, rows, count: this.count }, columnNs, this.theme.current, logarithmic);
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
      this.anchor >= 0 ? ordered(this.anchor, this.cursor < 0 ? this.anchor : this.cursor) : this.selected;
    this.canvas.mark(range, this.cursor);
    this.clear.hidden = !this.selected && this.anchor < 0;
    if (!range) {
      this.say.textContent = this.all
        ? "Drag over a range, or click its start and end, to see its flame graph"
        : `No ${this.data.meta.counted}`;
      return;
    }
    let sum = 0;
    for (let cell = range[0]; cell <= range[1]; cell++) sum += this.count[cell];
    const text = `${this.time(range[0])} – ${this.time(range[1] + 1)} s · ${exact(sum, this.data.meta.unit)} · ${percent(sum, this.all)}`;
    this.say.textContent = this.anchor >= 0 && this.pressed < 0 ? `${text} · now click the end` : text;
  }

  private select(range: CellRange | null): void {
    this.anchor = this.pressed = -1;
    this.state.set({ range: range ? `${this.time(range[0])}-${this.time(range[1] + 1)}` : "" });
    this.show();
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0) return;
    const { cell, onAxis } = this.canvas.cellAt(event.clientX, event.clientY);
    if (cell < 0) return;
    if (onAxis) {
      this.select([cell, cell + this.heat.rows - 1]);
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
    const last = onAxis ? cell + this.heat.rows - 1 : cell;
    let sum = 0;
    for (let i = cell; i <= last; i++) sum += this.count[i];
    const when = `${this.time(cell)} – ${this.time(last + 1)} s`;
    this.tooltip.show(
      event,
      element("strong", {}, exact(sum, this.data.meta.unit)),
      element("span", { class: "quiet" }, when),
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
    if (dragged || second) this.select(ordered(start, end));
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
        this.select(ordered(this.anchor, this.cursor));
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

  /** Seconds from the start to the beginning of `cell`; enough digits to tell cells apart. */
  private time(cell: number): string {
    const { rows, columnNs } = this.heat;
    return ((cell * columnNs) / rows / 1e9).toFixed(4).replace(/0{1,2}$/, "");
  }

  private cellOf(seconds: number): number {
    return (seconds * 1e9 * this.heat.rows) / this.heat.columnNs;
  }
}

function ordered(a: number, b: number): CellRange {
  return a < b ? [a, b] : [b, a];
}
