// The way from a process of `insitu top --web` to its threads, functions and stacks; or from the machine's functions.

import { button, Choice, element } from "./dom";
import { seconds, share, type Process } from "./ticks";

type Frame = [name: string, module: string];

interface Look {
  threads: Process[];
  whole: number;
  functions: [...Frame, own: number, total: number][];
  stacks: [value: number, frames: Frame[]][];
}

const MOST_ROWS = 200;
const ALL_THREADS = 0;

export class LookPanel {
  readonly element = element("section", { class: "look", hidden: true });
  private readonly path = element("h2");
  private readonly threads = element("tbody");
  private readonly functions = element("tbody");
  private readonly stacks = element("div", { class: "stacks" });
  private readonly threadTable = table("threads", ["TID", "S", "CPU %", "WAIT %", "NAME"], this.threads);
  private readonly sides = new Choice<"cpu" | "waits">(
    "what the functions took",
    [
      ["cpu", "on CPU", "where CPU time went"],
      ["waits", "off CPU", "where it waited; taken while the process is looked at"],
    ],
    (side) => {
      this.side = side;
      this.choose(null);
    },
  );
  private side: "cpu" | "waits" = "cpu";
  private pid: number | null = null;
  private name = "";
  private tid = ALL_THREADS;
  private through: Frame | null = null;
  private at = 0;
  private asked = 0;

  /** `changed` is called when the panel opens or closes: it shows or hides it, and asks for the tick that is shown. */
  constructor(private readonly changed: () => void) {
    const back = button("← Back", "Back (Escape)", () => this.back());
    this.element.append(
      element("div", { class: "path" }, back, this.path, this.sides.element),
      element(
        "div",
        { class: "columns" },
        this.threadTable,
        table("functions", ["SELF %", "TOTAL %", "FUNCTION", "MODULE"], this.functions),
        this.stacks,
      ),
    );
  }

  get isOpen(): boolean {
    return this.pid !== null;
  }

  /** Show a process; 0: the whole machine, without threads. */
  open(pid: number, name: string, through: Frame | null = null): void {
    this.pid = pid;
    this.name = name;
    this.tid = ALL_THREADS;
    this.side = "cpu";
    this.through = through;
    this.threads.replaceChildren();
    this.functions.replaceChildren();
    this.stacks.replaceChildren();
    this.changed();
    this.element.querySelector("button")?.focus();
  }

  /** One step back: from a function's stacks to all, from there to the processes. */
  back(): void {
    if (this.through) {
      this.choose(null);
      return;
    }
    this.pid = null;
    this.asked += 1;
    this.changed();
    void fetch("look?pid=0").catch(() => undefined); // nobody looks any more
  }

  /** Ask for what was so at a tick; 0: the latest. */
  async refresh(at = this.at): Promise<void> {
    if (this.pid === null) return;
    this.at = at;
    const asked = ++this.asked;
    const query = new URLSearchParams({ pid: String(this.pid), tid: String(this.tid), at: String(at) });
    if (this.side === "waits") query.set("waits", "1");
    if (this.through) {
      query.set("function", this.through[0]);
      query.set("module", this.through[1]);
    }
    try {
      const response = await fetch(`look?${query}`);
      if (!response.ok) throw new Error(String(response.status));
      const look = (await response.json()) as Look;
      if (asked === this.asked) this.draw(look);
    } catch {
      if (asked === this.asked)
        this.stacks.replaceChildren(element("p", { class: "quiet" }, "insitu top has ended: its stacks are gone"));
    }
  }

  private choose(through: Frame | null): void {
    this.through = through;
    void this.refresh();
  }

  private draw(look: Look): void {
    const thread = look.threads.find((row) => row.pid === this.tid);
    const steps = [this.pid ? `${this.name} (${this.pid})` : "whole machine"];
    if (this.pid) steps.push(thread ? `${thread.name} (${thread.pid})` : this.tid ? String(this.tid) : "all threads");
    if (this.through) steps.push(this.through[0]);
    this.path.textContent = steps.join(" > ");
    this.sides.show(this.side);
    this.sides.element.hidden = !this.pid;
    this.threadTable.hidden = !this.pid;
    const threads = look.threads.sort((a, b) => b.cpu - a.cpu || a.pid - b.pid).slice(0, MOST_ROWS);
    refill(this.threads, [
      this.thread(ALL_THREADS, ["", "", "", "", "all threads"]),
      ...threads.map((row) =>
        this.thread(row.pid, [String(row.pid), row.state, share(row.cpu), share(row.wait), row.name]),
      ),
    ]);
    const whole = look.whole || 1;
    const functions = look.functions.slice(0, MOST_ROWS).map(([name, module, own, total]) => {
      const cells = [share(own / whole), share(total / whole), name, label(module)];
      return choosable(
        `${name} ${module}`,
        cells,
        2,
        () => this.choose([name, module]),
        this.goesThrough(name, module),
      );
    });
    refill(this.functions, functions);
    const stacks = look.stacks.map(([value, frames]) =>
      element(
        "div",
        { class: "stack" },
        element("b", {}, `${share(value / whole)} %`),
        ` ${this.side === "waits" ? seconds(value) : `${value} samples`}`,
        element("ol", {}, ...frames.map((frame) => this.frame(frame))),
      ),
    );
    const none = this.side === "waits" ? "no waits ended yet" : "no samples: it was not on a CPU, or BPF is missing";
    this.stacks.replaceChildren(
      ...(stacks.length ? stacks : [element("p", { class: "quiet" }, `${none} (last 20 s)`)]),
    );
  }

  private thread(tid: number, cells: string[]): HTMLElement {
    const choose = (): void => {
      this.tid = tid;
      this.choose(null);
    };
    return choosable(String(tid), cells, 4, choose, this.tid === tid);
  }

  private goesThrough(name: string, module: string): boolean {
    return this.through?.[0] === name && this.through[1] === module;
  }

  private frame([name, module]: Frame): HTMLElement {
    const look = this.goesThrough(name, module) ? "chosen" : undefined;
    return element("li", { class: look }, name, element("i", { class: "quiet" }, label(module)));
  }
}

/** A row that a click or Enter chooses. `key` identifies it from tick to tick, cell number `name` holds its name. */
export function choosable(
  key: string,
  cells: string[],
  name: number,
  action: () => void,
  chosen = false,
): HTMLTableRowElement {
  const enter = (event: KeyboardEvent): void => {
    if (event.key === "Enter") action();
  };
  const texts = cells.map((text, at) =>
    element("td", { class: at === name ? "name" : undefined, title: at >= name ? text : undefined }, text),
  );
  const look = chosen ? "choosable chosen" : "choosable";
  return element("tr", { class: look, "data-key": key, tabindex: 0, click: action, keydown: enter }, ...texts);
}

/** Replace the rows of a table; the one that had the focus keeps it. */
export function refill(body: HTMLElement, rows: HTMLElement[]): void {
  const focused = body.contains(document.activeElement)
    ? (document.activeElement as HTMLElement).dataset.key
    : undefined;
  body.replaceChildren(...rows);
  if (focused !== undefined) rows.find((row) => row.dataset.key === focused)?.focus();
}

/** A module's file name. */
export function label(module: string): string {
  return module === "[kernel.kallsyms]" ? "kernel" : (module.split("/").at(-1) ?? "");
}

function table(name: string, titles: string[], body: HTMLElement): HTMLTableElement {
  const heads = titles.map((title) => element("th", {}, title));
  return element("table", { class: name }, element("thead", {}, element("tr", {}, ...heads)), body);
}
