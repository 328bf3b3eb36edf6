// What a tick of `insitu top` holds (views/top/text.py), and its amounts as text.

export interface CpuUse {
  busy: number;
}

export interface Process {
  pid: number;
  name: string;
  state: string;
  cpu: number;
  wait: number | null;
  off_cpu: number | null;
  calls: number | null;
  read_bytes: number | null;
  write_bytes: number | null;
  rss_bytes: number;
}

export interface Machine {
  cpus: Record<string, CpuUse>;
  load: number;
  running: number;
  blocked: number;
  switches: number;
  memory_bytes: number;
  available_bytes: number;
  cache_bytes: number;
  dirty_bytes: number;
  faults: number;
  major_faults: number;
  pressure: Record<string, number>;
  disks: { read_bytes: number; write_bytes: number; mean_ns: number | null };
  temperature: number | null;
  temperatures: Record<string, number>;
}

export interface Tick {
  number: number;
  time_ns: number;
  own_cpu: number;
  calls: number | null;
  block: { requests: number; p50_ns: number; p99_ns: number } | null;
  machine: Machine;
  processes: Process[];
  functions: { function: string; module: string; share: number }[];
}

export interface Answer {
  notes: string[];
  ticks: Tick[];
}

/** A share of one CPU in per cent, without the sign. */
export function share(value: number | null): string {
  return value === null ? "–" : (100 * value).toFixed(1);
}

/** A number in at most five characters: "999", "1.2k"; sizes with a base of 1024. */
export function amount(value: number | null, base = 1000): string {
  if (value === null) return "–";
  if (Math.round(value) < base) return value.toFixed(0);
  const units = base === 1000 ? "kMGTPE" : "KMGTPE";
  let unit = -1;
  while (Math.round(value) >= base && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  return value.toFixed(value < 99.95 ? 1 : 0) + units[unit];
}

/** A time in the unit that suits it. */
export function seconds(ns: number): string {
  if (ns >= 1e9) return `${(ns / 1e9).toFixed(1)} s`;
  return ns >= 1e6 ? `${(ns / 1e6).toFixed(1)} ms` : `${(ns / 1e3).toFixed(0)} µs`;
}
