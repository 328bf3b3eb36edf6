// A timeline for tests, small enough to be followed by hand.

import { TIMELINE_ARRAYS, type TimelineData } from "../src/schema";
import { Model } from "../src/timeline/model";

const STATES = ["preempted", "runnable", "running", "sleeping", "uninterruptible"];

export type State = [time: number, duration: number, thread: number, what: string, cpu?: number, waker?: number];
type Span = [time: number, duration: number, thread: number, name: string];

/**
 * Threads 1 (main 10) and 2 (helper 11) of one process, 3 (disk 20) of another, on two CPUs, for 1000 ns:
 *
 *     main     running 0 .. 100 on CPU 0, sleeping .. 600, woken by helper, runnable .. 700, running on CPU 1 .. 1000
 *     helper   sleeping 0 .. 400, woken by disk, runnable .. 450, running on CPU 0 .. 650, sleeping .. 1000
 *     disk     running 0 .. 500 on CPU 1, preempted .. 550, running on CPU 1 .. 700, uninterruptible .. 1000
 */
export const FIRST: State[] = [
  [0, 100, 1, "running", 0],
  [0, 400, 2, "sleeping"],
  [0, 500, 3, "running", 1],
  [100, 500, 1, "sleeping"],
  [400, 50, 2, "runnable", -1, 3],
  [450, 200, 2, "running", 0],
  [500, 50, 3, "preempted"],
  [550, 150, 3, "running", 1],
  [600, 100, 1, "runnable", -1, 2],
  [650, 350, 2, "sleeping"],
  [700, 300, 1, "running", 1],
  [700, 300, 3, "uninterruptible"],
];

export const SPANS: Span[] = [
  [50, 600, 1, "request"],
  [90, 520, 1, "futex"],
  [450, 200, 2, "request"],
  [460, 40, 2, "parse"],
  [510, 20, 2, "parse"],
];

export function timeline(states: State[] = FIRST, spans: Span[] = SPANS, more: Partial<TimelineData> = {}): Model {
  const arrays = Object.fromEntries(
    TIMELINE_ARRAYS.map(({ name, kind }) => [name, kind === "indices" ? new Int32Array(0) : new Float64Array(0)]),
  );
  const names = [...new Set(spans.map(([, , , name]) => name))];
  const data = {
    ...arrays,
    stateTime: Float64Array.from(states, ([time]) => time),
    stateDuration: Float64Array.from(states, ([, duration]) => duration),
    stateThread: Int32Array.from(states, ([, , thread]) => thread),
    stateWhat: Int32Array.from(states, ([, , , what]) => STATES.indexOf(what)),
    stateCpu: Int32Array.from(states, ([, , , , cpu]) => (cpu ?? -1) + 1),
    stateWaker: Int32Array.from(states, ([, , , , , waker]) => waker ?? 0),
    stateStack: new Int32Array(states.length),
    spanTime: Float64Array.from(spans, ([time]) => time),
    spanDuration: Float64Array.from(spans, ([, duration]) => duration),
    spanThread: Int32Array.from(spans, ([, , thread]) => thread),
    spanName: Int32Array.from(spans, ([, , , name]) => names.indexOf(name)),
    spanCategory: new Int32Array(spans.length),
    spanText: new Int32Array(spans.length),
    spanStack: new Int32Array(spans.length),
    ...more,
    meta: {
      mode: "timeline",
      title: "",
      subtitle: "",
      notes: [],
      losses: {},
      originNs: 0,
      endNs: 1000,
      threads: { tid: [0, 10, 11, 20], comm: ["", "main", "helper", "disk"], process: [0, 1, 1, 2] },
      processes: { pid: [0, 10, 20], name: ["", "prog", "disk"], machine: [0, 0, 0] },
      machines: { name: [""], firstCpu: [0] },
      virtualCpus: { cpu: [], thread: [] },
      states: STATES,
      names,
      categories: ["work"],
      events: ["sched.open"],
      sampled: ["cpu-clock"],
      counters: { name: ["memory"], unit: ["bytes"], thread: [0], cpu: [-1] },
      functions: { name: ["", "main", "read"], module: ["", "/bin/prog", "libc.so.6"], kind: ["", "user", "user"] },
      texts: [""],
      ...more.meta,
    },
  } as unknown as TimelineData;
  return new Model(data);
}
