// The live page of `insitu top --web`: asks its server for ticks, keeps the last minutes, and shows one of them.

import "../style/page.css";
import "../style/top.css";
import { button, element, typing } from "../dom";
import { CpuHeat } from "../cpuheat";
import { choosable, label, LookPanel, refill } from "../lookpanel";
import { amount, seconds, share, type Answer, type Process, type Tick } from "../ticks";
import { ThemeSwitch } from "../theme";

const MOST_TICKS = 150;
const MOST_ROWS = 200;
const MOST_DEGREES = 64;

interface Column {
  title: string;
  hint: string;
  value: (row: Process) => number | string | null;
  text: (row: Process) => string;
}

const COLUMNS: Column[] = [
  { title: "PID", hint: "process id", value: (row) => row.pid, text: (row) => String(row.pid) },
  { title: "S", hint: "state, as in ps", value: (row) => row.state, text: (row) => row.state },
  { title: "CPU %", hint: "time on a CPU; 100 is one CPU", value: (row) => row.cpu, text: (row) => share(row.cpu) },
  {
    title: "WAIT %",
    hint: "runnable, waiting for a CPU",
    value: (row) => row.wait,
    text: (row) => share(row.wait),
  },
  {
    title: "OFF %",
    hint: "blocked or asleep, in waits that ended in the tick",
    value: (row) => row.off_cpu,
    text: (row) => share(row.off_cpu),
  },
  {
    title: "CALLS/S",
    hint: "system calls a second",
    value: (row) => row.calls,
    text: (row) => amount(row.calls),
  },
  {
    title: "READ/S",
    hint: "bytes read from storage a second",
    value: (row) => row.read_bytes,
    text: (row) => amount(row.read_bytes, 1024),
  },
  {
    title: "WRITE/S",
    hint: "bytes written to storage a second",
    value: (row) => row.write_bytes,
    text: (row) => amount(row.write_bytes, 1024),
  },
  {
    title: "RSS",
    hint: "resident memory",
    value: (row) => row.rss_bytes,
    text: (row) => amount(row.rss_bytes, 1024),
  },
  { title: "NAME", hint: "name", value: (row) => row.name, text: (row) => row.name },
];

class TopPage {
  private readonly ticks: Tick[] = [];
  private frozen: number | null = null; // the number of the tick that is shown
  private sort = 2;
  private down = true;
  private ended = false;
  private readonly status = element("span", { class: "status", role: "status" });
  private readonly own = element("span", { class: "quiet own" });
  private readonly notes = element("p", { class: "banner", hidden: true });
  private readonly time = element("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "time" });
  private readonly filter = element("input", { type: "search", placeholder: "filter by name or pid (/)" });
  private readonly freezing = button("Freeze", "Freeze, and go on (space)", () => this.freeze());
  private readonly figures = element("dl", { class: "figures" });
  private readonly rows = element("tbody");
  private readonly functions = element("tbody");
  private readonly titles: HTMLElement[];
  private readonly heat: CpuHeat;
  private readonly look = new LookPanel(() => this.draw());
  private readonly overview: HTMLElement;

  constructor(app: HTMLElement, theme: ThemeSwitch) {
    this.heat = new CpuHeat(theme, (number) => this.show(number));
    this.titles = COLUMNS.map((column, at) =>
      element("th", { title: column.hint, click: () => this.sortBy(at) }, column.title),
    );
    const heading = element("div", { class: "heading" }, element("h1", {}, document.title), this.status);
    const themes = button("Light / dark", "Switch between the light and the dark look (t)", () => theme.toggle());
    this.time.addEventListener("input", () => this.show(this.ticks[Number(this.time.value)]?.number ?? null));
    this.filter.addEventListener("input", () => this.draw());
    const titles = ["CPU TIME %", "FUNCTION", "MODULE"].map((title) => element("th", {}, title));
    this.overview = element(
      "main",
      {},
      element("table", { class: "processes" }, element("thead", {}, element("tr", {}, ...this.titles)), this.rows),
      element("table", { class: "functions" }, element("thead", {}, element("tr", {}, ...titles)), this.functions),
    );
    app.append(
      element("header", {}, heading, this.own, this.filter, this.freezing, themes),
      this.notes,
      element("section", { class: "machine" }, this.heat.element, this.time, this.figures),
      this.overview,
      this.look.element,
    );
    theme.onChange(() => this.draw());
    addEventListener("resize", () => this.draw());
    addEventListener("keydown", (event) => this.key(event, theme));
    this.draw();
  }

  async listen(): Promise<void> {
    try {
      for (;;) {
        const response = await fetch(`ticks?after=${this.ticks.at(-1)?.number ?? 0}`);
        if (!response.ok) throw new Error(String(response.status));
        const answer = (await response.json()) as Answer;
        this.notes.textContent = answer.notes.join(" ");
        this.notes.hidden = !answer.notes.length;
        this.ticks.push(...answer.ticks);
        this.ticks.splice(0, this.ticks.length - MOST_TICKS);
        if (answer.ticks.length) this.draw();
      }
    } catch {
      this.ended = true;
      this.draw();
    }
  }

  private get tick(): Tick | undefined {
    return this.ticks.find((tick) => tick.number === this.frozen) ?? this.ticks.at(this.frozen === null ? -1 : 0);
  }

  private show(number: number | null): void {
    this.frozen = number;
    this.draw();
  }

  private freeze(): void {
    this.show(this.frozen === null ? (this.ticks.at(-1)?.number ?? null) : null);
  }

  private step(by: number): void {
    const at = this.ticks.findIndex((tick) => tick.number === this.tick?.number) + by;
    const found = this.ticks[Math.max(0, Math.min(at, this.ticks.length - 1))];
    if (found) this.show(found.number);
  }

  private key(event: KeyboardEvent, theme: ThemeSwitch): void {
    if (event.key === "Escape") {
      if (this.look.isOpen && !typing(event.target)) this.look.back();
      this.filter.blur();
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const actions: Record<string, () => void> = {
      " ": () => this.freeze(),
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      "/": () => this.filter.focus(),
      t: () => theme.toggle(),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  private sortBy(at: number): void {
    this.down = this.sort === at ? !this.down : !["PID", "NAME", "S"].includes(COLUMNS[at].title);
    this.sort = at;
    this.draw();
  }

  private draw(): void {
    const tick = this.tick;
    this.freezing.setAttribute("aria-pressed", String(this.frozen !== null));
    if (!tick) {
      this.status.textContent = this.ended ? "insitu top has ended" : "the first tick is being taken";
      return;
    }
    const latest = this.ticks[this.ticks.length - 1];
    const at = this.ticks.indexOf(tick);
    const behind = Math.round((latest.time_ns - tick.time_ns) / 1e9);
    const state = this.ended ? "insitu top has ended" : this.frozen === null ? "live" : "frozen";
    const clock = new Date(tick.time_ns / 1e6).toLocaleTimeString("en-GB");
    this.status.textContent = `${clock} · ${state}${behind ? ` · ${behind} s ago` : ""}`;
    this.own.textContent = `own CPU ${share(tick.own_cpu)} %`;
    this.time.max = String(this.ticks.length - 1);
    this.time.value = String(at);
    this.time.style.width = `${this.heat.draw(this.ticks, at)}px`;
    this.figures.replaceChildren(...figures(tick));
    this.look.element.hidden = !this.look.isOpen;
    this.overview.hidden = this.look.isOpen;
    void this.look.refresh(this.frozen === null ? 0 : tick.number);
    refill(
      this.rows,
      this.shown(tick).map((row) => this.processRow(row)),
    );
    for (const [index, title] of this.titles.entries()) {
      title.setAttribute("aria-sort", index !== this.sort ? "none" : this.down ? "descending" : "ascending");
    }
    const unknown = element("tr", {}, element("td", { class: "quiet", colspan: 3 }, "functions need BPF (root)"));
    if (tick.calls === null) this.functions.replaceChildren(unknown);
    else
      refill(
        this.functions,
        tick.functions.map((each) => {
          const open = (): void => this.look.open(0, "", [each.function, each.module]);
          const cells = [share(each.share), each.function, label(each.module)];
          return choosable(`${each.function} ${each.module}`, cells, 1, open);
        }),
      );
  }

  private processRow(row: Process): HTMLElement {
    const texts = COLUMNS.map((column) => column.text(row));
    const made = choosable(String(row.pid), texts, texts.length - 1, () => this.look.open(row.pid, row.name));
    if (row.cpu < 0.0005) made.classList.add("quiet");
    return made;
  }

  private shown(tick: Tick): Process[] {
    const wanted = this.filter.value.toLowerCase();
    const value = COLUMNS[this.sort].value;
    const found = tick.processes.filter(
      (row) => !wanted || row.name.toLowerCase().includes(wanted) || String(row.pid) === wanted,
    );
    const sign = this.down ? -1 : 1;
    return found
      .sort((a, b) => sign * compare(value(a), value(b)) || b.cpu - a.cpu || a.pid - b.pid)
      .slice(0, MOST_ROWS);
  }
}

function compare(a: number | string | null, b: number | string | null): number {
  if (typeof a === "string" && typeof b === "string") return a < b ? -1 : a > b ? 1 : 0;
  return Number(a ?? -1) - Number(b ?? -1);
}

function figures(tick: Tick): HTMLElement[] {
  const { machine, block } = tick;
  const used = machine.memory_bytes - machine.available_bytes;
  const pressure = Object.entries(machine.pressure).map(([name, value]) => `${name} ${share(value)} %`);
  const disks = machine.disks;
  const latency = block?.requests
    ? ` · p50 ${seconds(block.p50_ns)} p99 ${seconds(block.p99_ns)}`
    : disks.mean_ns === null
      ? ""
      : ` · ${seconds(disks.mean_ns)}`;
  const degrees = Object.values(machine.temperatures).map((each) => each.toFixed(0));
  const hot =
    machine.temperature === null
      ? "no sensor"
      : degrees.length
        ? `${degrees.slice(0, MOST_DEGREES).join(" ")} °C by CPU`
        : `hottest sensor ${machine.temperature.toFixed(0)} °C`;
  const shown: [string, string][] = [
    ["run queue", `${machine.running} runnable · ${machine.blocked} blocked · load ${machine.load.toFixed(2)}`],
    ["temperature", hot],
    ["system calls", tick.calls === null ? "needs BPF" : `${amount(tick.calls)}/s`],
    ["switches", `${amount(machine.switches)}/s`],
    ["memory", `${amount(used, 1024)} of ${amount(machine.memory_bytes, 1024)}`],
    ["page cache", `${amount(machine.cache_bytes, 1024)} · dirty ${amount(machine.dirty_bytes, 1024)}`],
    ["faults", `${amount(machine.faults)}/s · ${amount(machine.major_faults)} major`],
    ["pressure", pressure.join(" · ") || "not measured"],
    ["disk", `read ${amount(disks.read_bytes, 1024)}/s · write ${amount(disks.write_bytes, 1024)}/s${latency}`],
  ];
  return shown.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text)));
}

const page = new TopPage(document.getElementById("app") as HTMLElement, new ThemeSwitch());
void page.listen();
