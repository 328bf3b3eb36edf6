// The controls above a flame graph. Each one only writes into the page's state; the graph follows the state.

import type { PageData } from "./data";
import { Choice, element } from "./dom";
import { percent } from "./format";
import type { NameTable } from "./names";
import type { PageState } from "./state";

export class Toolbar {
  readonly element: HTMLElement;
  readonly search = element("input", {
    type: "search",
    placeholder: "Search (regular expression)",
    "aria-label": "Search functions by regular expression",
    spellcheck: "false",
    autocomplete: "off",
  });
  private readonly found = element("output", { class: "found", "aria-live": "polite" });
  private readonly orientation: Choice<"flame" | "icicle">;
  private readonly root: Choice<"callers" | "callees">;
  private readonly side: Choice<"after" | "before">;
  private readonly colour: Choice<"kind" | "module">;
  private readonly order: Choice<"weight" | "name">;
  private readonly functions: Choice<"shown">;
  private readonly thread = element("select", { "aria-label": "Threads shown" });

  constructor(
    private readonly data: PageData,
    private readonly names: NameTable,
    private readonly state: PageState,
  ) {
    const { meta } = data;
    this.orientation = new Choice(
      "Orientation",
      [
        ["flame", "Flame", "Root at the bottom (i)"],
        ["icicle", "Icicle", "Root on top (i)"],
      ],
      (value) => this.setFlag("icicle", value === "icicle"),
    );
    this.root = new Choice(
      "Root",
      [
        ["callers", "Top-down", "Callees: what each function called (r)"],
        ["callees", "Bottom-up", "Callers: who called each function (r)"],
      ],
      (value) => this.setFlag("reverse", value === "callees"),
    );
    this.colour = new Choice(
      "Colour by",
      [
        ["kind", "Kind", "Colour by kind: user, kernel, inlined, JIT"],
        ["module", "Module", "Colour by library or program"],
      ],
      (value) => state.set({ colour: value === "kind" ? "" : value }, false),
      true,
    );
    this.order = new Choice(
      "Order",
      [
        ["weight", "Heaviest", "Heaviest siblings first"],
        ["name", "A–Z", "Siblings in alphabetical order"],
      ],
      (value) => state.set({ order: value === "weight" ? "" : value }, false),
      true,
    );
    this.side = new Choice(
      "Widths",
      [
        ["before", "Before", "Widths are those of the first recording"],
        ["after", "After", "Widths are those of the second recording"],
      ],
      (value) => state.set({ width: value === "after" ? "" : value }),
      true,
    );
    this.functions = new Choice(
      "Function table",
      [["shown", "Functions", "Table of the hottest functions (f)"]],
      () => this.toggleFunctions(),
    );
    this.search.addEventListener("input", () => state.set({ search: this.search.value }, false));
    this.thread.addEventListener("change", () => state.set({ thread: this.thread.value }));
    const differential = meta.mode === "diff";
    this.element = element(
      "div",
      { class: "toolbar", role: "toolbar", "aria-label": "Flame graph" },
      element("div", { class: "search" }, this.search, this.found),
      this.orientation.element,
      this.root.element,
      meta.threads.tid.length ? this.thread : null,
      differential ? this.side.element : this.colour.element,
      this.order.element,
      this.functions.element,
    );
  }

  get functionsShown(): boolean {
    const value = this.state.get("functions");
    return value ? value === "1" : innerWidth >= 1100;
  }

  toggleFunctions(): void {
    this.state.set({ functions: this.functionsShown ? "0" : "1" }, false);
  }

  flag(key: "icicle" | "reverse"): boolean {
    const value = this.state.get(key);
    return value ? value === "1" : this.data.meta[key];
  }

  toggle(key: "icicle" | "reverse"): void {
    this.setFlag(key, !this.flag(key));
  }

  /** What the page started with needs no word in its address. Nodes of another root are other nodes: the zoom ends. */
  private setFlag(key: "icicle" | "reverse", value: boolean): void {
    const changes = { [key]: value === this.data.meta[key] ? "" : value ? "1" : "0" };
    this.state.set(key === "reverse" ? { ...changes, zoom: "" } : changes);
  }

  /** Offer the threads and commands with their shares of what is selected in time. */
  offerThreads(totals: Float64Array): void {
    const { threads } = this.data.meta;
    const all = totals.reduce((sum, value) => sum + value, 0);
    const option = (value: string, text: string): HTMLOptionElement => element("option", { value }, text);
    const comms = new Map<string, number>();
    for (const [i, comm] of threads.comm.entries()) comms.set(comm, (comms.get(comm) ?? 0) + totals[i]);
    const commands = [...comms]
      .sort((a, b) => b[1] - a[1])
      .map(([comm, total]) => option(`c:${comm}`, `${percent(total, all)}  ${comm}`));
    // A thread that changed its name is offered once, under its last one.
    const tids = new Map<number, { name: string; total: number }>();
    threads.tid.forEach((tid, i) => {
      const total = totals[i] + (tids.get(tid)?.total ?? 0);
      tids.set(tid, { name: this.names.text[this.names.threadName[i]], total });
    });
    const single = [...tids]
      .sort((a, b) => b[1].total - a[1].total)
      .map(([tid, { name, total }]) => option(`t:${tid}`, `${percent(total, all)}  ${name}`));
    this.thread.replaceChildren(
      option("", "All threads"),
      option("by-thread", "Split by thread"),
      option("by-command", "Split by command"),
      element("optgroup", { label: "One command" }, ...commands),
      element("optgroup", { label: "One thread" }, ...single),
    );
  }

  /** Make the controls say what the state says. */
  show(): void {
    const { state } = this;
    this.orientation.show(this.flag("icicle") ? "icicle" : "flame");
    this.root.show(this.flag("reverse") ? "callees" : "callers");
    this.colour.show(state.get("colour") === "module" ? "module" : "kind");
    this.order.show(state.get("order") === "name" ? "name" : "weight");
    this.side.show(state.get("width") === "before" ? "before" : "after");
    this.functions.element.querySelector("button")?.setAttribute("aria-pressed", String(this.functionsShown));
    if (this.search.value !== state.get("search")) this.search.value = state.get("search");
    this.thread.value = state.get("thread");
  }

  showFound(text: string, wrong: boolean): void {
    this.found.textContent = text;
    this.found.classList.toggle("wrong", wrong);
    this.search.setAttribute("aria-invalid", String(wrong));
  }
}
