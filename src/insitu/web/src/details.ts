// The strip below the graph: the selected frame, with its full name and origin. The one under the pointer has a tooltip.

import { element } from "./dom";
import type { NameTable } from "./names";
import type { Fact } from "./numbers";
import type { Tree } from "./tree";

const HOVER = "Hover for details, click to zoom";
const TAP = "Tap to zoom and for details";
const TOUCH = matchMedia("(hover: none)");

export class Details {
  readonly element: HTMLElement;
  private readonly kind = element("span", { class: "kind" });
  private readonly name = element("span", { class: "name" });
  private readonly origin = element("span", { class: "quiet origin" });
  private readonly facts = element("dl");
  private readonly who = element("div", { class: "who" }, this.kind, this.name);

  constructor(private readonly names: NameTable) {
    this.element = element(
      "div",
      { class: "details" },
      this.who,
      element("div", { class: "more" }, this.facts, this.origin),
    );
  }

  show(node: number, tree: Tree, facts: Fact[]): void {
    this.who.scrollTop = 0;
    if (node < 0) {
      // Nothing to hover over is said in the graph's place.
      this.kind.textContent = this.origin.textContent = this.origin.title = "";
      this.name.textContent = !tree.width[0] ? "" : TOUCH.matches ? TAP : HOVER;
      this.name.classList.add("quiet");
      this.facts.replaceChildren();
      return;
    }
    const name = tree.name[node];
    this.kind.textContent = node ? this.names.kind[name] : "";
    this.name.textContent = this.names.text[name];
    this.name.classList.remove("quiet");
    this.origin.textContent = this.origin.title = this.names.origin(name);
    this.facts.replaceChildren(...factElements(facts));
  }
}

export function factElements(facts: Fact[]): HTMLElement[] {
  return facts.map(({ label, value, tone }) =>
    element("div", {}, element("dt", {}, label), element("dd", { class: tone }, value)),
  );
}
