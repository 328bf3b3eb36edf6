// The strip of CPUs: a row for each CPU, a column for each tick, the colour how busy it was.

import { element } from "./dom";
import type { ThemeSwitch } from "./theme";
import type { Tick } from "./ticks";

const MOST_TICKS = 150; // across the page
const ROW = 12;
const MOST_HEIGHT = 192; // with more CPUs rows are lower
const LIGHT = ["#ece8e1", "#f6c98f", "#ef9350", "#d8552b", "#9e1f17"];
const DARK = ["#26282d", "#5d4526", "#a8641f", "#e08a3c", "#ffd0a0"];

export class CpuHeat {
  readonly element = element("canvas", { class: "cpus", role: "img", "aria-label": "how busy each CPU was" });
  private cell = 1;
  private numbers: number[] = [];

  constructor(
    private readonly theme: ThemeSwitch,
    choose: (number: number) => void,
  ) {
    this.element.addEventListener("click", (event) => {
      const number = this.numbers[Math.floor(event.offsetX / this.cell)];
      if (number !== undefined) choose(number);
    });
  }

  /** Draw ticks, of which number `at` is shown; returns how wide they are, in CSS pixels. */
  draw(ticks: Tick[], at: number): number {
    const cpus = Object.keys(ticks[at].machine.cpus);
    const row = Math.max(2, Math.min(ROW, Math.floor(MOST_HEIGHT / Math.max(1, cpus.length))));
    const width = this.element.parentElement?.clientWidth ?? 600;
    const scale = devicePixelRatio || 1;
    const height = row * cpus.length + 3;
    this.element.style.height = `${height}px`;
    this.element.width = Math.round(width * scale);
    this.element.height = Math.round(height * scale);
    const context = this.element.getContext("2d") as CanvasRenderingContext2D;
    context.scale(scale, scale);
    const cell = Math.max(2, Math.floor(width / MOST_TICKS));
    this.cell = cell;
    this.numbers = ticks.map((tick) => tick.number);
    const colours = this.theme.current === "dark" ? DARK : LIGHT;
    for (const [x, tick] of ticks.entries()) {
      for (const [y, cpu] of cpus.entries()) {
        const busy = tick.machine.cpus[cpu]?.busy ?? 0;
        context.fillStyle = colours[Math.min(colours.length - 1, Math.floor(busy * colours.length))];
        context.fillRect(x * cell, y * row, cell - 1, row - 1);
      }
    }
    context.fillStyle = getComputedStyle(this.element).color;
    context.fillRect(at * cell, height - 2, cell - 1, 2);
    return ticks.length * cell;
  }
}
