// The timeline with its toolbar and details: follows the page's address, and does what keys and the pointer ask for.

import "../style/timeline.css";
import { Choice, button, element } from "../dom";
import { smartCase } from "../functions";
import type { TimelineData } from "../schema";
import type { PageState } from "../state";
import type { ThemeSwitch } from "../theme";
import { TimelineCanvas } from "./canvas";
import { Details } from "./details";
import { legend } from "./legend";
import { Model, type Row } from "./model";
import { listen } from "./pointer";
import { nextFrom, NOTHING, search } from "./search";
import { initiallyCollapsed, layOut, threadOf, type Track, tracksOf } from "./tracks";
import { clamped, rangeOf, rangeText, type Span, zoomed } from "./viewport";
import { following, wakingOf } from "./why";

export class TimelinePanel {
  readonly element: HTMLElement;
  readonly model: Model;
  readonly canvas: TimelineCanvas;
  readonly tracks: Track[];
  readonly searchField = field("Search (regular expression)", "Search names, arguments and threads");
  readonly filterField = field("Filter tracks", "Show only threads whose name matches");
  private readonly found = element("output", { class: "found", "aria-live": "polite" });
  private readonly details: Details;
  private readonly arrows: Choice<"shown">;
  private readonly spoken = element("div", { class: "spoken", role: "status", "aria-live": "polite" });
  private result = NOTHING;
  private readonly empty = element("p", { class: "empty quiet" });
  private at = -1;
  private searching = 0;
  private saving = 0;
  private shown = new Set<number>();

  constructor(
    data: TimelineData,
    private readonly state: PageState,
    theme: ThemeSwitch,
  ) {
    this.model = new Model(data);
    this.tracks = tracksOf(this.model);
    this.canvas = new TimelineCanvas(this.model, theme);
    this.canvas.collapsed = initiallyCollapsed(this.tracks);
    this.canvas.element.append(this.empty);
    this.canvas.element.setAttribute("aria-label", "Timeline: w, a, s and d zoom and pan, ? lists all keys");
    this.details = new Details(this.model, (row) => this.go(row));
    this.arrows = new Choice(
      "Wakeups",
      [["shown", "Wakeups", "Arrows from the thread that woke to the one woken"]],
      () => this.toggleArrows(),
    );
    this.searchField.addEventListener("input", () => this.search());
    this.filterField.addEventListener("input", () => this.filter());
    this.element = element(
      "section",
      { class: "timeline" },
      element(
        "div",
        { class: "toolbar", role: "toolbar", "aria-label": "Timeline" },
        element("div", { class: "search" }, this.searchField, this.found),
        element(
          "div",
          { class: "choice" },
          button("‹", "Previous match (Shift+Enter)", () => this.step(true)),
          button("›", "Next match (Enter)", () => this.step(false)),
        ),
        element("div", { class: "search filter" }, this.filterField),
        this.arrows.element,
        element(
          "div",
          { class: "choice" },
          button("−", "Zoom out (s)", () => this.zoom(1.5)),
          button("+", "Zoom in (w)", () => this.zoom(1 / 1.5)),
          button("All", "The whole recording (0)", () => this.look({ from: 0, to: this.model.end })),
        ),
      ),
      element("div", { class: "stage" }, this.canvas.element, this.details.element),
      data.meta.states.length ? legend(this.model, this.canvas, theme) : null,
      this.spoken,
    );
    listen(this);
    const [view, row] = [rangeOf(state.get("view")), rowOf(state.get("row"), this.model)];
    if (view) this.canvas.view = clamped(view, this.model.end);
    this.canvas.range = rangeOf(state.get("range"));
    this.filterField.value = state.get("filter");
    this.searchField.value = state.get("search");
    this.arrows.show("shown");
    this.layOut();
    this.searchNow();
    if (row) this.select(row);
    else this.selectRange(this.canvas.range);
    this.paintStates();
    theme.onChange(() => this.paintStates());
  }

  /** The colours of the states for what is not drawn on the canvas: legend and details. */
  private paintStates(): void {
    const { states } = this.model.data.meta;
    for (const state of states) this.element.style.setProperty(`--state-${state}`, this.canvas.colours.swatch(state));
  }

  // What is shown

  look(view: Span): void {
    this.canvas.view = clamped(view, this.model.end);
    this.canvas.schedule();
    clearTimeout(this.saving);
    this.saving = setTimeout(() => this.save(), 250);
  }

  zoom(factor: number, anchor?: number): void {
    const { view } = this.canvas;
    this.look(zoomed(view, factor, anchor ?? (view.from + view.to) / 2, this.model.end));
  }

  /** By a share of what is shown. */
  pan(share: number): void {
    const { from, to } = this.canvas.view;
    const by = share * (to - from);
    this.look({ from: from + by, to: to + by });
  }

  /** Zoom to what is selected. */
  fit(): void {
    const { selected, range } = this.canvas;
    if (range) this.look(range);
    else if (selected) {
      const [from, width] = [this.model.start(selected), this.model.duration(selected)];
      const margin = Math.max(width * 0.1, width ? 0 : 5000);
      this.look({ from: from - margin, to: from + width + margin });
    }
  }

  private save(): void {
    const { view, range, selected } = this.canvas;
    const whole = view.from === 0 && view.to === this.model.end;
    this.state.set(
      {
        view: whole ? "" : rangeText({ from: Math.floor(view.from), to: Math.ceil(view.to) }),
        range: range ? rangeText(range) : "",
        row: selected ? `${selected.kind}-${selected.row}` : "",
        search: this.searchField.value,
        filter: this.filterField.value,
      },
      false,
    );
  }

  // Tracks

  toggleGroup(id: string): void {
    if (!this.canvas.collapsed.delete(id)) this.canvas.collapsed.add(id);
    this.layOut();
  }

  toggleAll(): void {
    const groups = this.tracks.filter(({ type }) => type === "group").map(({ id }) => id);
    this.canvas.collapsed = new Set(this.canvas.collapsed.size ? [] : groups);
    this.layOut();
  }

  togglePin(id: string): void {
    if (!this.canvas.pinned.delete(id)) this.canvas.pinned.add(id);
    this.layOut();
  }

  private toggleArrows(): void {
    this.canvas.arrows = !this.canvas.arrows;
    this.arrows.element.querySelector("button")?.setAttribute("aria-pressed", String(this.canvas.arrows));
    this.canvas.schedule();
  }

  private filter(): void {
    this.layOut();
    this.save();
    if (!this.canvas.selected) this.showSelection();
  }

  private layOut(): void {
    const text = this.filterField.value;
    const expression = text ? smartCase(text) : null;
    const filter = expression instanceof RegExp ? expression : null;
    this.filterField.setAttribute("aria-invalid", String(expression !== filter));
    const layout = layOut(this.tracks, this.canvas.collapsed, this.canvas.pinned, filter);
    this.canvas.show(layout);
    this.empty.hidden = layout.rest.length > 0;
    this.empty.textContent = filter
      ? "No thread or process has a name that matches"
      : "Nothing was recorded in this time";
    this.shown = new Set([...layout.wanted].map((track) => threadOf(this.model, track)));
    this.shown.delete(0);
  }

  // Selection

  select(row: Row | null): void {
    this.canvas.selected = row;
    if (row) this.canvas.range = null;
    this.selected();
  }

  selectRange(range: Span | null): void {
    this.canvas.range = range;
    this.canvas.selected = null;
    this.selected();
  }

  private selected(): void {
    this.canvas.schedule();
    this.showSelection();
    this.save();
  }

  private showSelection(): void {
    const { selected, range } = this.canvas;
    if (selected) {
      this.details.showRow(selected);
      this.spoken.textContent = `${this.model.name(selected)}, ${this.model.thread(this.model.threadOf(selected))}`;
    } else this.details.showRange(range ?? { from: 0, to: this.model.end }, [...this.shown], !range);
  }

  /** The track that a row is in: that of its thread, not of its CPU. */
  trackOf(row: Row): Track | undefined {
    const type = { state: "state", span: "spans", sample: "samples", event: "events", counter: "counter" }[row.kind];
    const of = row.kind === "counter" ? this.model.data.counterTrack[row.row] : this.model.threadOf(row);
    return this.tracks.find(
      (track) =>
        track.type === type &&
        track.of === of &&
        (type !== "spans" || track.id === `t${of}s${this.model.data.spanCategory[row.row]}`),
    );
  }

  /** Select a row and bring it into view. */
  go(row: Row): void {
    const track = this.trackOf(row);
    if (track && this.canvas.collapsed.delete(track.group)) this.layOut();
    const [from, width] = [this.model.start(row), this.model.duration(row)];
    const { view } = this.canvas;
    const span = view.to - view.from;
    if (from + width < view.from || from > view.to || width < span / 2000) {
      const wide = width ? Math.min(span, Math.max(width * 40, 100)) : span;
      this.look({ from: from + width / 2 - wide / 2, to: from + width / 2 + wide / 2 });
    }
    this.select(row);
    if (track) this.canvas.reveal(track.id);
  }

  /** To the next or previous row of the track. */
  move(by: number): void {
    const row = this.canvas.selected;
    const track = row && this.trackOf(row);
    if (!row || !track) return;
    const start = this.model.start(row);
    for (const lane of track.lanes) {
      let at = lane.firstFrom(start);
      while (at < lane.length && lane.rows[at] !== row.row && lane.start(at) === start) at++;
      const next = lane.rows[at] === row.row ? lane.rows[at + by] : undefined;
      if (next !== undefined) {
        this.go({ kind: row.kind, row: next });
        return;
      }
    }
  }

  /** Along a wakeup: to what the waker did then, or to what the thread that was woken did. */
  follow(back: boolean): void {
    const row = this.canvas.selected;
    if (row?.kind !== "state") return;
    const { stateTime, stateDuration, stateThread, stateWaker } = this.model.data;
    if (back) {
      const woken = stateWaker[row.row] ? row.row : wakingOf(this.model, row.row).row;
      const waker = woken < 0 ? 0 : stateWaker[woken];
      const lane = this.model.states[waker];
      const at = waker ? lane.firstFrom(stateTime[woken]) - 1 : -1;
      if (at >= 0) this.go({ kind: "state", row: lane.rows[at] });
      return;
    }
    const end = stateTime[row.row] + stateDuration[row.row];
    let next = row.row + 1;
    while (next < stateTime.length && stateTime[next] <= end && stateWaker[next] !== stateThread[row.row]) next++;
    if (next >= stateTime.length || stateTime[next] > end) next = following(this.model, row.row);
    if (next >= 0) this.go({ kind: "state", row: next });
  }

  /** From a CPU of a guest to the host's thread that runs it, and what that did in the middle of what is shown. */
  showHostThread(cpu: number): void {
    const thread = this.model.hostThread(cpu);
    const track = this.tracks.find(({ type, of }) => of === thread && type === "state");
    if (!thread || !track) return;
    if (this.canvas.collapsed.delete(track.group)) this.layOut();
    const { from, to } = this.canvas.view;
    const [lane] = track.lanes;
    this.select({ kind: "state", row: lane.rows[Math.max(0, lane.firstFrom((from + to) / 2) - 1)] });
    this.canvas.reveal(track.id);
  }

  // Search

  private search(): void {
    clearTimeout(this.searching);
    this.searching = setTimeout(() => {
      this.searching = 0;
      this.searchNow();
    }, 150);
  }

  private searchNow(): void {
    this.result = search(this.model, this.searchField.value);
    this.at = -1;
    this.canvas.matched = this.result.threads;
    this.canvas.schedule();
    this.showFound();
    this.save();
  }

  private showFound(): void {
    const { rows, threads, error, more } = this.result;
    const count = `${rows.length.toLocaleString("en-US")}${more ? "+" : ""}`;
    const threads_ = threads.size ? ` · ${threads.size} thread${threads.size > 1 ? "s" : ""}` : "";
    const position = this.at >= 0 ? `${(this.at + 1).toLocaleString("en-US")} of ` : "";
    this.found.textContent = error || (this.searchField.value ? `${position}${count}${threads_}` : "");
    this.found.classList.toggle("wrong", Boolean(error));
    this.searchField.setAttribute("aria-invalid", String(Boolean(error)));
  }

  /** To the next or previous match, from where the selection is, else from the left edge. */
  step(back: boolean): void {
    if (this.searching) {
      clearTimeout(this.searching);
      this.searching = 0;
      this.searchNow();
    }
    const { rows, threads } = this.result;
    if (!rows.length) {
      const first = [...threads][0];
      const track = this.tracks.find((each) => each.of === first && each.depth === 1 && each.type !== "cpu");
      if (track && this.canvas.collapsed.delete(track.group)) this.layOut();
      if (track) this.canvas.reveal(track.id);
      return;
    }
    if (this.at >= 0) this.at = (this.at + (back ? rows.length - 1 : 1)) % rows.length;
    else {
      const { selected, view } = this.canvas;
      const from = selected ? this.model.start(selected) : view.from - 1;
      this.at = nextFrom(this.model, rows, from, back);
      if (this.at < 0) this.at = back ? rows.length - 1 : 0;
    }
    this.go(rows[this.at]);
    this.showFound();
  }
}

function field(placeholder: string, label: string): HTMLInputElement {
  return element("input", {
    type: "search",
    placeholder,
    "aria-label": label,
    spellcheck: "false",
    autocomplete: "off",
  });
}

/** The row of an address, if there is one. */
function rowOf(text: string, model: Model): Row | null {
  const found = /^(state|span|sample|event|counter)-(\d{1,9})$/.exec(text);
  if (!found) return null;
  const row: Row = { kind: found[1] as Row["kind"], row: Number(found[2]) };
  return row.row < model.data[`${row.kind}Time`].length ? row : null;
}
