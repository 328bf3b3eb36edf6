// The panel beside the timeline: what is selected, why a thread did not run, and statistics of a range of time.

import { button, element } from "../dom";
import { brief, exact, percent } from "../format";
import type { Model, Row } from "./model";
import { RUNNING } from "./model";
import * as statistics from "./statistics";
import { length, moment, type Span } from "./viewport";
import { callOf, chain, cpuGot, following, occupants, spanAt, type Step, waitsForCpu, wakingOf } from "./why";

const MOST_FRAMES = 200;
const MOST_ROWS = 100;
/** Units that values are short with; others stand beside the counter's name. */
const SCALED = new Set(["ns", "bytes", ""]);
const NOT_RUNNING = new Set(["sleeping", "uninterruptible", "stopped", "traced", "parked", "idle"]);

export class Details {
  readonly element = element("aside", { class: "selected", "aria-label": "Selection" });

  constructor(
    private readonly model: Model,
    /** Select another row, and show it. */
    private readonly go: (row: Row) => void,
  ) {}

  /** One row. */
  showRow(row: Row): void {
    const { model } = this;
    const thread = model.threadOf(row);
    const start = model.start(row);
    const duration = model.duration(row);
    const timed = row.kind === "state" || row.kind === "span";
    const open = timed && start + duration >= model.end;
    const facts: [string, string | HTMLElement][] = [["start", moment(start, 1)]];
    if (timed) facts.push(["duration", `${length(duration)}${open ? ", then the recording ended" : ""}`]);
    if (thread) facts.push(["thread", model.thread(thread)]);
    for (const cpu of model.virtualCpusOf(thread)) facts.push(["runs", this.cpuAt(cpu, start)]);
    if (thread) facts.push(["process", model.process(model.data.meta.threads.process[thread])]);
    facts.push(...this.more(row));
    this.element.replaceChildren(
      element("h2", {}, row.kind === "state" ? this.stateName(model.name(row)) : model.name(row)),
      element("p", { class: "quiet kindof" }, this.kindOf(row)),
      element("dl", { class: "facts" }, ...facts.map(([label, value]) => fact(label, value))),
      ...this.text(row),
      ...(row.kind === "state" ? this.why(row.row) : []),
      ...this.stack(row),
    );
    this.element.scrollTop = 0;
  }

  /** A range of time: what happened in it in these threads. */
  showRange(range: Span, threads: number[], whole: boolean): void {
    const { model } = this;
    const { from, to } = range;
    const states = statistics.threadTimes(model, threads, from, to);
    const spans = statistics.spanTimes(model, threads, from, to);
    const all = [...threads, 0];
    const samples = statistics.sampleCounts(model, all, from, to);
    const events = statistics.eventCounts(model, all, from, to);
    const counters = statistics.counterValues(model, from, to);
    const sampled = samples.reduce((sum, { count }) => sum + count, 0);
    const heading = whole ? "Whole recording" : length(Math.round(to - from));
    this.element.replaceChildren(
      element("h2", {}, heading),
      element(
        "p",
        { class: "quiet kindof" },
        whole
          ? "Drag over the tracks for a range of time; click for one moment"
          : `from ${moment(from, 1)} to ${moment(to, 1)}`,
      ),
      ...this.stateTable(states, to - from),
      ...table(
        "Spans",
        ["Name", "Count", "Total", "Self", "Mean"],
        spans.map(({ name, count, total, self }) => [
          name,
          count.toLocaleString("en-US"),
          ...[total, self, total / count].map((ns) => time(ns)),
        ]),
      ),
      ...table(
        "Samples",
        ["Function", "Count", "Share"],
        samples.map(({ name, count }) => [name, count.toLocaleString("en-US"), percent(count, sampled)]),
      ),
      ...table(
        "Events",
        ["Name", "Count"],
        events.map(({ name, count }) => [name, count.toLocaleString("en-US")]),
      ),
      ...table(
        "Counters",
        ["Name", "Values", "Least", "Mean", "Most"],
        counters.map(({ counter, count, least, mean, most }) => {
          const [name, unit] = [model.data.meta.counters.name[counter], model.data.meta.counters.unit[counter]];
          return [
            SCALED.has(unit) ? name : `${name} (${unit})`,
            count.toLocaleString("en-US"),
            ...[least, mean, most].map((value) =>
              element("span", { title: amount(value, unit) }, brief(value, SCALED.has(unit) ? unit : "")),
            ),
          ];
        }),
      ),
    );
    this.element.scrollTop = 0;
  }

  private kindOf(row: Row): string {
    const { data } = this.model;
    if (row.kind === "state") return "thread state";
    if (row.kind === "span") return data.meta.categories[data.spanCategory[row.row]] || "span";
    if (row.kind === "sample") return `sample of ${data.meta.sampled[data.sampleType[row.row]]}`;
    return row.kind;
  }

  private stateName(state: string): HTMLElement {
    const mark = element("i", { class: "swatch" });
    mark.style.background = `var(--state-${state})`;
    return element("span", {}, mark, state);
  }

  private more(row: Row): [string, string | HTMLElement][] {
    const { model } = this;
    const { data } = model;
    if (row.kind === "counter")
      return [["value", amount(data.counterValue[row.row], data.meta.counters.unit[data.counterTrack[row.row]])]];
    const cpu = row.kind === "span" ? 0 : data[`${row.kind}Cpu`][row.row];
    const found: [string, string | HTMLElement][] = cpu ? [["CPU", model.cpu(cpu - 1, "")]] : [];
    const host = cpu ? model.hostThread(cpu - 1) : 0;
    if (host) found.push(["CPU run by", this.threadAt(host, model.start(row))]);
    if (row.kind === "state") {
      const call = spanAt(model, data.stateThread[row.row], data.stateTime[row.row]);
      if (call) found.push(["in", this.link(call, model.name(call) + model.text(call))]);
      const waker = data.stateWaker[row.row];
      if (waker) found.push(["woken by", this.threadAt(waker, data.stateTime[row.row])]);
      if (model.stateClass[data.stateWhat[row.row]] === RUNNING) {
        const before = following(model, row.row, -1);
        if (before >= 0) found.push(["before", this.link({ kind: "state", row: before }, model.state(before))]);
        const next = following(model, row.row);
        if (next >= 0) found.push(["then", this.link({ kind: "state", row: next }, model.state(next))]);
      }
    }
    return found;
  }

  private text(row: Row): HTMLElement[] {
    const text = this.model.text(row);
    if (!text) return [];
    if (row.kind === "span") return [element("p", { class: "text" }, text)];
    return [element("p", { class: "text" }, text.replace(/ (?=\w+=)/g, "\n"))];
  }

  private stack(row: Row): HTMLElement[] {
    const { name, module, kind } = this.model.data.meta.functions;
    const frames = this.model.stack(row);
    if (!frames.length) return [];
    const shown = frames
      .slice(0, MOST_FRAMES)
      .map((each) =>
        element(
          "li",
          { class: kind[each] === "kernel" ? "kernel" : undefined },
          element("span", {}, name[each]),
          element("span", { class: "quiet" }, module[each].split("/").at(-1)),
        ),
      );
    const heading = row.kind === "state" ? "Where it left the CPU" : "Stack";
    return [element("h3", {}, heading), element("ol", { class: "stack" }, ...shown)];
  }

  // Why it did not run

  private why(row: number): HTMLElement[] {
    const { model } = this;
    const state = model.state(row);
    if (waitsForCpu(state)) return this.behindWhom(row);
    if (!NOT_RUNNING.has(state)) return [];
    const { stateTime, stateDuration, stateThread } = model.data;
    const [from, to] = [stateTime[row], stateTime[row] + stateDuration[row]];
    const parts: (HTMLElement | string)[] = [];
    const call = spanAt(model, stateThread[row], from);
    const named = callOf(model, { kind: "state", row });
    if (call) parts.push("It was blocked in ", this.link(call, model.name(call)), ". ");
    else if (named) parts.push(`It was blocked in ${named}. `);
    const next = following(model, row);
    const { waker } = wakingOf(model, row);
    if (waker) parts.push(this.threadAt(waker, to), ` woke it after ${length(to - from)}.`);
    else if (next < 0) parts.push("It was not woken before the recording ended.");
    else parts.push(`It was woken after ${length(to - from)}, by an interrupt or what was not recorded.`);
    if (next >= 0 && model.state(next) === "runnable")
      parts.push(
        " Then it was ",
        this.link({ kind: "state", row: next }, `runnable for ${length(stateDuration[next])}`),
        ".",
      );
    const steps = chain(model, row);
    return [
      element("h3", {}, "Why it did not run"),
      element("p", {}, ...parts),
      ...(steps.length
        ? [
            element("p", { class: "quiet" }, "Who it waited for, from the end back to the beginning:"),
            element("ol", { class: "chain" }, ...steps.map((step) => this.step(step))),
          ]
        : []),
    ];
  }

  private behindWhom(row: number): HTMLElement[] {
    const { model } = this;
    const { stateTime, stateDuration } = model.data;
    const [from, to] = [stateTime[row], stateTime[row] + stateDuration[row]];
    const cpu = cpuGot(model, row);
    if (cpu < 0)
      return [
        element("h3", {}, "Why it did not run"),
        element("p", {}, `It waited for a CPU for ${length(to - from)}, and got none before the recording ended.`),
      ];
    const others = occupants(model, cpu, from, to);
    const rows: (string | HTMLElement)[][] = others.map(({ thread, time }) => [
      this.threadAt(thread, from, cpu),
      brief(time, "ns"),
      percent(time, to - from),
    ]);
    const unused = to - from - others.reduce((sum, { time }) => sum + time, 0);
    if (unused > 0) rows.push(["idle, or not recorded", brief(unused, "ns"), percent(unused, to - from)]);
    return [
      element("h3", {}, "Why it did not run"),
      element(
        "p",
        {},
        `It waited for a CPU for ${length(to - from)}, until it got ${model.cpu(cpu)}, where meanwhile ran:`,
      ),
      ...table("", ["Thread", "Time", "Share"], rows),
    ];
  }

  private step({ thread, from, to, times, row, blocked }: Step): HTMLElement {
    const { model } = this;
    const blockedIn = blocked < 0 ? "" : this.calledIn(blocked);
    return element(
      "li",
      {},
      this.link({ kind: "state", row }, model.thread(thread)),
      ` for ${brief(to - from, "ns")}: `,
      times.map(([state, ns]) => `${state} ${brief(ns, "ns")}`).join(", "),
      ...(blocked < 0
        ? []
        : [", ", this.link({ kind: "state", row: blocked }, blockedIn ? `blocked in ${blockedIn}` : "blocked")]),
    );
  }

  /** The name of the call that a thread was blocked in, if that is known. */
  private calledIn(row: number): string {
    const { model } = this;
    const call = spanAt(model, model.data.stateThread[row], model.data.stateTime[row]);
    return call ? model.name(call) : callOf(model, { kind: "state", row });
  }

  private link(row: Row, text: string): HTMLElement {
    return button(text, "Show it", () => this.go(row));
  }

  /** A thread, as a link to what it did at a time, or to its time on a CPU then. */
  private threadAt(thread: number, t: number, cpu = -1): HTMLElement {
    const { model } = this;
    const lane = cpu < 0 ? model.states[thread] : model.cpus[cpu];
    let at = Math.max(0, lane.firstFrom(t) - 1);
    if (cpu >= 0) while (at + 1 < lane.length && model.data.stateThread[lane.rows[at]] !== thread) at++;
    const row = lane.rows[at];
    return row === undefined
      ? element("span", {}, model.thread(thread))
      : this.link({ kind: "state", row }, model.thread(thread));
  }

  /** A CPU, as a link to what ran on it at a time. */
  private cpuAt(cpu: number, t: number): HTMLElement {
    const { model } = this;
    const lane = model.cpus[cpu];
    const row = lane?.rows[Math.max(0, lane.firstFrom(t + 1) - 1)];
    return row === undefined
      ? element("span", {}, model.cpu(cpu))
      : this.link({ kind: "state", row }, model.cpu(cpu));
  }

  private stateTable(states: statistics.ThreadTimes[], width: number): HTMLElement[] {
    const { model } = this;
    const columns: [title: string, states: string[]][] = [
      ["Running", ["running"]],
      ["Runnable", ["runnable", "preempted"]],
      ["Sleeping", ["sleeping", "idle", "parked", "stopped", "traced"]],
      ["Uninterr.", ["uninterruptible"]],
    ];
    const sumOf = (each: statistics.ThreadTimes, names: string[]): number =>
      names.reduce((sum, name) => sum + (each.times.get(name) ?? 0), 0);
    const rows = states.map((each) => [
      [model.thread(each.thread), model.runs(each.thread)].filter(Boolean).join(" · "),
      ...columns.map(([, names]) => {
        const sum = sumOf(each, names);
        return sum ? time(sum, ` · ${percent(sum, width)}`) : "–";
      }),
    ]);
    return table("Threads", ["Thread", ...columns.map(([title]) => title)], rows);
  }
}

/** A time in three digits, that in full when pointed at. */
function time(ns: number, more = ""): HTMLElement {
  return element("span", { title: length(Math.round(ns)) + more }, brief(Math.round(ns), "ns"));
}

/** A value of a counter in full; those that are no whole numbers have three decimals. */
function amount(value: number, unit: string): string {
  if (Number.isInteger(value) || unit === "ns" || unit === "bytes") return exact(value, unit).trimEnd();
  return `${value.toLocaleString("en-US", { maximumFractionDigits: 3 })} ${unit}`.trimEnd();
}

function fact(label: string, value: string | HTMLElement): HTMLElement {
  return element("div", {}, element("dt", {}, label), element("dd", {}, value));
}

function table(title: string, heads: string[], rows: (string | HTMLElement)[][]): HTMLElement[] {
  if (!rows.length) return [];
  const shown = rows
    .slice(0, MOST_ROWS)
    .map((row) =>
      element(
        "tr",
        {},
        ...row.map((cell, at) =>
          element("td", at ? {} : { title: typeof cell === "string" ? cell : undefined }, cell),
        ),
      ),
    );
  const left = rows.length - shown.length;
  return [
    title ? element("h3", {}, title) : null,
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...shown),
    ),
    left > 0 ? element("p", { class: "quiet" }, `and ${left.toLocaleString("en-US")} more`) : null,
  ].filter((each): each is NonNullable<typeof each> => each !== null);
}
