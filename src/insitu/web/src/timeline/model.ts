// What the page's arrays say, by thread and CPU: lanes of intervals, names, and what a selected row is.

import type { TimelineData } from "../schema";
import { grouped, Lane, Shares, stacked } from "./lane";

/** Classes of states, in the order in which a narrow column shows them from the bottom up. */
export const RUNNING = 0;
export const WAITING = 1;
export const BLOCKED = 2;
export const CLASSES = 3;
const CLASS_OF: Record<string, number> = {
  running: RUNNING,
  runnable: WAITING,
  preempted: WAITING,
  uninterruptible: BLOCKED,
};

const MOST_LANES = 24;
/** Parts of the recording for which activity is added up. */
export const BINS = 1024;

export type Kind = "state" | "span" | "sample" | "event" | "counter";

/** A row of one of the page's tables. */
export interface Row {
  kind: Kind;
  row: number;
}

/** Spans of one category of one thread. */
export interface Spans {
  category: number;
  lanes: Lane[];
}

export class Model {
  /** Of each thread: its states, spans by category, samples and events. */
  readonly states: Lane[];
  readonly spans: Spans[][];
  readonly samples: Lane[];
  readonly events: Lane[];
  /** Of each CPU (by number): what ran there; samples and events without a thread. */
  readonly cpus: Lane[];
  readonly counters: Lane[];
  readonly end: number;
  readonly stateClass: Int8Array;
  private readonly shares = new Map<Lane, Shares>();
  private readonly extents = new Map<number, [least: number, most: number]>();
  private activities: Float32Array[] | null = null;

  constructor(readonly data: TimelineData) {
    const { meta } = data;
    this.end = meta.endNs;
    const threads = meta.threads.tid.length;
    this.stateClass = Int8Array.from(meta.states, (name) => CLASS_OF[name] ?? -1);
    const moments = (time: Float64Array, rows: Int32Array[], what: Int32Array): Lane[] =>
      rows.map((each) => new Lane(time, null, each, what));
    const lanes = (rows: Int32Array[], what: Int32Array): Lane[] =>
      rows.map((each) => new Lane(data.stateTime, data.stateDuration, each, what));
    const { stateThread, stateCpu, stateWhat, spanThread, spanCategory } = data;
    this.states = lanes(
      grouped(stateThread.length, threads, (row) => (stateThread[row] ? stateThread[row] : -1)),
      stateWhat,
    );
    const cpus = stateCpu.reduce((most, cpu) => Math.max(most, cpu), 0);
    const running = meta.states.indexOf("running");
    this.cpus = lanes(
      grouped(stateThread.length, cpus, (row) => (stateWhat[row] === running ? stateCpu[row] - 1 : -1)),
      stateThread,
    );
    this.spans = grouped(spanThread.length, threads, (row) => spanThread[row]).map((rows) =>
      [...new Set(Array.from(rows, (row) => spanCategory[row]))]
        .sort((a, b) => a - b)
        .map((category) => ({
          category,
          lanes: stacked(
            data.spanTime,
            data.spanDuration,
            rows.filter((row) => spanCategory[row] === category),
            data.spanName,
            MOST_LANES,
          ),
        })),
    );
    const { sampleThread, eventThread, counterTrack } = data;
    this.samples = moments(
      data.sampleTime,
      grouped(sampleThread.length, threads, (row) => sampleThread[row]),
      data.sampleType,
    );
    this.events = moments(
      data.eventTime,
      grouped(eventThread.length, threads, (row) => eventThread[row]),
      data.eventType,
    );
    this.counters = moments(
      data.counterTime,
      grouped(counterTrack.length, meta.counters.name.length, (row) => counterTrack[row]),
      counterTrack,
    );
  }

  /** "comm 123", or what stands for threads that are not known. */
  thread(thread: number): string {
    const { comm, tid } = this.data.meta.threads;
    if (!thread) return "no thread";
    const machine = this.data.meta.processes.machine[this.data.meta.threads.process[thread]];
    return this.of(machine, `${comm[thread] || "?"} ${tid[thread]}`);
  }

  process(process: number): string {
    const { name, pid, machine } = this.data.meta.processes;
    return process ? this.of(machine[process], `${name[process] || "?"} ${pid[process]}`) : "no process";
  }

  /** "CPU 3", or of a guest "NAME: CPU 3" by its own number. */
  cpu(cpu: number, word = "CPU "): string {
    const { firstCpu } = this.data.meta.machines; // in ascending order
    const machine = firstCpu.filter((first) => cpu >= first).length - 1;
    return this.of(machine, `${word}${cpu - firstCpu[machine]}`);
  }

  /** The host's thread that runs a CPU of a guest; 0: the host's own CPU, or not known. */
  hostThread(cpu: number): number {
    const { virtualCpus } = this.data.meta;
    return virtualCpus.thread[virtualCpus.cpu.indexOf(cpu)] ?? 0;
  }

  /** The CPUs of guests that a thread of the host runs: one, as a rule. */
  virtualCpusOf(thread: number): number[] {
    const { cpu, thread: threads } = this.data.meta.virtualCpus;
    return thread ? cpu.filter((_, at) => threads[at] === thread) : [];
  }

  /** "runs vm: CPU 0" of a thread that runs a CPU of a guest, else "". */
  runs(thread: number): string {
    const cpus = this.virtualCpusOf(thread).map((cpu) => this.cpu(cpu));
    return cpus.length ? `runs ${cpus.join(", ")}` : "";
  }

  /** The name of something of a machine. */
  private of(machine: number, name: string): string {
    return machine ? `${this.data.meta.machines.name[machine]}: ${name}` : name;
  }

  /** The names of threads that ran the longest, at most so many. */
  busiest(most: number): string[] {
    const { comm } = this.data.meta.threads;
    const times = new Map<string, number>();
    for (const [thread, lane] of this.states.entries()) {
      const ran = lane.length && comm[thread] ? this.sharesOf(lane).within(0, this.end)[RUNNING] : 0;
      if (ran > 0) times.set(comm[thread], (times.get(comm[thread]) ?? 0) + ran);
    }
    return [...times]
      .sort((a, b) => b[1] - a[1])
      .slice(0, most)
      .map(([name]) => name);
  }

  /** How long a lane of states was in each class. */
  sharesOf(lane: Lane): Shares {
    let found = this.shares.get(lane);
    if (!found) {
      found = new Shares(lane, this.data.stateWhat, this.stateClass, CLASSES);
      this.shares.set(lane, found);
    }
    return found;
  }

  /** The least (at most 0) and the largest value of a counter. */
  extent(counter: number): [least: number, most: number] {
    let found = this.extents.get(counter);
    if (found) return found;
    found = [0, 0];
    this.extents.set(counter, found);
    for (const row of this.counters[counter].rows) {
      found[0] = Math.min(found[0], this.data.counterValue[row]);
      found[1] = Math.max(found[1], this.data.counterValue[row]);
    }
    return found;
  }

  /** Of a process the share of the CPUs that it had in each of BINS parts of the time. */
  activity(process: number): Float32Array {
    this.activities ??= this.allActivities();
    return this.activities[process];
  }

  private allActivities(): Float32Array[] {
    const { meta, stateThread } = this.data;
    const found = meta.processes.pid.map(() => new Float32Array(BINS));
    const width = this.end / BINS;
    const cpus = this.cpus.filter((lane) => lane.length).length;
    for (const lane of this.cpus) {
      for (let at = 0; at < lane.length; at++) {
        const bins = found[meta.threads.process[stateThread[lane.rows[at]]]];
        const [start, end] = [lane.start(at), lane.end(at)];
        const last = Math.min(BINS - 1, Math.floor(end / width));
        for (let bin = Math.floor(start / width); bin <= last; bin++) {
          const part = Math.min(end, (bin + 1) * width) - Math.max(start, bin * width);
          bins[bin] += part / width / cpus;
        }
      }
    }
    return found;
  }

  state(row: number): string {
    return this.data.meta.states[this.data.stateWhat[row]];
  }

  start({ kind, row }: Row): number {
    return this.data[`${kind}Time`][row];
  }

  /** Of states and spans; 0 of moments. */
  duration({ kind, row }: Row): number {
    return kind === "state" || kind === "span" ? this.data[`${kind}Duration`][row] : 0;
  }

  threadOf({ kind, row }: Row): number {
    if (kind === "counter") return this.data.meta.counters.thread[this.data.counterTrack[row]];
    return this.data[`${kind}Thread`][row];
  }

  /** What a row is called. */
  name({ kind, row }: Row): string {
    const { data } = this;
    const { meta } = data;
    if (kind === "state") return this.state(row);
    if (kind === "span") return meta.names[data.spanName[row]];
    if (kind === "event") return meta.events[data.eventType[row]];
    if (kind === "counter") return meta.counters.name[data.counterTrack[row]];
    return meta.functions.name[data.stackFunction[data.sampleStack[row]]] || meta.sampled[data.sampleType[row]];
  }

  /** Arguments or fields. */
  text({ kind, row }: Row): string {
    if (kind === "span") return this.data.meta.texts[this.data.spanText[row]];
    return kind === "event" ? this.data.meta.texts[this.data.eventText[row]] : "";
  }

  /** The functions of a row's stack, innermost first, as indexes into functions. */
  stack({ kind, row }: Row): number[] {
    const { data } = this;
    const found: number[] = [];
    if (kind !== "counter")
      for (let at = data[`${kind}Stack`][row]; at; at = data.stackParent[at]) found.push(data.stackFunction[at]);
    return found;
  }
}
