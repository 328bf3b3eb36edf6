// Numbers as people read them, exact ones with all their digits.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en-US", { maximumFractionDigits: 3, minimumFractionDigits: 3 });

/** A value with its unit, exact: "1,234 samples", or for nanoseconds milliseconds to the microsecond. */
export function exact(value: number, unit: string): string {
  if (unit === "ns") return `${fine.format(value / 1e6)} ms`;
  return `${whole.format(value)} ${value === 1 && unit.endsWith("s") ? unit.slice(0, -1) : unit}`;
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
