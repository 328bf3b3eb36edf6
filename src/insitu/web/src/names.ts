// What the nodes of a page's trees are called: its functions, then its threads and commands.

import type { Meta } from "./data";

export const KINDS = [
  "user",
  "kernel",
  "jit",
  "python",
  "inlined",
  "lock",
  "file",
  "socket",
  "sleep",
  "blocked",
  "runnable",
  "throttled",
  "waker",
  "unknown",
  "thread",
] as const;
export type Kind = (typeof KINDS)[number];

export class NameTable {
  /** Texts by name number; 0 is the root. Functions come first, then threads, then commands. */
  readonly text: string[];
  /** The same, but an address in a file without that file's directory: for where room is short. */
  readonly label: string[];
  readonly functions: number;
  readonly kind: Kind[];
  /**
   * For each name, the first that is the same function: equal text and module. Trees keep kinds and inlined copies
   * apart, tables of functions do not (as in views/functions.py).
   */
  readonly same: Int32Array;
  /** Alphabetical position of each name. */
  readonly rank: Int32Array;
  /** For each thread, the name of its own node and of its command's node. */
  readonly threadName: Int32Array;
  readonly commName: Int32Array;
  readonly comms: string[];

  constructor(private readonly meta: Meta) {
    const { names, threads } = meta;
    this.functions = names.function.length;
    this.comms = [...new Set(threads.comm)];
    const labels = threads.tid.map((tid, i) => `${threads.comm[i]}/${tid}`);
    this.text = [...names.function, ...labels, ...this.comms];
    this.label = this.text.map((text, i) => (names.symbolized[i] === 0 ? baseName(text) : text));
    this.threadName = Int32Array.from(labels, (_, i) => this.functions + i);
    const commAt = new Map(this.comms.map((comm, i) => [comm, this.functions + labels.length + i]));
    this.commName = Int32Array.from(threads.comm, (comm) => commAt.get(comm) as number);
    this.kind = this.text.map((_, i) => this.kindOf(i));
    const first = new Map<string, number>();
    this.same = Int32Array.from(this.text, (text, i) => {
      const key = `${i < this.functions ? names.module[i] : -1} ${text}`;
      const found = first.get(key);
      if (found === undefined) first.set(key, i);
      return found ?? i;
    });
    const order = Int32Array.from(this.text, (_, i) => i).sort(
      (a, b) => compare(this.text[a], this.text[b]) || a - b,
    );
    this.rank = new Int32Array(order.length);
    order.forEach((name, position) => {
      this.rank[name] = position;
    });
  }

  module(name: number): string {
    return name < this.functions ? this.meta.names.modules[this.meta.names.module[name]] : "";
  }

  file(name: number): string {
    return name < this.functions ? this.meta.names.files[this.meta.names.file[name]] : "";
  }

  /** Where a function comes from: its module and its source file, as far as they are known. */
  origin(name: number): string {
    return [this.module(name), this.file(name)].filter(Boolean).join("  ·  ");
  }

  private kindOf(name: number): Kind {
    const { names } = this.meta;
    if (name === 0 || name >= this.functions) return "thread";
    const kind = names.kinds[names.kind[name]] as Kind;
    if (kind === "waker") return kind; // what stands above a wait does so whatever else it is
    if (!names.symbolized[name]) return "unknown";
    if (names.inlined[name]) return "inlined";
    return KINDS.includes(kind) ? kind : kind === ("root" as Kind) ? "thread" : "unknown";
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The last part of a path, for where the whole would not fit. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1) || path;
}
