// The tracks from top to bottom: CPUs, counters, then processes with their threads and what each thread has.

import { brief } from "../format";
import type { Lane } from "./lane";
import type { Model } from "./model";

export const LANE = 18;
const STATE = 20;
const MARKS = 16;
const COUNTER = 34;
const GROUP = 24;
/** Between a group and a process of one thread, which has no heading: it is not of that group. */
const GAP = 8;
/** With more rows than that, processes start collapsed, but for the busiest. */
const OPEN_ROWS = 60;

export type TrackType = "group" | "cpu" | "state" | "spans" | "samples" | "events" | "counter";

export interface Track {
  /** Says which track it is, in addresses and from one layout to the next. */
  id: string;
  type: TrackType;
  name: string;
  hint: string;
  /** 0: a group, 1: in it, 2: of the thread above. */
  depth: number;
  lanes: Lane[];
  height: number;
  /** The thread, CPU, counter, or (of a group) process; -1: none. */
  of: number;
  group: string;
}

/** All tracks, in their order; groups first, then what they hold. */
export function tracksOf(model: Model): Track[] {
  const { meta } = model.data;
  const found: Track[] = [];
  const add = (track: Partial<Track> & Pick<Track, "id" | "type" | "name" | "of" | "group">): void => {
    const lanes = track.lanes ?? [];
    const height = { group: GROUP, cpu: STATE, state: STATE, samples: MARKS, events: MARKS, counter: COUNTER };
    const own = track.type === "spans" ? lanes.length * LANE + 2 : height[track.type];
    found.push({ hint: "", depth: 1, lanes, height: own, ...track });
  };
  if (model.cpus.some((lane) => lane.length)) {
    add({ id: "cpus", type: "group", name: "CPUs", of: -1, group: "cpus", depth: 0 });
    for (const [cpu, lane] of model.cpus.entries()) {
      if (!lane.length) continue;
      const host = model.hostThread(cpu);
      const hint = host ? `run by ${model.thread(host)}` : "";
      add({ id: `c${cpu}`, type: "cpu", name: model.cpu(cpu), hint, of: cpu, group: "cpus", lanes: [lane] });
    }
  }
  const shared = meta.counters.name.map((_, at) => at).filter((at) => !meta.counters.thread[at]);
  if (shared.length) {
    add({ id: "counters", type: "group", name: "Counters", of: -1, group: "counters", depth: 0 });
    for (const at of shared) {
      const cpu = meta.counters.cpu[at];
      const name = cpu < 0 ? meta.counters.name[at] : `${meta.counters.name[at]} ${model.cpu(cpu)}`;
      const hint = rangeOf(model, at);
      add({ id: `n${at}`, type: "counter", name, hint, of: at, group: "counters", lanes: [model.counters[at]] });
    }
  }
  const busy = meta.threads.tid.map((_, thread) => busyness(model, thread));
  const processes = meta.processes.pid.map((_, process) => ({ process, threads: [] as number[], busy: [0, 0] }));
  for (const [thread, [time, rows]] of busy.entries()) {
    if (!rows && !meta.counters.thread.some((each) => each && each === thread)) continue;
    const process = processes[meta.threads.process[thread]];
    process.threads.push(thread);
    process.busy = [process.busy[0] + time, process.busy[1] + rows];
  }
  const { machine } = meta.processes; // those of one machine together
  const busiest = (a: number[], b: number[]): number => b[0] - a[0] || b[1] - a[1];
  for (const { process, threads } of processes
    .filter((each) => each.threads.length)
    .sort((a, b) => machine[a.process] - machine[b.process] || busiest(a.busy, b.busy))) {
    const group = `p${process}`;
    const count = `${threads.length} threads`;
    if (threads.length > 1)
      add({ id: group, type: "group", name: model.process(process), hint: count, of: process, group, depth: 0 });
    for (const thread of threads.sort((a, b) => busiest(busy[a], busy[b]))) addThread(model, thread, group, add);
  }
  return found;
}

/** The values from which to which a counter's track is drawn. */
function rangeOf(model: Model, counter: number): string {
  const [least, most] = model.extent(counter);
  const unit = model.data.meta.counters.unit[counter];
  return `${least < 0 ? `${brief(least, unit)} – ` : "up to "}${brief(most, unit)}`;
}

/** How long a thread ran, and how many rows it has. */
function busyness(model: Model, thread: number): [number, number] {
  const lane = model.states[thread];
  const ran = lane.length ? model.sharesOf(lane).within(0, model.end)[0] : 0;
  const spans = model.spans[thread].reduce(
    (sum, { lanes }) => sum + lanes.reduce((all, each) => all + each.length, 0),
    0,
  );
  return [ran, lane.length + spans + model.samples[thread].length + model.events[thread].length];
}

function addThread(
  model: Model,
  thread: number,
  group: string,
  add: (track: Partial<Track> & Pick<Track, "id" | "type" | "name" | "of" | "group">) => void,
): void {
  const { meta } = model.data;
  const name = model.thread(thread);
  let first = true;
  // The first track of a thread has its name, the others what they are.
  const of = (suffix: string, type: TrackType, own: string, lanes: Lane[], at = thread): void => {
    add({
      id: `t${thread}${suffix}`,
      type,
      name: first ? name : own,
      hint: first ? [own, model.runs(thread)].filter(Boolean).join(" · ") : "",
      of: at,
      group,
      lanes,
      depth: first ? 1 : 2,
    });
    first = false;
  };
  if (model.states[thread].length) of("", "state", "", [model.states[thread]]);
  for (const { category, lanes } of model.spans[thread])
    of(`s${category}`, "spans", meta.categories[category], lanes);
  if (model.samples[thread].length) of("x", "samples", "samples", [model.samples[thread]]);
  if (model.events[thread].length) of("e", "events", "events", [model.events[thread]]);
  for (const [at, whose] of meta.counters.thread.entries())
    if (whose && whose === thread) of(`n${at}`, "counter", meta.counters.name[at], [model.counters[at]], at);
}

/** The thread that a track is of; 0: of none. */
export function threadOf(model: Model, track: Track): number {
  if (track.type === "counter") return model.data.meta.counters.thread[track.of];
  return track.type === "group" || track.type === "cpu" ? 0 : track.of;
}

/** The groups that start collapsed. */
export function initiallyCollapsed(tracks: Track[]): Set<string> {
  const collapsed = new Set<string>();
  let rows = 0;
  for (const track of tracks) {
    if (track.type === "group" && rows > OPEN_ROWS && track.id.startsWith("p")) collapsed.add(track.id);
    rows++;
  }
  return collapsed;
}

export interface Placed {
  track: Track;
  /** From the top of the pinned ones, or of the others. */
  y: number;
}

export interface Layout {
  pinned: Placed[];
  pinnedHeight: number;
  rest: Placed[];
  height: number;
  /** All tracks that the filter leaves, those of collapsed groups too. */
  wanted: Set<Track>;
}

/** Where tracks are drawn: those pinned stay above the others, which scroll. */
export function layOut(tracks: Track[], collapsed: Set<string>, pinned: Set<string>, filter: RegExp | null): Layout {
  const placed: Placed[] = [];
  const kept: Placed[] = [];
  let [y, above] = [0, 0];
  const groups = new Map(tracks.filter(({ type }) => type === "group").map((track) => [track.id, track]));
  // A thread is shown with all that it has, and with its process; a process that matches with all its threads.
  const wanted = new Set<Track>();
  let thread = false;
  for (const track of tracks) {
    if (track.type === "group") continue;
    const group = groups.get(track.group); // a process of one thread has none
    if (track.depth === 1) thread = !filter || filter.test(track.name) || filter.test(group?.name ?? "");
    if (thread) wanted.add(track);
    if (thread && group) wanted.add(group);
  }
  for (const track of tracks) {
    if (!wanted.has(track)) continue;
    if (pinned.has(track.id)) {
      kept.push({ track, y: above });
      above += track.height;
    }
    if (track.type !== "group" && collapsed.has(track.group) && !filter) continue;
    const before = placed.at(-1)?.track.group ?? "";
    if (!groups.has(track.group) && groups.has(before)) y += GAP;
    placed.push({ track, y });
    y += track.height;
  }
  return { pinned: kept, pinnedHeight: above, rest: placed, height: y, wanted };
}
