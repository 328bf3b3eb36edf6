// What happened in a range of time, added up: intervals count with the part of them that lies in it.

import type { Lane } from "./lane";
import type { Model } from "./model";

export interface ThreadTimes {
  thread: number;
  /** By state, in nanoseconds. */
  times: Map<string, number>;
}

export interface NameTimes {
  name: string;
  count: number;
  total: number;
  self: number;
}

export interface Counted {
  name: string;
  count: number;
}

export interface CounterValues {
  counter: number;
  count: number;
  least: number;
  mean: number;
  most: number;
}

/** The positions of a lane that lie in the range at least in part. */
function within(lane: Lane, from: number, to: number): [number, number] {
  let first = lane.firstFrom(from);
  if (first > 0 && lane.end(first - 1) > from) first--;
  return [first, lane.firstFrom(to, first)];
}

export function threadTimes(model: Model, threads: Iterable<number>, from: number, to: number): ThreadTimes[] {
  const found: ThreadTimes[] = [];
  for (const thread of threads) {
    const lane = model.states[thread];
    const sums = new Float64Array(model.data.meta.states.length);
    const [first, last] = within(lane, from, to);
    for (let at = first; at < last; at++)
      sums[model.data.stateWhat[lane.rows[at]]] += Math.min(lane.end(at), to) - Math.max(lane.start(at), from);
    const times = new Map<string, number>();
    for (const [state, time] of sums.entries()) if (time > 0) times.set(model.data.meta.states[state], time);
    if (times.size) found.push({ thread, times });
  }
  const running = (each: ThreadTimes): number => each.times.get("running") ?? 0;
  return found.sort((a, b) => running(b) - running(a));
}

/** Spans by name. The self time is without the spans of the same category directly inside. */
export function spanTimes(model: Model, threads: Iterable<number>, from: number, to: number): NameTimes[] {
  const { names } = model.data.meta;
  const count = new Float64Array(names.length);
  const total = new Float64Array(names.length);
  const self = new Float64Array(names.length);
  for (const thread of threads) {
    for (const { lanes } of model.spans[thread]) {
      for (const [depth, lane] of lanes.entries()) {
        const [first, last] = within(lane, from, to);
        for (let at = first; at < last; at++) {
          const name = model.data.spanName[lane.rows[at]];
          const time = Math.min(lane.end(at), to) - Math.max(lane.start(at), from);
          count[name]++;
          total[name] += time;
          self[name] += time;
          if (!depth) continue;
          const above = lanes[depth - 1];
          const parent = above.at(lane.start(at));
          if (parent >= 0) self[model.data.spanName[above.rows[parent]]] -= time;
        }
      }
    }
  }
  return names
    .map((name, i) => ({ name, count: count[i], total: total[i], self: self[i] }))
    .filter((each) => each.count)
    .sort((a, b) => b.total - a.total || (a.name < b.name ? -1 : 1));
}

/** Samples by their innermost function. */
export function sampleCounts(model: Model, threads: Iterable<number>, from: number, to: number): Counted[] {
  const { data } = model;
  return counted(
    model.samples,
    threads,
    from,
    to,
    data.meta.functions.name.length,
    (row) => data.stackFunction[data.sampleStack[row]],
  ).map(([function_, count]) => ({ name: data.meta.functions.name[function_] || "no stack", count }));
}

export function eventCounts(model: Model, threads: Iterable<number>, from: number, to: number): Counted[] {
  const { data } = model;
  return counted(model.events, threads, from, to, data.meta.events.length, (row) => data.eventType[row]).map(
    ([type, count]) => ({ name: data.meta.events[type], count }),
  );
}

function counted(
  lanes: Lane[],
  threads: Iterable<number>,
  from: number,
  to: number,
  keys: number,
  keyOf: (row: number) => number,
): [key: number, count: number][] {
  const counts = new Float64Array(keys);
  for (const thread of threads) {
    const lane = lanes[thread];
    const last = lane.firstFrom(to);
    for (let at = lane.firstFrom(from); at < last; at++) counts[keyOf(lane.rows[at])]++;
  }
  return [...counts.entries()].filter(([, count]) => count).sort((a, b) => b[1] - a[1]);
}

/** Values that were set in the range; the mean is of these. */
export function counterValues(model: Model, from: number, to: number): CounterValues[] {
  return model.counters.flatMap((lane, counter) => {
    const [first, last] = [lane.firstFrom(from), lane.firstFrom(to)];
    const values = model.data.counterValue;
    let [least, most, sum] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
    for (let at = first; at < last; at++) {
      const value = values[lane.rows[at]];
      least = Math.min(least, value);
      most = Math.max(most, value);
      sum += value;
    }
    const count = last - first;
    return count ? [{ counter, count, least, mean: sum / count, most }] : [];
  });
}
