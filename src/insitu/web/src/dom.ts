// Elements in one expression. Texts become text nodes, never markup.

type Child = Node | string | null | undefined;
type Attributes = Record<string, string | number | boolean | undefined | ((event: never) => void)>;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value as EventListener);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined) made.append(child);
  return made;
}

export function button(label: string, title: string, action: () => void): HTMLButtonElement {
  return element("button", { type: "button", title, click: action }, label);
}

/** Buttons of which one is pressed; `choose` is called with its value. */
export class Choice<T extends string> {
  readonly element: HTMLElement;
  private readonly buttons = new Map<T, HTMLButtonElement>();

  constructor(
    label: string,
    options: [value: T, text: string, title: string][],
    choose: (value: T) => void,
    labelled = false,
  ) {
    this.element = element("div", { class: "choice", role: "group", "aria-label": label });
    if (labelled) this.element.append(element("span", { class: "quiet", "aria-hidden": "true" }, label));
    for (const [value, text, title] of options) {
      const made = button(text, title, () => choose(value));
      this.buttons.set(value, made);
      this.element.append(made);
    }
  }

  show(value: T): void {
    for (const [own, made] of this.buttons) made.setAttribute("aria-pressed", String(own === value));
  }
}

/** Is the user typing, so that single letters are not shortcuts? */
export function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement
  );
}
