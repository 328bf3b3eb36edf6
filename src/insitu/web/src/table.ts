// The table of the hottest functions, beside the graph.

import { button, element } from "./dom";
import { exact, percent, points } from "./format";
import type { FunctionSums } from "./functions";
import type { NameTable } from "./names";
import { nameParts } from "./namelabel";
import { moduleLabels, toldApart } from "./shorten";

const SHOWN = 200;

type Column = "self" | "total" | "change";

export class FunctionTable {
  readonly element: HTMLElement;
  private readonly body = element("tbody");
  private readonly heads = new Map<Column, HTMLButtonElement>();
  private readonly more = element("p", { class: "quiet" });
  private sums: FunctionSums | null = null;
  private all = 0;
  private allBefore = 0;
  private largestSelf = 0;
  private matches: Uint8Array | null = null;
  private chosen = -1;
  private sorted: Column;

  constructor(
    private readonly names: NameTable,
    private readonly unit: string,
    differential: boolean,
    choose: (name: number) => void,
  ) {
    this.sorted = differential ? "change" : "self";
    const columns: [Column, string, string][] = [
      ["self", "Self", "Samples in the function itself"],
      ["total", "Total", "Samples with the function anywhere in the stack, recursion counted once"],
    ];
    if (differential) columns.push(["change", "± Self", "Change of the function's own share, in percentage points"]);
    const row = element("tr", {}, element("th", { scope: "col" }, "Function"));
    for (const [column, text, title] of columns) {
      const head = button(text, title, () => {
        this.sorted = column;
        this.fill();
      });
      this.heads.set(column, head);
      row.append(element("th", { scope: "col", class: "number" }, head));
    }
    const table = element("table", {}, element("thead", {}, row), this.body);
    this.body.addEventListener("click", (event) => {
      const target = (event.target as HTMLElement).closest("tr");
      if (target) choose(Number(target.dataset.name));
    });
    this.element = element("div", { class: differential ? "functions differential" : "functions" }, table, this.more);
  }

  show(sums: FunctionSums, all: number, allBefore: number): void {
    this.sums = sums;
    this.all = all;
    this.allBefore = allBefore;
    this.largestSelf = sums.self.reduce((most, value) => Math.max(most, value), 0);
    this.fill();
  }

  /** Only the functions that match (all when null); `chosen` is marked. */
  restrict(matches: Uint8Array | null, chosen: number): void {
    if (matches === this.matches && chosen === this.chosen) return;
    this.matches = matches;
    this.chosen = chosen;
    this.fill();
  }

  private change(name: number): number {
    const sums = this.sums;
    if (!sums?.selfBefore) return 0;
    return sums.self[name] / (this.all || 1) - sums.selfBefore[name] / (this.allBefore || 1);
  }

  private fill(): void {
    const sums = this.sums;
    if (!sums) return;
    for (const [column, head] of this.heads) {
      head.closest("th")?.setAttribute("aria-sort", column === this.sorted ? "descending" : "none");
    }
    const key = (name: number): number =>
      this.sorted === "self"
        ? sums.self[name]
        : this.sorted === "total"
          ? sums.total[name]
          : Math.abs(this.change(name));
    const present: number[] = [];
    for (let name = 1; name < this.names.functions; name++) {
      if (!sums.total[name] && !sums.totalBefore?.[name]) continue; // so have the other names of a function
      if (!this.matches || this.matches[name]) present.push(name);
    }
    present.sort(
      (a, b) => key(b) - key(a) || sums.total[b] - sums.total[a] || this.names.rank[a] - this.names.rank[b],
    );
    const shown = present.slice(0, SHOWN);
    const modules = shown.map((name) => this.names.module(name));
    const labels = toldApart(
      shown.map((name) => this.names.label[name]),
      modules,
    );
    const files = moduleLabels(modules);
    this.body.replaceChildren(...shown.map((name, i) => this.row(name, labels[i], files[i])));
    const rest = present.length - SHOWN;
    this.more.textContent = rest > 0 ? `and ${rest.toLocaleString("en-US")} more: search to see them` : "";
  }

  private row(name: number, shown: string, file: string): HTMLTableRowElement {
    const sums = this.sums as FunctionSums;
    const cell = (value: number, largest: number): HTMLTableCellElement => {
      const bar = element("i");
      bar.style.setProperty("--share", `${largest ? (100 * value) / largest : 0}%`);
      return element("td", { class: "number", title: exact(value, this.unit) }, percent(value, this.all), bar);
    };
    const text = this.names.text[name];
    const module = shown.startsWith(`[${file}]`) ? "" : file;
    const label = element(
      "div",
      { class: "label" },
      element("button", { type: "button", class: "name", title: text, "aria-label": shown }, ...nameParts(shown)),
      element("span", { class: "quiet", title: this.names.module(name) }, module),
    );
    const row = element(
      "tr",
      {},
      element("td", {}, label),
      cell(sums.self[name], this.largestSelf),
      cell(sums.total[name], this.all),
    );
    if (sums.selfBefore) {
      const delta = this.change(name);
      row.append(element("td", { class: `number ${delta > 0 ? "grew" : delta < 0 ? "shrank" : ""}` }, points(delta)));
    }
    row.dataset.name = String(name);
    if (name === this.chosen) row.classList.add("chosen");
    return row;
  }
}
