// What the colours mean.

import type { Family } from "./colour";
import { element } from "./dom";
import { points } from "./format";
import { baseName } from "./names";

export class Legend {
  readonly element = element("div", { class: "legend", role: "note", "aria-label": "Colours" });

  showFamilies(families: Family[]): void {
    this.element.replaceChildren(
      ...families.map(({ label, swatch }) => {
        const mark = element("i");
        mark.style.background = swatch;
        return element("span", { title: label }, mark, baseName(label));
      }),
    );
  }

  /** The scale of a difference whose largest change of share is `largest`. */
  showDifference(colours: string[], largest: number): void {
    const bar = element("i", { class: "scale" });
    bar.style.background = `linear-gradient(to right, ${colours.join(",")})`;
    this.element.replaceChildren(
      element("span", {}, `shrank ${points(-largest)}`),
      bar,
      element("span", {}, `grew ${points(largest)}`),
    );
  }
}
