// Numbers as people read them, exact ones with all their digits.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en-US", { maximumFractionDigits: 3, minimumFractionDigits: 3 });

const TIMES: Scale = [
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "µs"],
];
const SIZES: Scale = [
  [2 ** 40, "TiB"],
  [2 ** 30, "GiB"],
  [2 ** 20, "MiB"],
  [2 ** 10, "KiB"],
];

type Scale = [factor: number, name: string][];

/** A value with its unit: "1,234 samples", times and sizes in the unit that suits them. */
export function exact(value: number, unit: string): string {
  const scale = unit === "ns" ? TIMES : unit === "bytes" ? SIZES : [];
  const found = scale.find(([factor]) => Math.abs(value) >= factor);
  if (found) return `${fine.format(value / found[0])} ${found[1]}`;
  return `${whole.format(value)} ${value === 1 && unit.endsWith("s") ? unit.slice(0, -1) : unit}`;
}

/** A value that ends a range, in three digits: "50 µs", "1.26 ms". */
export function brief(value: number, unit: string): string {
  const scale = unit === "ns" ? TIMES : unit === "bytes" ? SIZES : [];
  const [factor, name] = scale.find(([factor]) => Math.abs(value) >= factor) ?? [1, unit];
  return `${Number((value / factor).toPrecision(3))} ${name}`;
}

/** `part` of `all` in per cent; two decimals, as many samples deserve. */
export function percent(part: number, all: number): string {
  return all ? `${((part / all) * 100).toFixed(2)} %` : "–";
}

/** A difference of shares (0..1) in percentage points, signed. */
export function points(delta: number): string {
  const text = (Math.abs(delta) * 100).toFixed(2);
  return text === "0.00" ? "±0.00 pp" : `${delta > 0 ? "+" : "−"}${text} pp`;
}
