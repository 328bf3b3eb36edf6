// What every page has around its views: title, losses, theme, help, and keys that work everywhere.

import "./style/page.css";
import { readPage, type Head, type PageData } from "./data";
import { button, element, typing } from "./dom";
import { exact } from "./format";
import { ARRAYS } from "./schema";
import { PageState } from "./state";
import { ThemeSwitch } from "./theme";

export type Keys = [keys: string, meaning: string][];

export interface Page<Data> {
  data: Data;
  state: PageState;
  theme: ThemeSwitch;
  /** Put the page's views below its header. */
  fill(...views: HTMLElement[]): void;
}

/** Open a page of a call tree: `build` adds the views. */
export function openPage(keys: Keys, build: (page: Page<PageData>) => void): Promise<void> {
  const reading = ({ meta }: PageData): string =>
    `Each box is a function; the functions it called are next to it, away from the root. Its width is its share of all ${unitWord(meta.unit)}. ` +
    "The left-to-right order says nothing about time. A thin bar stands for frames too narrow to draw.";
  return openAnyPage(() => readPage<PageData>(ARRAYS), reading, keys, build);
}

/** Decode a page's data and build its frame; `reading` says in the help how to read it. A failure is shown. */
export async function openAnyPage<Data extends { meta: Head }>(
  read: () => Promise<Data>,
  reading: (data: Data) => string,
  keys: Keys,
  build: (page: Page<Data>) => void,
): Promise<void> {
  const app = document.getElementById("app") as HTMLElement;
  try {
    const data = await read();
    const theme = new ThemeSwitch();
    const help = helpDialog(keys, reading(data));
    app.append(header(data.meta, theme, help), ...banners(data.meta));
    document.body.append(help);
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
      if (event.key === "?") help.showModal();
      else if (event.key === "t") theme.toggle();
    });
    build({ data, state: new PageState(), theme, fill: (...views) => app.append(...views) });
  } catch (error) {
    app.append(
      element(
        "p",
        { class: "banner loss", role: "alert" },
        `This page could not be shown: ${(error as Error).message}`,
      ),
    );
    throw error;
  }
}

function header(meta: Head, theme: ThemeSwitch, help: HTMLDialogElement): HTMLElement {
  return element(
    "header",
    {},
    element(
      "div",
      { class: "heading" },
      element("h1", { title: meta.title }, meta.title),
      element("p", { class: "quiet", title: meta.subtitle }, meta.subtitle),
    ),
    button("Light / dark", "Switch between the light and the dark look (t)", () => theme.toggle()),
    button("?", "Keys and how to read this (?)", () => help.showModal()),
  );
}

function banners(meta: Head): HTMLElement[] {
  const made: HTMLElement[] = [];
  const losses = Object.entries(meta.losses);
  if (losses.length) {
    const counts = losses.map(([source, count]) => `${exact(count, "records")} lost by ${source}`);
    const text = `Incomplete recording: ${counts.join("; ")}. Percentages are of what was kept.`;
    made.push(element("p", { class: "banner loss", role: "alert" }, text));
  }
  // What is remarked on a comparison makes it doubtful.
  const tone = meta.mode === "diff" ? "banner loss" : "banner";
  for (const note of meta.notes) made.push(element("p", { class: tone }, note));
  return made;
}

/** What widths are shares of. */
function unitWord(unit: string): string {
  return unit === "ns" ? "time" : unit;
}

function helpDialog(keys: Keys, reading: string): HTMLDialogElement {
  const rows = keys.map(([key, meaning]) =>
    element(
      "div",
      {},
      element("dt", {}, ...key.split(" ").map((part) => element("kbd", {}, part))),
      element("dd", {}, meaning),
    ),
  );
  const dialog = element(
    "dialog",
    { class: "help", "aria-label": "Help" },
    element("h2", {}, "How to read this"),
    element("p", {}, reading),
    element("h2", {}, "Keys"),
    element("dl", {}, ...rows),
    element("form", { method: "dialog" }, element("button", {}, "Close")),
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}
