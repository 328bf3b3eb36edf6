// A flame graph with all that belongs to it: follows the page's state and writes the user's steps into it.

import "./style/flame.css";
import { Details } from "./details";
import { differenceColours, differenceIndex, Palette } from "./colour";
import type { Cells } from "./cells";
import type { PageData } from "./data";
import { element } from "./dom";
import { percent } from "./format";
import { functionSums, matchedWeight, searchNames, type SearchResult, waitsAsLeaves } from "./functions";
import { Graph, type DrawnFrame } from "./graph";
import { Legend } from "./legend";
import { nameParts } from "./namelabel";
import { NameTable } from "./names";
import { neighbour, type Direction } from "./neighbours";
import { facts, shareChange, type Fact } from "./numbers";
import { Pointer } from "./pointer";
import { groupTotals, reversedTree, selectedTree, splitTree, type Selection } from "./selection";
import type { PageState } from "./state";
import { toldApart } from "./shorten";
import { FunctionTable } from "./table";
import type { ThemeSwitch } from "./theme";
import { Toolbar } from "./toolbar";
import { layOut, namePath, nodeOfPath, pathTo, type Shape, type Tree } from "./tree";

const NOTHING: SearchResult = { matches: new Uint8Array(0), functions: 0, error: "" };

export class FlamePanel {
  readonly element: HTMLElement;
  readonly toolbar: Toolbar;
  readonly graph = new Graph();
  private readonly names: NameTable;
  private readonly legend: Legend;
  private readonly details: Details;
  private readonly table: FunctionTable;
  private readonly crumbs = element("nav", { class: "crumbs", "aria-label": "Zoomed into" });
  private readonly spoken = element("div", { class: "spoken", role: "status", "aria-live": "polite" });
  private readonly empty = element("p", { class: "empty quiet" });
  private readonly side: HTMLElement;
  private readonly pointer: Pointer;
  private tree!: Tree;
  private own!: Float64Array;
  /** The tree as recorded, whose sums are exact whatever is shown; and the one that may be split by thread. */
  private forward!: Tree;
  private split!: Shape;
  private treeKey = "";
  private treeFocus = "";
  private whole = true;
  private palette!: Palette;
  private paletteKey = "";
  private searched: string | null = null;
  private found = NOTHING;
  private zoomed = 0;
  private chosenName = -1;
  private moduleWeight = new Map<string, number>();

  constructor(
    private readonly data: PageData,
    private readonly state: PageState,
    private readonly theme: ThemeSwitch,
    /** The cells of a heat map to show; null for all. */
    private readonly cells: () => Cells | null = () => null,
  ) {
    const { meta } = data;
    this.names = new NameTable(meta);
    this.toolbar = new Toolbar(data, this.names, state);
    this.legend = new Legend();
    this.details = new Details(this.names);
    this.table = new FunctionTable(this.names, meta.unit, meta.mode === "diff", (name) => this.chooseFunction(name));
    this.side = element("aside", { "aria-label": "Functions" }, this.table.element);
    this.element = element(
      "section",
      { class: "flame" },
      this.toolbar.element,
      this.crumbs,
      element(
        "div",
        { class: "stage" },
        element("div", { class: "view" }, this.graph.element, ...this.graph.beyond),
        this.empty,
        this.side,
      ),
      element("footer", {}, this.details.element, this.legend.element),
      this.spoken,
    );
    this.graph.element.setAttribute(
      "aria-label",
      "Flame graph: arrow keys move between frames, Enter zooms, Escape goes back",
    );
    this.pointer = new Pointer(this.graph, {
      describe: (node) => (this.isDescribed(node) ? null : this.describe(node)),
      click: (node) => {
        this.select(node);
        this.zoom(node);
      },
    });
    this.graph.element.addEventListener("keydown", (event) => this.key(event));
    state.onChange(() => this.apply(true));
    theme.onChange(() => this.apply(false));
  }

  /** The frames on the screen, with their names and counts. */
  frames(): (DrawnFrame & { function: string; total: number; own: number; depth: number })[] {
    return this.graph.frames().map((frame) => ({
      ...frame,
      function: this.names.text[this.tree.name[frame.node]],
      total: this.tree.total[frame.node],
      own: this.own[frame.node],
      depth: this.tree.depth[frame.node],
    }));
  }

  /** The number by which the page's address calls a function; -1 where there is none of this name. */
  nameNumber(text: string): number {
    return this.names.text.indexOf(text);
  }

  get tallied(): { total: number; zoomed: number; nodes: number } {
    return { total: this.tree.total[0], zoomed: this.tree.total[this.zoomed], nodes: this.tree.parent.length };
  }

  apply(animated: boolean): void {
    const rebuilt = this.rebuild();
    this.toolbar.show();
    this.side.hidden = !this.toolbar.functionsShown;
    this.search();
    const zoom = nodeOfPath(this.tree, this.focus());
    this.graph.show(this.tree, this.names.label, this.toolbar.flag("icicle"), this.data.meta.minWidth);
    if (zoom !== this.zoomed || rebuilt) {
      this.pointer.leave();
      this.zoomed = zoom;
      if (rebuilt) this.graph.selected = this.graph.hovered = zoom || -1;
      this.graph.zoom(zoom, animated && rebuilt !== "other");
      if (rebuilt === "other") this.graph.home();
    }
    this.empty.hidden = this.tree.width[0] > 0;
    this.empty.textContent = `No ${this.data.meta.counted}${this.forward.total[0] || !this.data.entryNode.length ? "" : " in this selection"}`;
    this.recolour();
    this.showCrumbs();
    this.showFound();
    this.details.show(this.graph.selected, this.tree, this.factsOf(this.graph.selected));
  }

  /** The names on the way to the frame that the state says is zoomed. */
  private focus(): number[] {
    return this.state.get("zoom").split(".").filter(Boolean).map(Number);
  }

  /** Make the tree that the state asks for, when it is another one; "same" when it is but better known at its zoom. */
  private rebuild(): "" | "same" | "other" {
    const thread = this.state.get("thread");
    const reverse = this.toolbar.flag("reverse");
    const order = this.state.get("order") === "name" ? "name" : "weight";
    const before = this.state.get("width") === "before";
    const cells = this.cells();
    const key = [thread, reverse, cells?.first, cells?.last, order, before, this.toolbar.flag("icicle")].join("|");
    const focus = this.state.get("zoom");
    const other = key !== this.treeKey;
    if (!other && (this.whole || focus === this.treeFocus)) return "";
    this.treeKey = key;
    this.treeFocus = focus;
    const label =
      thread === "by-thread" ? this.names.threadName : thread === "by-command" ? this.names.commName : null;
    if (other) {
      const selection: Selection = { groups: this.groups(thread), cells };
      this.forward = layOut(selectedTree(this.data, selection), order, this.names.rank, before);
      this.split = label ? splitTree(this.data, selection, label) : this.forward;
      this.table.show(this.sums(this.forward), this.forward.total[0], this.forward.totalBefore?.[0] ?? 0);
      this.toolbar.offerThreads(groupTotals(this.data, cells));
    }
    let shape = this.split;
    this.whole = true;
    if (reverse)
      ({ shape, whole: this.whole } = reversedTree(
        waitsAsLeaves(this.split, this.names.kind),
        label !== null,
        this.focus(),
      ));
    this.tree = shape === this.forward ? this.forward : layOut(shape, order, this.names.rank, before);
    this.own = waitsAsLeaves(this.tree, this.names.kind).own;
    return other ? "other" : "same";
  }

  private sums(tree: Tree): ReturnType<typeof functionSums> {
    const sums = functionSums(tree, this.names.same, this.names.kind);
    this.moduleWeight = new Map();
    for (let name = 1; name < this.names.functions; name++) {
      const module = this.names.module(name);
      const weight = Math.max(sums.self[name], sums.selfBefore?.[name] ?? 0);
      this.moduleWeight.set(module, (this.moduleWeight.get(module) ?? 0) + weight);
    }
    return sums;
  }

  /** Which threads "c:COMMAND" and "t:TID" mean; null for all. */
  private groups(thread: string): Uint8Array | null {
    const { tid, comm } = this.data.meta.threads;
    const wanted = thread.slice(2);
    if (thread.startsWith("c:")) return Uint8Array.from(comm, (name) => Number(name === wanted));
    if (thread.startsWith("t:")) return Uint8Array.from(tid, (id) => Number(String(id) === wanted));
    return null;
  }

  private search(): void {
    const pattern = this.state.get("search");
    if (pattern === this.searched) return;
    this.searched = pattern;
    this.found = pattern ? searchNames(this.data.meta.names.function, this.names.same, pattern) : NOTHING;
    this.chosenName = -1;
  }

  private showFound(): void {
    const { found, tree, zoomed, forward } = this;
    const active = this.searched !== "" && !found.error;
    this.table.restrict(active ? found.matches : null, this.chosenName);
    if (!this.searched || found.error) {
      this.toolbar.showFound(found.error, found.error !== "");
      return;
    }
    const shares = [`${percent(matchedWeight(forward, found.matches, 0), forward.width[0])} matched`];
    // Bottom-up the tree may end before its matches do.
    if (zoomed && !this.toolbar.flag("reverse"))
      shares.push(`${percent(matchedWeight(tree, found.matches, zoomed), tree.width[zoomed])} of zoomed`);
    shares.push(`${found.functions.toLocaleString("en-US")} ${found.functions === 1 ? "function" : "functions"}`);
    this.toolbar.showFound(shares.join(" · "), false);
  }

  private recolour(): void {
    const theme = this.theme.current;
    const colouring = this.state.get("colour") === "module" ? "module" : "kind";
    const key = `${theme}|${colouring}|${colouring === "module" ? this.treeKey : ""}`;
    if (key !== this.paletteKey) {
      this.paletteKey = key;
      this.palette = new Palette(this.names, theme, colouring, this.moduleWeight);
    }
    const { palette, tree, found } = this;
    const lit =
      this.chosenName >= 0
        ? Uint8Array.from(this.names.same, (name) => Number(name === this.chosenName))
        : found.matches;
    const searching = this.chosenName >= 0 || (this.searched !== "" && !found.error);
    const style = getComputedStyle(document.documentElement);
    const common = {
      text: palette.text,
      dimText: palette.dimMatchText,
      rest: style.getPropertyValue("--rest"),
      outline: style.getPropertyValue("--ink"),
      dimmed: (node: number) => searching && !lit[tree.name[node]],
    };
    if (tree.totalBefore) {
      const colours = differenceColours(theme);
      let largest = 0;
      for (let node = 1; node < tree.parent.length; node++)
        largest = Math.max(largest, Math.abs(shareChange(tree, node)));
      this.legend.showDifference(colours, largest);
      this.graph.recolour({
        ...common,
        fill: (node) =>
          searching && lit[tree.name[node]]
            ? palette.match
            : colours[differenceIndex(shareChange(tree, node), largest)],
      });
      return;
    }
    this.legend.showFamilies(palette.families);
    this.graph.recolour({
      ...common,
      fill: searching
        ? (node) => (lit[tree.name[node]] ? palette.match : palette.dim[palette.of[tree.name[node]]])
        : (node) => palette.fill[palette.of[tree.name[node]]],
    });
  }

  private showCrumbs(): void {
    const path = pathTo(this.tree, this.zoomed);
    const labels = toldApart(
      path.map((node) => this.names.label[this.tree.name[node]]),
      path.map((node) => this.names.module(this.tree.name[node])),
    );
    this.crumbs.replaceChildren();
    path.forEach((node, i) => {
      const last = i === path.length - 1;
      const crumb = element(
        "button",
        {
          type: "button",
          click: () => this.zoom(node),
          "aria-current": last ? "true" : undefined,
          "aria-label": labels[i],
        },
        element("span", { class: "name" }, ...nameParts(labels[i])),
      );
      crumb.title = this.names.text[this.tree.name[node]];
      this.crumbs.append(crumb);
    });
    if (this.zoomed)
      this.crumbs.append(
        element("button", { type: "button", class: "reset", click: () => this.zoom(0) }, "Reset zoom"),
      );
    this.crumbs.scrollLeft = this.crumbs.scrollWidth;
  }

  zoom(node: number): void {
    if (node !== this.zoomed) this.state.set({ zoom: namePath(this.tree, node) });
  }

  /** Back from the last step: of the zoom, else of the search. */
  escape(): void {
    if (this.zoomed) {
      if (!this.state.back()) this.zoom(0);
    } else if (this.chosenName >= 0 || this.state.get("search")) {
      this.chosenName = -1;
      this.state.set({ search: "" }, false);
      this.apply(false);
    }
  }

  private chooseFunction(name: number): void {
    this.chosenName = this.chosenName === name ? -1 : name;
    this.table.restrict(this.searched && !this.found.error ? this.found.matches : null, this.chosenName);
    this.recolour();
  }

  private select(node: number): void {
    this.graph.selected = node;
    this.graph.schedule();
    const known = this.factsOf(node);
    this.details.show(node, this.tree, known);
    this.spoken.textContent = [
      this.names.text[this.tree.name[node]],
      ...known.map(({ label, value }) => `${label} ${value}`),
    ].join(", ");
  }

  private factsOf(node: number): Fact[] {
    if (node < 0) return [];
    return facts(node, {
      tree: this.tree,
      own: this.own,
      unit: this.data.meta.unit,
      zoom: this.zoomed,
      reversed: this.toolbar.flag("reverse"),
    });
  }

  /** Is there nothing to say of a frame, or does the strip below the graph say it already? */
  private isDescribed(node: number): boolean {
    return node === this.graph.selected || !this.tree.width[0];
  }

  private describe(node: number): { title: string; origin: string; facts: Fact[]; note: string } {
    const name = this.tree.name[node];
    const crowd = this.graph.crowd(node);
    return {
      title: this.names.text[name],
      origin: this.names.origin(name),
      facts: this.factsOf(node),
      note: crowd > 1 ? `one of ${crowd.toLocaleString("en-US")} frames too narrow to draw; click to zoom in` : "",
    };
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") {
      if (this.graph.selected >= 0) this.zoom(this.graph.selected);
    } else if (event.key.startsWith("Arrow")) {
      const target =
        this.graph.selected < 0 ? this.zoomed : neighbour(this.tree, this.graph.selected, this.direction(event.key));
      if (target >= 0) {
        this.select(target);
        this.graph.reveal(target);
      }
    } else if (event.key === "Home") {
      this.zoom(0);
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Where an arrow key leads within the tree, as the graph is turned now. */
  private direction(key: string): Direction {
    if (key === "ArrowLeft") return "left";
    if (key === "ArrowRight") return "right";
    return (key === "ArrowUp") === this.toolbar.flag("icicle") ? "outwards" : "inwards";
  }
}
