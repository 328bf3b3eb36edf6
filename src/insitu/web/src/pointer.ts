// The pointer over a graph: hovering shows a tooltip, clicking notifies the panel.

import { factElements } from "./details";
import { element } from "./dom";
import { ROW, type Graph } from "./graph";
import type { Fact } from "./numbers";

export interface Described {
  title: string;
  origin: string;
  facts: Fact[];
  note: string;
}

interface Handlers {
  describe(node: number): Described | null;
  click(node: number): void;
}

/** Pixels between the pointer and a box above or below it: the row under the pointer stays in sight. */
const GAP = ROW + 1;

/** A box beside the pointer. */
export class Tooltip {
  private readonly box = element("div", { class: "tooltip", role: "tooltip", hidden: true });

  constructor() {
    document.body.append(this.box);
  }

  show(event: PointerEvent, ...content: (Node | string | null)[]): void {
    this.box.replaceChildren(...content.filter((part): part is Node | string => part !== null));
    this.box.hidden = false;
    const { width, height } = this.box.getBoundingClientRect();
    const left = event.clientX + 14 + width > innerWidth ? event.clientX - width - 10 : event.clientX + 14;
    const top = event.clientY + GAP + height > innerHeight ? event.clientY - height - GAP : event.clientY + GAP;
    this.box.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
  }

  hide(): void {
    this.box.hidden = true;
  }
}

export class Pointer {
  private readonly tooltip = new Tooltip();
  /** Where the button went down, and on which frame: coordinates of clicks are rounded, and may lie in the next one. */
  private pressed = { x: 0, y: 0, node: -1 };

  constructor(
    private readonly graph: Graph,
    private readonly handlers: Handlers,
  ) {
    const area = graph.element;
    area.addEventListener("pointermove", (event) => this.move(event));
    area.addEventListener("pointerleave", () => this.leave());
    area.addEventListener("scroll", () => this.leave(), { passive: true });
    area.addEventListener("pointerdown", ({ clientX: x, clientY: y }) => {
      this.pressed = { x, y, node: graph.hit(x, y) };
    });
    area.addEventListener("click", (event) => {
      const { x, y, node } = this.pressed;
      if (node < 0 || Math.hypot(event.clientX - x, event.clientY - y) > 5) return;
      this.tooltip.hide();
      handlers.click(node);
    });
  }

  private move(event: PointerEvent): void {
    const node = this.graph.hit(event.clientX, event.clientY);
    if (node !== this.graph.hovered) {
      this.graph.hovered = node;
      this.graph.schedule();
    }
    this.graph.element.style.cursor = node < 0 ? "" : "pointer";
    const described = node < 0 ? null : this.handlers.describe(node);
    if (!described || event.pointerType === "touch") {
      this.tooltip.hide();
      return;
    }
    this.tooltip.show(
      event,
      element("strong", {}, described.title),
      described.origin ? element("span", { class: "quiet" }, described.origin) : null,
      element("dl", {}, ...factElements(described.facts)),
      described.note ? element("em", {}, described.note) : null,
    );
  }

  /** Nothing is under the pointer any more: it left, or the graph has changed. */
  leave(): void {
    this.tooltip.hide();
    if (this.graph.hovered < 0) return;
    this.graph.hovered = -1;
    this.graph.schedule();
  }
}
