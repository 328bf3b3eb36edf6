// The strip at the top: how busy the whole recording was, and the window that is shown of it.

import type { Colours } from "./colours";
import { BINS, type Model } from "./model";
import type { Raster } from "./raster";
import type { Span } from "./viewport";

export class Overview {
  private readonly bins: Float64Array;

  constructor(private readonly model: Model) {
    this.bins = activity(model);
  }

  time(x: number, left: number, width: number): number {
    return ((x - left) / width) * this.model.end;
  }

  draw(raster: Raster, colours: Colours, left: number, right: number, height: number): void {
    raster.box(0, 0, right, height, colours.group);
    const room = height - 6;
    for (let x = left; x < right; x++) {
      const value = this.bins[Math.floor(((x - left) / (right - left)) * BINS)];
      if (value)
        raster.box(x, height - 1 - Math.max(1, Math.round(value * room)), x + 1, height - 1, colours.counter);
    }
  }

  drawWindow(
    context: CanvasRenderingContext2D,
    colours: Colours,
    view: Span,
    left: number,
    width: number,
    height: number,
  ): void {
    const [from, to] = [view.from, view.to].map((t) => left + (t / this.model.end) * width);
    context.fillStyle = colours.quiet;
    context.globalAlpha = 0.22;
    context.fillRect(left, 0, from - left, height - 1);
    context.fillRect(to, 0, left + width - to, height - 1);
    context.globalAlpha = 1;
    context.fillStyle = colours.accent;
    context.fillRect(Math.floor(from), 0, 2, height - 1);
    context.fillRect(Math.min(Math.ceil(to) - 2, left + width - 2), 0, 2, height - 1);
  }
}

/** The share of the CPUs that was busy in each part of the time; without CPUs how much began then. */
function activity(model: Model): Float64Array {
  const bins = new Float64Array(BINS);
  const width = model.end / BINS;
  const cpus = model.cpus.filter((lane) => lane.length);
  for (const lane of cpus) {
    const shares = model.sharesOf(lane);
    for (let bin = 0; bin < BINS; bin++)
      bins[bin] += shares.within(bin * width, (bin + 1) * width)[0] / width / cpus.length;
  }
  if (cpus.length) return bins.map((value) => Math.min(1, value));
  const { spanTime, sampleTime, eventTime, counterTime, stateTime } = model.data;
  for (const times of [spanTime, sampleTime, eventTime, counterTime, stateTime])
    for (const time of times) bins[Math.min(BINS - 1, Math.floor(time / width))]++;
  const most = bins.reduce((a, b) => Math.max(a, b), 1);
  return bins.map((value) => value / most);
}
