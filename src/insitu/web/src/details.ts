// The strip below the graph: the frame under the pointer, else the selected one, with its full name and origin.

import { element } from "./dom";
import type { NameTable } from "./names";
import type { Fact } from "./numbers";
import type { Tree } from "./tree";

export class Details {
  readonly element: HTMLElement;
  private readonly kind = element("span", { class: "kind" });
  private readonly name = element("span", { class: "name" });
  private readonly origin = element("span", { class: "quiet origin" });
  private readonly facts = element("dl");

  constructor(private readonly names: NameTable) {
    this.element = element(
      "div",
      { class: "details" },
      element("div", { class: "who" }, this.kind, this.name, this.origin),
      this.facts,
    );
  }

  show(node: number, tree: Tree, facts: Fact[]): void {
    if (node < 0) {
      this.kind.textContent = this.origin.textContent = "";
      this.name.textContent = "Hover for details, click to zoom";
      this.name.classList.add("quiet");
      this.facts.replaceChildren();
      return;
    }
    const name = tree.name[node];
    this.kind.textContent = node ? this.names.kind[name] : "";
    this.name.textContent = this.names.text[name];
    this.name.classList.remove("quiet");
    this.origin.textContent = [this.names.module(name), this.names.file(name)].filter(Boolean).join("  ·  ");
    this.facts.replaceChildren(...factElements(facts));
  }
}

export function factElements(facts: Fact[]): HTMLElement[] {
  return facts.map(({ label, value, tone }) =>
    element("div", {}, element("dt", {}, label), element("dd", { class: tone }, value)),
  );
}
