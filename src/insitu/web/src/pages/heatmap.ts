// The heat map page: the heat map above, below it the flame graph of the selected range, else of all.

import { HeatPanel } from "../heatpanel";
import { FLAME_KEYS, listenForKeys } from "../keys";
import { FlamePanel } from "../panel";
import type { Heat } from "../schema";
import { openPage, type Keys } from "../shell";

const HEAT_KEYS: Keys = [
  ["← → ↑ ↓", "in the heat map: move; with Shift select"],
  ["Enter", "in the heat map: start and end of the range"],
];

let map: HeatPanel | null = null;
let flame: FlamePanel | null = null;

/** Resolves once the page is drawn; for scripts that drive the page. */
export const ready = openPage([...HEAT_KEYS, ...FLAME_KEYS], ({ data, state, theme, fill }) => {
  map = new HeatPanel(data, state, theme);
  flame = new FlamePanel(data, state, theme, () => map?.selected ?? null);
  const panel = flame;
  fill(map.element, panel.element);
  map.apply();
  panel.apply(false);
  listenForKeys(panel);
});

export const frames = (): ReturnType<FlamePanel["frames"]> => flame?.frames() ?? [];
export const tallied = (): FlamePanel["tallied"] | undefined => flame?.tallied;
export const drawTime = (): number => flame?.graph.lastDrawMs ?? 0;
export const cellCentre = (cell: number): { x: number; y: number } | undefined => map?.canvas.centre(cell);
export const heat = (): Heat | undefined => map?.heat;
