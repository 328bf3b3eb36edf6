// The flame graph page, of one recording or of the difference between two.

import { FLAME_KEYS, listenForKeys } from "../keys";
import { FlamePanel } from "../panel";
import { openPage } from "../shell";

/** Resolves once the page is drawn; for scripts that drive the page. */
export const ready = openPage(FLAME_KEYS, ({ data, state, theme, fill }) => {
  const panel = new FlamePanel(data, state, theme);
  fill(panel.element);
  listenForKeys(panel);
  panel.apply(false);
  shown = panel;
});

let shown: FlamePanel | null = null;

export const frames = (): ReturnType<FlamePanel["frames"]> => shown?.frames() ?? [];
export const tallied = (): FlamePanel["tallied"] | undefined => shown?.tallied;
export const drawTime = (): number => shown?.graph.lastDrawMs ?? 0;
export const nameNumber = (text: string): number => shown?.nameNumber(text) ?? -1;
