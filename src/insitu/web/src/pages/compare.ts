// The report on two kernels: a document; its flame graph is a page of its own in a frame.

import "../style/page.css";
import "../style/compare.css";
import { typing } from "../dom";
import { ThemeSwitch } from "../theme";

const theme = new ThemeSwitch();
document.getElementById("theme")?.addEventListener("click", () => theme.toggle());
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (event.key === "t") theme.toggle();
});
