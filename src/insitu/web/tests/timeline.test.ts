import { describe, expect, it } from "vitest";
import { coloursOf } from "../src/timeline/colours";
import { Lane, Shares, stacked } from "../src/timeline/lane";
import { BLOCK } from "../src/timeline/longest";
import { Painter } from "../src/timeline/paint";
import type { Raster } from "../src/timeline/raster";
import { search, nextFrom } from "../src/timeline/search";
import { counterValues, eventCounts, sampleCounts, spanTimes, threadTimes } from "../src/timeline/statistics";
import { initiallyCollapsed, layOut, type Track, tracksOf } from "../src/timeline/tracks";
import { clamped, length, moment, rangeOf, rangeText, tickStep, zoomed } from "../src/timeline/viewport";
import { chain, cpuGot, occupants, spanAt, wakingOf } from "../src/timeline/why";
import { type State, timeline } from "./timelines";

const MAIN = 1;
const HELPER = 2;
const DISK = 3;

/** Numbers that are the same in each run. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Intervals with gaps, some without any length, many enough for several levels of an index. */
function intervals(count: number): { lane: Lane; what: Int32Array; classes: Int8Array; end: number } {
  const chance = numbers(7);
  const [time, duration] = [new Float64Array(count), new Float64Array(count)];
  let at = 0;
  for (let i = 0; i < count; i++) {
    at += Math.floor(chance() * 5);
    time[i] = at;
    duration[i] = chance() < 0.1 ? 0 : Math.floor(chance() ** 8 * 1000);
    at += duration[i];
  }
  const what = Int32Array.from({ length: count }, () => Math.floor(chance() * 4));
  const rows = Int32Array.from({ length: count }, (_, i) => i);
  return { lane: new Lane(time, duration, rows, what), what, classes: Int8Array.of(0, 1, 2, -1), end: at };
}

/** How many rows begin in the part of the index that a time is in, or in its neighbours. */
function positionsNear(lane: Lane, t: number): number {
  return lane.firstFrom(t + 2 * lane.part) - lane.firstFrom(t - 2 * lane.part);
}

describe("a lane", () => {
  const { lane, what, classes, end } = intervals(5000);
  const chance = numbers(3);

  it("finds by time what looking at each interval finds", () => {
    for (let round = 0; round < 500; round++) {
      const t = Math.floor(chance() * (end + 10)) - 5 + (round % 2) / 2;
      let [first, within] = [0, -1];
      while (first < lane.length && lane.start(first) < t) first++;
      for (let i = 0; i < lane.length; i++)
        if (lane.start(i) <= t && (t < lane.end(i) || lane.start(i) === t)) within = i;
      expect(lane.firstFrom(t)).toBe(first);
      expect(lane.firstFrom(t, Math.floor(first * chance()))).toBe(first);
      expect(lane.at(t)).toBe(within);
    }
  });

  it("knows the longest of any part", () => {
    for (let round = 0; round < 300; round++) {
      const from = Math.floor(chance() * lane.length);
      const to = from + 1 + Math.floor(chance() * (lane.length - from));
      let most = 0;
      for (let i = from; i < to; i++) most = Math.max(most, lane.end(i) - lane.start(i));
      const found = lane.longest(from, to);
      expect(lane.end(found) - lane.start(found)).toBe(most);
      expect(found >= from && found < to).toBe(true);
    }
  });

  it("adds up each class in any range of time", () => {
    const shares = new Shares(lane, what, classes, 3);
    for (let round = 0; round < 200; round++) {
      const [from, to] = [chance() * end, chance() * end].sort((a, b) => a - b);
      const sums = [0, 0, 0];
      for (let i = 0; i < lane.length; i++)
        if (what[i] < 3) sums[what[i]] += Math.max(0, Math.min(lane.end(i), to) - Math.max(lane.start(i), from));
      const found = shares.within(from, to);
      for (let each = 0; each < 3; each++) expect(found[each]).toBeCloseTo(sums[each], 6);
    }
  });

  it("has blocks from one time to another that hold what lies between, but for their edges", () => {
    const shares = new Shares(lane, what, classes, 3);
    const found = new Float64Array(3);
    for (let round = 0; round < 200; round++) {
      const [from, to] = [chance() * end, chance() * end].sort((a, b) => a - b);
      const [low, high] = [lane.blockNear(from), lane.blockNear(to)];
      const [first, last] = [low * BLOCK, Math.min(high * BLOCK, lane.length - 1)];
      expect(Math.abs(lane.firstFrom(from + lane.part / 2) - first)).toBeLessThan(BLOCK + positionsNear(lane, from));
      if (high <= low || high * BLOCK >= lane.length) continue;
      expect(shares.ofBlocks(low, high, found)).toBe(lane.start(last) - lane.start(first));
      const sums = [0, 0, 0];
      let longest = first;
      for (let i = first; i < last; i++) {
        if (what[i] < 3) sums[what[i]] += lane.lengthOf(i);
        if (lane.lengthOf(i) > lane.lengthOf(longest)) longest = i;
      }
      expect([...found]).toEqual(sums);
      const equals = Array.from({ length: last - first }, (_, i) => first + i).filter(
        (i) => lane.lengthOf(i) === lane.lengthOf(longest),
      );
      expect(equals.map((i) => what[i])).toContain(lane.whatOfLongest(low, high));
    }
  });

  it("knows durations of any length", () => {
    const long = new Lane(
      Float64Array.of(0, 5e9),
      Float64Array.of(5e9, 2 ** 32 - 1),
      Int32Array.of(0, 1),
      new Int32Array(2),
    );
    expect([long.lengthOf(0), long.lengthOf(1), long.end(1)]).toEqual([5e9, 2 ** 32 - 1, 5e9 + 2 ** 32 - 1]);
  });

  it("finds by time however unevenly its rows are spread", () => {
    const time = Float64Array.from({ length: 1000 }, (_, i) => (i < 900 ? 1e9 + i : 1e9 * i));
    const uneven = new Lane(time, null, Int32Array.from(time.keys()), new Int32Array(1000));
    for (const t of [0, 1e9, 1e9 + 450.5, 1e9 + 899, 1e9 + 900, 5e11, 9e11, 9.5e11 + 1, 1e12])
      expect(uneven.firstFrom(t)).toBe(time.filter((each) => each < t).length);
  });

  it("has no interval when it is empty", () => {
    const empty = new Lane(new Float64Array(0), null, new Int32Array(0), new Int32Array(0));
    expect([empty.firstFrom(5), empty.at(5), empty.length]).toEqual([0, -1, 0]);
  });

  it("of nested spans lies below that of what they are nested in", () => {
    const time = Float64Array.of(0, 0, 10, 40, 100);
    const duration = Float64Array.of(90, 50, 20, 5, 10);
    const lanes = stacked(time, duration, Int32Array.of(0, 1, 2, 3, 4), new Int32Array(5), 24);
    expect(lanes.map((each) => [...each.rows])).toEqual([[0, 4], [1], [2, 3]]);
  });
});

describe("the part of the time that is shown", () => {
  it("stays within the recording and does not become too short", () => {
    expect(clamped({ from: -50, to: 50 }, 1000)).toEqual({ from: 0, to: 100 });
    expect(clamped({ from: 950, to: 1050 }, 1000)).toEqual({ from: 900, to: 1000 });
    expect(clamped({ from: -5, to: 5000 }, 1000)).toEqual({ from: 0, to: 1000 });
    expect(clamped({ from: 500, to: 500 }, 1000)).toEqual({ from: 490, to: 510 });
    expect(clamped({ from: 0, to: 3 }, 3)).toEqual({ from: 0, to: 3 });
  });

  it("keeps what is under the pointer where it is", () => {
    const view = zoomed({ from: 200, to: 600 }, 0.5, 300, 1000);
    expect(view).toEqual({ from: 250, to: 450 });
    expect((300 - view.from) / (view.to - view.from)).toBe((300 - 200) / (600 - 200));
  });

  it("has ticks at round times, written with the digits that tell them apart", () => {
    expect([tickStep(1000, 10), tickStep(1e9, 7), tickStep(30, 100)]).toEqual([100, 2e8, 1]);
    expect(moment(1_234_567_890, 1)).toBe("1.234 567 890 s");
    expect(moment(1_234_567_890, 100)).toBe("1.234 567 890 s");
    expect(moment(1_234_567_890, 2e6)).toBe("1.235 s");
    expect(moment(3e9, 1e9)).toBe("3 s");
    expect(moment(999_999_999.6, 1)).toBe("1.000 000 000 s");
  });

  it("writes durations exactly", () => {
    expect([length(0), length(12), length(1234), length(1_234_567), length(2e9)]).toEqual([
      "0 ns",
      "12 ns",
      "1.234 µs",
      "1.234567 ms",
      "2 s",
    ]);
  });

  it("survives the page's address", () => {
    expect(rangeOf(rangeText({ from: 12.4, to: 99.6 }))).toEqual({ from: 12, to: 100 });
    for (const wrong of ["", "5", "9-5", "a-b", "1-2-3", "-5-7"]) expect(rangeOf(wrong)).toBeNull();
  });
});

/** A thread's states: runs `share` of each `period` ns, then sleeps; a long sleep in the middle. */
function alternating(count: number, period: number, share: number): State[] {
  const states: State[] = [];
  for (let i = 0, at = 0; i < count; i++) {
    states.push([at, period * share, MAIN, "running", 0]);
    const sleep = i === count >> 1 ? 0.1 * count * period : period * (1 - share);
    states.push([at + period * share, sleep, MAIN, "sleeping"]);
    at += period * share + sleep;
  }
  return states;
}

/** The contrast of two colours by WCAG 2: of CSS "#rrggbb" and of a pixel. */
function contrast(text: string, pixel: number): number {
  const light = ([red, green, blue]: number[]): number => {
    const linear = (value: number): number => (value <= 10 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  };
  const [one, other] = [
    light([1, 3, 5].map((at) => Number.parseInt(text.slice(at, at + 2), 16))),
    light([0, 8, 16].map((shift) => (pixel >> shift) & 255)),
  ];
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}

describe("texts", () => {
  it.each(["light", "dark"] as const)("are legible on every colour that they are written on (%s)", (theme) => {
    const states = ["running", "runnable", "preempted", "sleeping", "uninterruptible", "stopped", "unknown"];
    const colours = coloursOf(theme, states);
    for (const [at, state] of states.entries())
      expect(contrast(colours.text, colours.state[at]), state).toBeGreaterThan(4.5);
    for (let name = 0; name < 3000; name++)
      expect(contrast(colours.text, colours.name(`thread-${name}`)), `thread-${name}`).toBeGreaterThan(4.5);
    for (const behind of [colours.stage, colours.group])
      for (const text of [colours.ink, colours.quiet, colours.accent])
        expect(contrast(text, behind)).toBeGreaterThan(4.5);
  });
});

describe("a drawing", () => {
  const HEIGHT = 100;
  const WIDTH = 500;
  const STRIP = { left: 0, right: WIDTH, top: 0, bottom: HEIGHT, clip: 0 };

  /** How many pixels of each column have the colour of running, in a view of a track of states or of a CPU. */
  function running(states: State[], view: { from: number; to: number }, type: "state" | "cpu"): number[] {
    const model = timeline(states, []);
    const colours = coloursOf("light", model.data.meta.states);
    const pixels = new Uint32Array(WIDTH * HEIGHT);
    const box = (x0: number, y0: number, x1: number, y1: number, colour: number): void => {
      for (let y = y0; y < y1; y++) pixels.fill(colour, y * WIDTH + x0, y * WIDTH + x1);
    };
    const column = (x: number, y0: number, y1: number, colour: number): void => box(x, y0, x + 1, y1, colour);
    const raster = { width: WIDTH, height: HEIGHT, box, column } as unknown as Raster;
    const painter = new Painter(model, raster, colours, 1);
    const track = tracksOf(model).find((each) => each.type === type) as Track;
    painter.draw(track, { ...STRIP, top: -2, bottom: HEIGHT + 2 }, view, false);
    const wanted = type === "state" ? colours.classes[0] : colours.name("main");
    return Array.from({ length: WIDTH }, (_, x) => {
      let found = 0;
      for (let y = 0; y < HEIGHT; y++) found += Number(pixels[y * WIDTH + x] === wanted);
      return found;
    });
  }

  it.each(["state", "cpu"] as const)(
    "of a %s has in each pixel the share of its time, however much is in it",
    (type) => {
      for (const [count, view] of [
        [100_000, 1], // 400 states in a pixel
        [100_000, 0.02],
        [5000, 1],
        [2000, 0.5],
      ]) {
        const states = alternating(count, 20, 0.3);
        const [end, from] = [1.1 * count * 20, count * 20 * 0.1];
        const ns = (view * (end - from)) / WIDTH;
        const columns = running(states, { from, to: from + ns * WIDTH }, type);
        const [asleep, awake] = [count * 10, count * 12].map((t) => (t - from) / ns);
        for (const [x, height] of columns.entries()) {
          const edge = Math.min(
            Math.abs(x - asleep),
            Math.abs(x + 1 - asleep),
            Math.abs(x - awake),
            Math.abs(x + 1 - awake),
          );
          if (edge <= 2) continue;
          const quiet = x > asleep && x < awake;
          const slack = 3 + (100 * 2 * 20) / ns; // a period at both ends of a pixel
          expect(Math.abs(height - (quiet ? 0 : 30)), `${count} ${view} at ${x}`).toBeLessThan(quiet ? 1 : slack);
        }
      }
    },
  );
});

describe("why a thread did not run", () => {
  const model = timeline();

  it("names who woke it, and what that one did until then, backwards", () => {
    expect(wakingOf(model, 3)).toEqual({ waker: HELPER, row: 8 });
    expect(chain(model, 3)).toEqual([
      {
        thread: HELPER,
        from: 400,
        to: 600,
        times: [
          ["running", 150],
          ["runnable", 50],
        ],
        row: 5,
        blocked: -1,
      },
      { thread: DISK, from: 100, to: 400, times: [["running", 300]], row: 2, blocked: -1 },
    ]);
  });

  it("names who had the CPU that it waited for", () => {
    expect(cpuGot(model, 8)).toBe(1);
    expect(occupants(model, 1, 600, 700)).toEqual([{ thread: DISK, time: 100 }]);
    expect(cpuGot(model, 4)).toBe(0);
    expect(occupants(model, 0, 400, 450)).toEqual([]);
    expect(cpuGot(model, 9)).toBe(-1);
  });

  it("names the threads that ran the longest: disk 650 ns, main 400, helper 200", () => {
    expect(model.busiest(2)).toEqual(["disk", "main"]);
    expect(model.busiest(9)).toEqual(["disk", "main", "helper"]);
  });

  it("names the innermost call that it was in", () => {
    expect(spanAt(model, MAIN, 100)).toEqual({ kind: "span", row: 1 });
    expect(spanAt(model, MAIN, 640)).toEqual({ kind: "span", row: 0 });
    expect(spanAt(model, DISK, 100)).toBeNull();
  });

  it("goes on with the same thread where nobody is known to have woken it", () => {
    const quiet = timeline([
      [0, 50, 2, "running", 1],
      [0, 100, 1, "running", 0],
      [50, 100, 2, "uninterruptible"],
      [100, 300, 1, "sleeping"],
      [150, 10, 2, "runnable", -1, 0],
      [160, 840, 2, "running", 1],
      [400, 600, 1, "runnable", -1, 2],
    ]);
    const times = [
      ["running", 240],
      ["uninterruptible", 50],
      ["runnable", 10],
    ];
    expect(chain(quiet, 3)).toEqual([{ thread: HELPER, from: 100, to: 400, times, row: 5, blocked: 2 }]);
  });
});

describe("statistics of a range", () => {
  const model = timeline(undefined, undefined, {
    sampleTime: Float64Array.of(10, 460, 470, 999),
    sampleThread: Int32Array.of(1, 2, 2, 1),
    sampleStack: Int32Array.of(1, 2, 2, 1),
    sampleType: new Int32Array(4),
    sampleCpu: new Int32Array(4),
    stackParent: Int32Array.of(0, 0, 1),
    stackFunction: Int32Array.of(0, 1, 2),
    eventTime: Float64Array.of(5, 500),
    eventThread: Int32Array.of(1, 0),
    eventType: new Int32Array(2),
    eventText: new Int32Array(2),
    eventCpu: new Int32Array(2),
    eventStack: new Int32Array(2),
    counterTime: Float64Array.of(0, 500, 900),
    counterTrack: new Int32Array(3),
    counterValue: Float64Array.of(4, -2, 7),
  });

  it("count states with the part that lies in it", () => {
    const found = threadTimes(model, [MAIN, HELPER, DISK], 50, 500);
    expect(found.map(({ thread, times }) => [thread, Object.fromEntries(times)])).toEqual([
      [DISK, { running: 450 }],
      [MAIN, { running: 50, sleeping: 400 }],
      [HELPER, { sleeping: 350, runnable: 50, running: 50 }],
    ]);
    for (const { times } of threadTimes(model, [MAIN, HELPER, DISK], 0, 1000))
      expect([...times.values()].reduce((a, b) => a + b)).toBe(1000);
  });

  it("count spans, and their self time without the spans inside", () => {
    expect(spanTimes(model, [MAIN, HELPER], 0, 1000)).toEqual([
      { name: "request", count: 2, total: 800, self: 800 - 520 - 60 },
      { name: "futex", count: 1, total: 520, self: 520 },
      { name: "parse", count: 2, total: 60, self: 60 },
    ]);
    expect(spanTimes(model, [HELPER], 470, 520)).toEqual([
      { name: "request", count: 1, total: 50, self: 10 },
      { name: "parse", count: 2, total: 40, self: 40 },
    ]);
  });

  it("count samples, events and values", () => {
    expect(sampleCounts(model, [0, 1, 2], 0, 500)).toEqual([
      { name: "read", count: 2 },
      { name: "main", count: 1 },
    ]);
    expect(eventCounts(model, [0, 1], 0, 1000)).toEqual([{ name: "sched.open", count: 2 }]);
    expect(eventCounts(model, [1], 6, 1000)).toEqual([]);
    expect(counterValues(model, 0, 901)).toEqual([{ counter: 0, count: 3, least: -2, mean: 3, most: 7 }]);
  });
});

describe("a search", () => {
  const model = timeline();

  it("finds names and threads, in the order of time", () => {
    const found = search(model, "pars|disk");
    expect(found.rows).toEqual([
      { kind: "span", row: 3 },
      { kind: "span", row: 4 },
    ]);
    expect([...found.threads]).toEqual([DISK]);
    expect(search(model, "Parse").rows).toEqual([]);
    expect(search(model, "(").error).not.toBe("");
  });

  it("finds states by their names", () => {
    const { rows } = search(model, "sleeping");
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.map((row) => model.name(row))).toEqual(rows.map(() => "sleeping"));
  });

  it("goes on from a time, in both directions", () => {
    const { rows } = search(model, "parse");
    expect([
      nextFrom(model, rows, 0, false),
      nextFrom(model, rows, 460, false),
      nextFrom(model, rows, 510, false),
    ]).toEqual([0, 1, -1]);
    expect([nextFrom(model, rows, 1000, true), nextFrom(model, rows, 460, true)]).toEqual([1, -1]);
  });
});

describe("tracks", () => {
  const tracks = tracksOf(timeline());

  it("are CPUs, then processes, the busiest first, with their threads", () => {
    expect(tracks.map(({ id }) => id)).toEqual([
      "cpus",
      "c0",
      "c1",
      "counters",
      "n0",
      "t3",
      "p1",
      "t1",
      "t1s0",
      "t2",
      "t2s0",
    ]);
    expect(tracks.map(({ name }) => name).slice(5)).toEqual([
      "disk 20",
      "prog 10",
      "main 10",
      "work",
      "helper 11",
      "work",
    ]);
    expect(tracks.find(({ id }) => id === "t2s0")?.lanes.length).toBe(2);
    expect([...initiallyCollapsed(tracks)]).toEqual([]);
  });

  it("of a guest come after the host's and have its name, with the guest's own numbers of CPUs", () => {
    const { meta } = timeline().data;
    const processes = { ...meta.processes, machine: [0, 0, 1] };
    const more = { meta: { ...meta, processes, machines: { name: ["host", "vm"], firstCpu: [0, 1] } } };
    const names = tracksOf(timeline(undefined, undefined, more)).map(({ name }) => name);
    expect(names.slice(0, 3)).toEqual(["CPUs", "CPU 0", "vm: CPU 0"]);
    expect(names.slice(5)).toEqual(["prog 10", "main 10", "work", "helper 11", "work", "vm: disk 20"]);
  });

  it("of a guest's CPU and of the host's thread that runs it name each other", () => {
    const { meta } = timeline().data;
    const machines = { name: ["host", "vm"], firstCpu: [0, 1] };
    const more = { meta: { ...meta, machines, virtualCpus: { cpu: [1], thread: [HELPER] } } };
    const hints = tracksOf(timeline(undefined, undefined, more)).map(({ name, hint }) => [name, hint]);
    expect(hints).toContainEqual(["vm: CPU 0", "run by helper 11"]);
    expect(hints).toContainEqual(["helper 11", "runs vm: CPU 0"]);
    expect(hints.filter(([, hint]) => /^runs? /.test(hint)).length).toBe(2);
  });

  it("fold, stay on top when pinned, and are filtered by the names of threads and processes", () => {
    const shown = (collapsed: string[], pinned: string[], filter: RegExp | null): [string[], string[]] => {
      const layout = layOut(tracks, new Set(collapsed), new Set(pinned), filter);
      for (const [at, { track, y }] of layout.rest.entries()) {
        const before = layout.rest[at - 1];
        // The one thread of its process, which has no heading, stands apart from the group above.
        const gap = before && track.id === "t3" ? 8 : 0;
        expect(y).toBe(before ? before.y + before.track.height + gap : 0);
      }
      const last = layout.rest.at(-1);
      expect(layout.height).toBe(last ? last.y + last.track.height : 0);
      return [layout.pinned.map(({ track }) => track.id), layout.rest.map(({ track }) => track.id)];
    };
    expect(shown(["cpus", "counters", "p1"], ["t2"], null)).toEqual([["t2"], ["cpus", "counters", "t3", "p1"]]);
    expect(shown([], [], /helper/)).toEqual([[], ["p1", "t2", "t2s0"]]);
    expect(shown(["p1"], [], /prog/)).toEqual([[], ["p1", "t1", "t1s0", "t2", "t2s0"]]);
    expect(shown([], [], /nothing/)).toEqual([[], []]);
  });
});
