// The canvas of a heat map: time to the right; upwards time within the column, or size. Cells can be selected.

import type { Cells } from "./cells";
import { heatColours, type Theme } from "./colour";
import { element } from "./dom";

export interface HeatGrid {
  columns: number;
  rows: number;
  columnNs: number;
  /** Samples in each cell, column by column, upwards. */
  count: Float64Array;
  ticks: Tick[];
}

/** A mark on the axis of rows: at the lower edge of a row. */
export interface Tick {
  row: number;
  text: string;
}

const LEFT = 60;
const BOTTOM = 22;
const TOP = 4;
const RIGHT = 24;
const STEPS = 64;
const MAX_CELL = 64;
const FONT = '11px Inter, "Segoe UI", Roboto, "Helvetica Neue", Arial, system-ui, sans-serif';

export class HeatCanvas {
  readonly element: HTMLDivElement;
  private readonly cells = element("canvas", { "aria-hidden": "true" });
  private readonly marks = element("canvas", { class: "marks", "aria-hidden": "true" });
  private grid: HeatGrid = { columns: 0, rows: 1, columnNs: 1e9, count: new Float64Array(0), ticks: [] };
  private logarithmic = false;
  private cellWidth = 8;
  private cellHeight = 6;
  private range: Cells | null = null;
  /** The cell that the keyboard or the pointer is at; -1 for none. */
  private cursor = -1;
  colours: string[] = [];
  largest = 0;

  constructor() {
    const sized = element("div", { class: "sized" }, this.cells, this.marks);
    this.element = element(
      "div",
      { class: "heat", tabindex: 0, role: "application", "aria-roledescription": "heat map" },
      sized,
    );
    new ResizeObserver(() => this.resize()).observe(this.element);
  }

  show(grid: HeatGrid, theme: Theme, logarithmic: boolean): void {
    this.grid = grid;
    this.logarithmic = logarithmic;
    this.colours = heatColours(theme, STEPS);
    this.largest = grid.count.reduce((most, count) => Math.max(most, count), 0);
    this.resize();
  }

  mark(range: Cells | null, cursor: number): void {
    this.range = range;
    this.cursor = cursor;
    this.drawMarks();
  }

  /** The cell at a position of the page; -1 outside. On the axis below, the first cell of the column. */
  cellAt(clientX: number, clientY: number): { cell: number; onAxis: boolean } {
    const box = this.marks.getBoundingClientRect();
    const column = Math.floor((clientX - box.left - LEFT) / this.cellWidth);
    const y = clientY - box.top - TOP;
    const { columns, rows } = this.grid;
    if (column < 0 || column >= columns || y < 0) return { cell: -1, onAxis: false };
    const row = rows - 1 - Math.floor(y / this.cellHeight);
    return row < 0 ? { cell: column * rows, onAxis: true } : { cell: column * rows + row, onAxis: false };
  }

  /** The middle of a cell on the page, in pixels. */
  centre(cell: number): { x: number; y: number } {
    const box = this.marks.getBoundingClientRect();
    const [x, y] = this.corner(cell);
    return { x: box.left + x + this.cellWidth / 2, y: box.top + y + this.cellHeight / 2 };
  }

  reveal(cell: number): void {
    const [x] = this.corner(cell);
    const { scrollLeft, clientWidth } = this.element;
    if (x < scrollLeft + LEFT) this.element.scrollLeft = x - LEFT;
    else if (x + this.cellWidth > scrollLeft + clientWidth)
      this.element.scrollLeft = x + this.cellWidth - clientWidth;
  }

  private corner(cell: number): [number, number] {
    const { rows } = this.grid;
    const column = Math.floor(cell / rows);
    return [LEFT + column * this.cellWidth, TOP + (rows - 1 - (cell - column * rows)) * this.cellHeight];
  }

  private resize(): void {
    const { columns, rows } = this.grid;
    const room = this.element.clientWidth - LEFT - RIGHT;
    if (!columns || room <= 0) return;
    this.cellWidth = Math.min(MAX_CELL, Math.max(4, Math.floor(room / columns)));
    this.cellHeight = Math.min(14, Math.max(2, Math.floor(Math.min(330, innerHeight * 0.4) / rows)));
    const ratio = devicePixelRatio || 1;
    const width = LEFT + columns * this.cellWidth + RIGHT;
    const height = TOP + rows * this.cellHeight + BOTTOM;
    for (const canvas of [this.cells, this.marks]) {
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.drawCells();
    this.drawMarks();
  }

  private context(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
    const context = canvas.getContext("2d") as CanvasRenderingContext2D;
    const ratio = canvas.width / canvas.clientWidth || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    return context;
  }

  /** The colour of a count; nothing has none. */
  private colour(count: number): string {
    const share = this.logarithmic ? Math.log1p(count) / Math.log1p(this.largest) : count / this.largest;
    return this.colours[Math.max(0, Math.ceil(share * STEPS) - 1)];
  }

  private drawCells(): void {
    const context = this.context(this.cells);
    const { columns, rows, count } = this.grid;
    const style = getComputedStyle(document.documentElement);
    const gap = this.cellWidth >= 7 && this.cellHeight >= 5 ? 1 : 0;
    context.fillStyle = style.getPropertyValue("--stage");
    context.fillRect(LEFT, TOP, columns * this.cellWidth, rows * this.cellHeight);
    for (let cell = 0; cell < count.length; cell++) {
      if (!count[cell]) continue;
      const [x, y] = this.corner(cell);
      context.fillStyle = this.colour(count[cell]);
      context.fillRect(x, y, this.cellWidth - gap, this.cellHeight - gap);
    }
    this.drawAxes(context, style.getPropertyValue("--quiet"), style.getPropertyValue("--line"));
  }

  private drawAxes(context: CanvasRenderingContext2D, ink: string, line: string): void {
    const { columns, rows, columnNs, ticks } = this.grid;
    const bottom = TOP + rows * this.cellHeight;
    context.font = FONT;
    context.fillStyle = ink;
    context.strokeStyle = line;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const { row, text } of ticks) {
      const y = bottom - row * this.cellHeight;
      context.fillText(text, LEFT - 7, Math.min(bottom - 4, Math.max(TOP + 5, y)));
      context.beginPath();
      context.moveTo(LEFT - 4, Math.round(y) + 0.5);
      context.lineTo(LEFT, Math.round(y) + 0.5);
      context.stroke();
    }
    context.textAlign = "left";
    const seconds = columnNs / 1e9;
    const steps = seconds < 1 ? [1, 2, 5, 10, 20, 50, 100] : [1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
    const every = steps.find((step) => step * this.cellWidth >= 44) ?? steps[steps.length - 1];
    for (let column = 0; column < columns; column += every) {
      const x = LEFT + column * this.cellWidth;
      const text = `${Number((column * seconds).toPrecision(6))} s`;
      if (x + context.measureText(text).width > LEFT + columns * this.cellWidth + RIGHT) break;
      context.fillText(text, x, bottom + 13);
      context.beginPath();
      context.moveTo(x + 0.5, bottom);
      context.lineTo(x + 0.5, bottom + 4);
      context.stroke();
    }
  }

  private drawMarks(): void {
    const context = this.context(this.marks);
    const { rows, columns } = this.grid;
    if (!columns) return;
    const style = getComputedStyle(document.documentElement);
    if (this.range) {
      const { first: from, last: to, rows: ofRectangle } = this.range;
      // What is not selected stands back.
      context.fillStyle = style.getPropertyValue("--veil");
      context.fillRect(LEFT, TOP, columns * this.cellWidth, rows * this.cellHeight);
      const first = Math.floor(from / rows);
      const last = Math.floor(to / rows);
      const area = new Path2D();
      for (let column = first; column <= last; column++) {
        const low = ofRectangle || column === first ? from % rows : 0;
        const high = ofRectangle || column === last ? to % rows : rows - 1;
        const [x, y] = this.corner(column * rows + high);
        area.rect(x, y, this.cellWidth, (high - low + 1) * this.cellHeight);
        context.clearRect(x, y, this.cellWidth, (high - low + 1) * this.cellHeight);
      }
      this.outline(context, area, style.getPropertyValue("--focus"));
    }
    if (this.cursor >= 0) {
      const [x, y] = this.corner(this.cursor);
      context.strokeStyle = style.getPropertyValue("--ink");
      context.lineWidth = 1.5;
      context.strokeRect(x - 0.5, y - 0.5, this.cellWidth, this.cellHeight);
    }
  }

  /** Stroke the outside of `area`, not the borders between its columns. */
  private outline(context: CanvasRenderingContext2D, area: Path2D, colour: string): void {
    context.save();
    const outside = new Path2D();
    outside.rect(0, 0, this.marks.clientWidth, this.marks.clientHeight);
    outside.addPath(area);
    context.clip(outside, "evenodd");
    context.strokeStyle = colour;
    context.lineWidth = 3;
    context.stroke(area);
    context.restore();
  }
}
