// What the colours of the timeline mean: states, and the names that ran the longest on the CPUs.

import { element } from "../dom";
import type { ThemeSwitch } from "../theme";
import type { TimelineCanvas } from "./canvas";
import type { Model } from "./model";

/** So many names of threads have their colour in the legend. */
const MOST_NAMES = 5;
const STATES = [
  "running",
  "runnable",
  "preempted",
  "sleeping",
  "idle",
  "uninterruptible",
  "stopped",
  "traced",
  "parked",
  "unknown",
];

export function legend(model: Model, canvas: TimelineCanvas, theme: ThemeSwitch): HTMLElement {
  const { states } = model.data.meta;
  const entry = (text: string, colour: string): HTMLElement => {
    const mark = element("i");
    mark.style.background = colour;
    return element("span", { title: text }, mark, element("em", {}, text));
  };
  const names = model.busiest(MOST_NAMES);
  const made = element("footer", { class: "legend", "aria-label": "Colours" });
  const fill = (): void =>
    made.replaceChildren(
      ...STATES.filter((state) => states.includes(state)).map((state) => entry(state, `var(--state-${state})`)),
      ...(names.length ? [element("b", {}, "on CPUs")] : []),
      ...names.map((name) => entry(name, canvas.colours.named(name))),
    );
  fill();
  theme.onChange(fill);
  return made;
}
