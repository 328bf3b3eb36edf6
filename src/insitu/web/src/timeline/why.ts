// Why a thread did not run: what it waited for, who had the CPU meanwhile, who ended the wait, and what that one waited for.

import type { Model, Row } from "./model";
import { RUNNING } from "./model";

/** What one thread did in a part of a wait. */
export interface Step {
  thread: number;
  from: number;
  to: number;
  /** By state, in nanoseconds; the longest first. */
  times: [state: string, time: number][];
  /** The latest of these rows of states, and of those in which it was blocked the longest; -1: none. */
  row: number;
  blocked: number;
}

export interface Occupant {
  thread: number;
  time: number;
}

const MOST_STEPS = 24;

/** A state in which a thread waits for a CPU. */
export function waitsForCpu(state: string): boolean {
  return state === "runnable" || state === "preempted";
}

/** The row of states that follows one in its thread (with `by` -1: goes before it), or -1. */
export function following(model: Model, row: number, by = 1): number {
  const lane = model.states[model.data.stateThread[row]];
  let at = lane.firstFrom(model.data.stateTime[row]);
  while (at < lane.length && lane.rows[at] !== row) at++; // others may have taken no time
  return lane.rows[at + by] ?? -1;
}

/** The CPU that a runnable thread got in the end; -1: none in the recording. */
export function cpuGot(model: Model, row: number): number {
  for (let next = following(model, row); next >= 0; next = following(model, next)) {
    if (model.stateClass[model.data.stateWhat[next]] === RUNNING) return model.data.stateCpu[next] - 1;
    if (!waitsForCpu(model.state(next))) return -1;
  }
  return -1;
}

/** Who ran on a CPU from one time to another, and how long; what is left it was idle. */
export function occupants(model: Model, cpu: number, from: number, to: number): Occupant[] {
  const lane = model.cpus[cpu];
  const times = new Map<number, number>();
  if (!lane) return [];
  for (let at = Math.max(0, lane.firstFrom(from) - 1); at < lane.length && lane.start(at) < to; at++) {
    const time = Math.min(lane.end(at), to) - Math.max(lane.start(at), from);
    const thread = model.data.stateThread[lane.rows[at]];
    if (time > 0) times.set(thread, (times.get(thread) ?? 0) + time);
  }
  return [...times].map(([thread, time]) => ({ thread, time })).sort((a, b) => b.time - a.time);
}

/** The waking that ended a sleep: of the state that follows it. */
export function wakingOf(model: Model, row: number): { waker: number; row: number } {
  const next = following(model, row);
  const woken = next >= 0 && model.state(next) === "runnable";
  return { waker: woken ? model.data.stateWaker[next] : 0, row: woken ? next : -1 };
}

/**
 * What a wait came from: from its end backwards what the one that ended it did, and from where that one was woken
 * itself what the one did that woke it, until the wait's beginning. Where it is not known who woke it (an interrupt,
 * or what was not recorded) it goes on with what that thread did before: it may have asked for what it waited for.
 */
export function chain(model: Model, row: number): Step[] {
  const { stateTime, stateDuration, stateWaker } = model.data;
  const begin = stateTime[row];
  const steps: Step[] = [];
  let thread = wakingOf(model, row).waker;
  let until = begin + stateDuration[row];
  while (thread && until > begin && steps.length < MOST_STEPS) {
    const lane = model.states[thread];
    const step: Step = { thread, from: until, to: until, times: [], row: -1, blocked: -1 };
    const times = new Map<string, number>();
    let [waker, longest] = [0, 0];
    for (let at = lane.firstFrom(until) - 1; at >= 0 && step.from > begin && !waker; at--) {
      const current = lane.rows[at];
      const state = model.state(current);
      const time = step.from - Math.max(lane.start(at), begin);
      times.set(state, (times.get(state) ?? 0) + time);
      step.from -= time;
      if (step.row < 0) step.row = current;
      if (state === "runnable" && model.states[stateWaker[current]].length) waker = stateWaker[current];
      if (state === "running" || waitsForCpu(state) || time <= longest) continue;
      step.blocked = current;
      longest = time;
    }
    step.times = [...times].sort((a, b) => b[1] - a[1]);
    if (step.row >= 0) steps.push(step);
    until = step.from;
    thread = waker;
  }
  return steps;
}

/** The innermost span of a thread at a time: the call that it was in. */
export function spanAt(model: Model, thread: number, t: number): Row | null {
  let found: Row | null = null;
  let shortest = Number.POSITIVE_INFINITY;
  for (const { lanes } of model.spans[thread]) {
    for (const lane of lanes) {
      const at = lane.at(t);
      if (at >= 0 && lane.end(at) - lane.start(at) < shortest) {
        found = { kind: "span", row: lane.rows[at] };
        shortest = lane.end(at) - lane.start(at);
      }
    }
  }
  return found;
}

/** The system call that a row's stack is in, by the kernel's function of it; "" where there is none. */
export function callOf(model: Model, row: Row): string {
  for (const each of model.stack(row)) {
    const found = /^__(?:x64|ia32|arm64)_sys_(\w+)$/.exec(model.data.meta.functions.name[each]);
    if (found) return found[1];
  }
  return "";
}
