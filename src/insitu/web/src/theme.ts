// The light and the dark look: the system's unless the user chose one.

import type { Theme } from "./colour";

const KEY = "insitu-theme";

export class ThemeSwitch {
  private readonly system = matchMedia("(prefers-color-scheme: dark)");
  private readonly listeners: (() => void)[] = [];
  private chosen = remembered();
  private printing = false;

  constructor() {
    this.system.addEventListener("change", () => this.apply());
    addEventListener("beforeprint", () => this.print(true));
    addEventListener("afterprint", () => this.print(false));
    this.apply();
  }

  get current(): Theme {
    if (this.printing) return "light";
    return this.chosen || (this.system.matches ? "dark" : "light");
  }

  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  toggle(): void {
    this.chosen = this.current === "light" ? "dark" : "light";
    try {
      localStorage.setItem(KEY, this.chosen);
    } catch {
      // Storage may be forbidden for files; the choice then lasts as long as the page.
    }
    this.apply();
  }

  private print(printing: boolean): void {
    this.printing = printing;
    this.apply();
  }

  private apply(): void {
    document.documentElement.dataset.theme = this.current;
    for (const listener of this.listeners) listener();
  }
}

function remembered(): Theme | "" {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "";
  } catch {
    return "";
  }
}
