// What is drawn over the boxes of the tracks: names, wakeups, the selection, the ruler and the overview's window.

import { brief } from "../format";
import { Measure } from "../label";
import { HEAD, KINDS, OVERVIEW, RULER, type Shown, type TimelineCanvas } from "./canvas";
import { firstFrom } from "./lane";
import type { Model } from "./model";
import type { Label } from "./paint";
import { LANE, type Placed } from "./tracks";
import { length, moment, tickStep } from "./viewport";

const FONT = '11.5px Inter, "Segoe UI", Roboto, "Helvetica Neue", Arial, system-ui, sans-serif';
const BOLD = `600 ${FONT}`;
const MOST_ARROWS = 400;

export class Overlay {
  private readonly measure: Measure;

  constructor(
    private readonly canvas: TimelineCanvas,
    private readonly model: Model,
    private readonly context: CanvasRenderingContext2D,
  ) {
    context.font = FONT;
    this.measure = new Measure(context);
  }

  /** `boxes` are the names of boxes, in device pixels. */
  draw(shown: Shown[], boxes: Label[], scale: number): void {
    this.context.textBaseline = "middle";
    this.drawHovered(shown);
    this.drawLabels(shown, boxes, scale);
    this.drawArrows(shown);
    this.drawSelection(shown);
    this.drawHead(this.canvas.element.clientWidth);
  }

  private drawHovered(shown: Shown[]): void {
    const found = shown.find(({ placed }) => placed.track === this.canvas.hovered?.placed?.track);
    if (!found || found.placed.track.type === "group") return;
    const top = Math.max(found.top, found.clip);
    this.context.fillStyle = this.canvas.colours.ink;
    this.context.globalAlpha = 0.05;
    this.context.fillRect(0, top, this.canvas.element.clientWidth, found.top + found.placed.track.height - top);
    this.context.globalAlpha = 1;
  }

  private drawLabels(shown: Shown[], boxes: Label[], scale: number): void {
    const { context } = this;
    const { colours } = this.canvas;
    context.font = FONT;
    context.fillStyle = colours.text;
    for (const { x, width, y, text } of boxes) {
      const fitting = this.measure.fit(text, width / scale - 8);
      if (fitting) context.fillText(fitting, x / scale + 4, y / scale + 0.5);
    }
    for (const { placed, top, clip } of shown) {
      const { track } = placed;
      context.save();
      context.beginPath();
      context.rect(0, clip, this.canvas.labels - 4, this.canvas.element.clientHeight);
      context.clip();
      const y = top + Math.min(track.height, 34) / 2 + 0.5;
      const x = track.type === "group" ? 24 : 12 + 12 * track.depth;
      const pinned = this.canvas.pinned.has(track.id);
      const pins = track.type !== "group" && (pinned || this.canvas.hovered?.placed?.track === track);
      const room = this.canvas.labels - x - (pins ? 28 : 8);
      context.font = track.type === "group" ? BOLD : FONT;
      context.fillStyle = track.depth === 2 ? colours.quiet : colours.ink;
      const name = this.measure.fit(track.name, track.type === "group" ? room * 0.94 : room);
      context.fillText(name, x, y);
      const used = context.measureText(name).width + 8;
      if (track.hint && room - used > 24) {
        context.font = FONT;
        context.fillStyle = colours.quiet;
        context.fillText(this.measure.fit(track.hint, room - used), x + used, y);
      }
      if (track.type === "group") this.drawTriangle(12, y, this.canvas.collapsed.has(track.id));
      if (pins) this.drawPin(this.canvas.labels - 16, y, pinned);
      context.restore();
    }
  }

  private drawTriangle(x: number, y: number, collapsed: boolean): void {
    const { context } = this;
    context.fillStyle = this.canvas.colours.quiet;
    context.beginPath();
    if (collapsed) {
      context.moveTo(x - 3, y - 4.5);
      context.lineTo(x + 3.5, y);
      context.lineTo(x - 3, y + 4.5);
    } else {
      context.moveTo(x - 4.5, y - 3);
      context.lineTo(x + 4.5, y - 3);
      context.lineTo(x, y + 3.5);
    }
    context.fill();
  }

  private drawPin(x: number, y: number, pinned: boolean): void {
    const { context } = this;
    context.strokeStyle = context.fillStyle = pinned ? this.canvas.colours.accent : this.canvas.colours.quiet;
    context.lineWidth = 1.4;
    context.beginPath();
    context.arc(x, y - 2, 3.2, 0, 2 * Math.PI);
    if (pinned) context.fill();
    context.moveTo(x, y + 1.2);
    context.lineTo(x, y + 6);
    context.stroke();
  }

  /** Wakeups that can be seen, if they are not too many: from the one that woke down or up to the one woken. */
  private drawArrows(shown: Shown[]): void {
    const { stateTime, stateThread, stateWaker, meta } = this.model.data;
    const middle = new Float64Array(meta.threads.tid.length); // of each thread its track's; 0: not seen
    for (const { placed, top, clip } of shown)
      if (placed.track.type === "state" && top >= clip) middle[placed.track.of] = top + placed.track.height / 2;
    const draw = (row: number, strong: boolean): void => {
      const [from, to] = [middle[stateWaker[row]], middle[stateThread[row]]];
      if (from && to && from !== to) this.drawArrow(this.canvas.x(stateTime[row]), from, to, strong);
    };
    const first = firstFrom(stateTime, this.canvas.view.from);
    const last = firstFrom(stateTime, this.canvas.view.to);
    if (this.canvas.arrows && last - first < 20 * MOST_ARROWS) {
      const waking: number[] = [];
      for (let row = first; row < last && waking.length <= MOST_ARROWS; row++)
        if (stateWaker[row] && middle[stateThread[row]]) waking.push(row);
      if (waking.length <= MOST_ARROWS) for (const row of waking) draw(row, false);
    }
    if (this.canvas.selected?.kind === "state") draw(this.canvas.selected.row, true);
  }

  private drawArrow(x: number, from: number, to: number, strong: boolean): void {
    if (x < this.canvas.labels || x > this.canvas.element.clientWidth) return;
    const { context } = this;
    const up = to < from ? -1 : 1;
    context.strokeStyle = context.fillStyle = strong ? this.canvas.colours.accent : this.canvas.colours.quiet;
    context.lineWidth = strong ? 1.6 : 1;
    context.globalAlpha = strong ? 1 : 0.75;
    context.beginPath();
    context.moveTo(x + 0.5, from);
    context.lineTo(x + 0.5, to - 7 * up);
    context.stroke();
    context.beginPath();
    context.arc(x + 0.5, from, strong ? 2.5 : 1.8, 0, 2 * Math.PI);
    context.moveTo(x + 0.5, to - 2 * up);
    context.lineTo(x - 3, to - 8 * up);
    context.lineTo(x + 4, to - 8 * up);
    context.fill();
    context.globalAlpha = 1;
  }

  private drawSelection(shown: Shown[]): void {
    const { context } = this;
    const { colours } = this.canvas;
    for (const { placed, top, clip } of shown) {
      const box = this.boxOf(placed, top);
      if (!box) continue;
      context.save();
      context.beginPath();
      context.rect(this.canvas.labels, clip, this.canvas.plot, this.canvas.element.clientHeight);
      context.clip();
      context.strokeStyle = colours.ink;
      context.lineWidth = 2;
      context.strokeRect(box.x, box.y, box.width, box.height);
      context.restore();
    }
    if (!this.canvas.range) return;
    const [from, to] = [this.canvas.x(this.canvas.range.from), this.canvas.x(this.canvas.range.to)].map((x) =>
      Math.min(Math.max(x, this.canvas.labels), this.canvas.labels + this.canvas.plot),
    );
    context.globalAlpha = 0.12;
    context.fillStyle = colours.accent;
    context.fillRect(from, HEAD, to - from, this.canvas.element.clientHeight);
    context.globalAlpha = 1;
    context.fillRect(from, OVERVIEW, 1, this.canvas.element.clientHeight);
    context.fillRect(to - 1, OVERVIEW, 1, this.canvas.element.clientHeight);
  }

  /** Where the selected row is drawn in a track, if it is there. */
  private boxOf({ track }: Placed, top: number): { x: number; y: number; width: number; height: number } | null {
    const row = this.canvas.selected;
    if (!row || KINDS[track.type] !== row.kind) return null;
    const { model } = this;
    const lane = track.lanes.findIndex((each) => {
      for (let at = each.firstFrom(model.start(row)); at < each.length && each.start(at) === model.start(row); at++)
        if (each.rows[at] === row.row) return true;
      return false;
    });
    if (lane < 0) return null;
    const from = Math.max(this.canvas.x(model.start(row)), this.canvas.labels - 4);
    const to = Math.min(
      this.canvas.x(model.start(row) + model.duration(row)),
      this.canvas.labels + this.canvas.plot + 4,
    );
    const width = Math.max(to - from, 3);
    if (track.type === "spans") return { x: from, y: top + 1 + lane * LANE, width, height: LANE - 1 };
    return { x: from, y: top + 2, width, height: track.height - 4 };
  }

  private drawHead(width: number): void {
    const { context } = this;
    const { colours } = this.canvas;
    const css = (pixel: number): string => `rgb(${pixel & 255},${(pixel >> 8) & 255},${(pixel >> 16) & 255})`;
    context.fillStyle = css(colours.group);
    context.fillRect(0, OVERVIEW, width, RULER);
    context.fillStyle = css(colours.line);
    context.fillRect(0, HEAD - 1, width, 1);
    context.fillRect(0, OVERVIEW - 1, width, 1);
    context.font = FONT;
    context.fillStyle = colours.quiet;
    context.fillText(`${brief(this.canvas.view.to - this.canvas.view.from, "ns")} shown`, 12, OVERVIEW + RULER / 2);
    context.fillText(`${brief(this.model.end, "ns")} recorded`, 12, OVERVIEW / 2);
    const step = tickStep(this.canvas.view.to - this.canvas.view.from, this.canvas.plot / 130);
    context.save();
    context.beginPath();
    context.rect(this.canvas.labels, OVERVIEW, this.canvas.plot, this.canvas.element.clientHeight);
    context.clip();
    for (let tick = Math.ceil(this.canvas.view.from / step); tick * step <= this.canvas.view.to; tick++) {
      const x = Math.round(this.canvas.x(tick * step));
      context.fillStyle = css(colours.line);
      context.fillRect(x, OVERVIEW + 5, 1, RULER - 5);
      context.fillStyle = colours.quiet;
      context.fillText(moment(tick * step, step), x + 5, OVERVIEW + RULER / 2);
    }
    if (this.canvas.range) {
      const [from, to] = [this.canvas.x(this.canvas.range.from), this.canvas.x(this.canvas.range.to)];
      const text = length(Math.round(this.canvas.range.to - this.canvas.range.from));
      const wide = context.measureText(text).width + 12;
      const x = Math.min(
        Math.max((from + to - wide) / 2, this.canvas.labels),
        this.canvas.labels + this.canvas.plot - wide,
      );
      context.fillStyle = colours.accent;
      context.fillRect(Math.max(from, this.canvas.labels), HEAD - 3, to - Math.max(from, this.canvas.labels), 2);
      context.beginPath();
      context.roundRect(x, OVERVIEW + 3, wide, RULER - 8, 4);
      context.fill();
      context.fillStyle = css(colours.stage);
      context.fillText(text, x + 6, OVERVIEW + RULER / 2 - 1);
    }
    context.restore();
    this.canvas.overview.drawWindow(
      context,
      colours,
      this.canvas.view,
      this.canvas.labels,
      this.canvas.plot,
      OVERVIEW,
    );
  }
}
