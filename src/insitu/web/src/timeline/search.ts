// What a search finds: threads by their names; rows by their names, arguments, fields or stacks, in the order of time.

import { smartCase } from "../functions";
import type { Model, Row } from "./model";

export interface Found {
  /** Threads whose names match. */
  threads: Set<number>;
  rows: Row[];
  error: string;
  /** More were found than are kept. */
  more: boolean;
}

const MOST = 100_000;

export const NOTHING: Found = { threads: new Set(), rows: [], error: "", more: false };

export function search(model: Model, pattern: string): Found {
  if (!pattern) return NOTHING;
  const { data } = model;
  const { meta } = data;
  const expression = smartCase(pattern);
  if (typeof expression === "string") return { ...NOTHING, error: expression };
  const lists = [meta.names, meta.events, meta.texts, meta.functions.name, meta.states];
  const [names, events, texts, functions, states] = lists.map((list) =>
    Uint8Array.from(list, (text) => Number(expression.test(text))),
  );
  const stacks = new Uint8Array(data.stackParent.length);
  for (let at = 1; at < stacks.length; at++)
    stacks[at] = functions[data.stackFunction[at]] || stacks[data.stackParent[at]];
  const rows: Row[] = [];
  const add = (kind: Row["kind"], count: number, matches: (row: number) => number): void => {
    for (let row = 0; row < count && rows.length < MOST; row++) if (matches(row)) rows.push({ kind, row });
  };
  add("state", data.stateTime.length, (row) => states[data.stateWhat[row]] | stacks[data.stateStack[row]]);
  add("span", data.spanTime.length, (row) => names[data.spanName[row]] | texts[data.spanText[row]]);
  add("event", data.eventTime.length, (row) => events[data.eventType[row]] | texts[data.eventText[row]]);
  add("sample", data.sampleTime.length, (row) => stacks[data.sampleStack[row]]);
  const more = rows.length >= MOST;
  rows.sort((a, b) => model.start(a) - model.start(b));
  const threads = [...meta.threads.tid.keys()].filter((thread) => thread && expression.test(model.thread(thread)));
  return { threads: new Set(threads), rows, error: "", more };
}

/** The position in `rows` of the first that starts after `t`, or with `back` of the last that starts before it. */
export function nextFrom(model: Model, rows: Row[], t: number, back: boolean): number {
  if (!back) return rows.findIndex((row) => model.start(row) > t);
  let at = rows.length - 1;
  while (at >= 0 && model.start(rows[at]) >= t) at--;
  return at;
}
