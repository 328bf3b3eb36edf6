// What the page shows, kept in the address behind "#": the browser's back and forward walk through it, links carry it.

export class PageState {
  private values: URLSearchParams;
  private readonly listeners: (() => void)[] = [];
  private pushed = 0;

  constructor() {
    this.values = new URLSearchParams(location.hash.slice(1));
    addEventListener("popstate", () => {
      this.values = new URLSearchParams(location.hash.slice(1));
      this.pushed = Math.max(0, this.pushed - 1);
      this.tell();
    });
  }

  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  get(key: string): string {
    return this.values.get(key) ?? "";
  }

  /** Set (or with "" remove) values. With `step` the browser's back button undoes it. */
  set(changes: Record<string, string>, step = true): void {
    const before = this.values.toString();
    for (const [key, value] of Object.entries(changes)) {
      if (value) this.values.set(key, value);
      else this.values.delete(key);
    }
    const after = this.values.toString();
    if (after === before) return;
    const url = after ? `#${after}` : location.pathname + location.search;
    if (step) {
      history.pushState(null, "", url);
      this.pushed++;
    } else {
      history.replaceState(null, "", url);
    }
    this.tell();
  }

  /** One step back, when this page made one. */
  back(): boolean {
    if (!this.pushed) return false;
    history.back();
    return true;
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}
