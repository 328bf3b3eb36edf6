"""The screen of `insitu top`: ticks, live or of the last minutes, from processes to threads, functions and stacks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Final

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.app import App, ComposeResult
from textual.message import Message
from textual.widgets import Input

from insitu.record.top.functions import WINDOW_S, recent, stacks_of
from insitu.record.top.sampler import Sampled
from insitu.record.top.tick import Process, Tick
from insitu.terminal_text import printable
from insitu.views.table import Line, shorten
from insitu.views.top.columns import COLUMNS, Shown, percent, processes
from insitu.views.top.help import HELP
from insitu.views.top.lines import Lines
from insitu.views.top.summary import clock, summary
from insitu.views.top.tables import ALL_THREADS, Listing, functions_table, process_table, side_lines, stacks_table

__all__ = ["Level", "TopScreen"]

_WIDE: Final = 150  # columns, from which on functions are beside the processes
_WHEEL: Final = 3  # rows
_KEYS: Final = "Enter open  Esc back  Space freeze  ←→ time  / filter  f functions  r save  ? help  q quit"
_KEYS_NARROW: Final = "Enter Esc  Space freeze  ←→ time  / filter  f functions  r save  ? help  q quit"


class Level:
    """One step of the way from the machine to a stack, with the row that is chosen there."""

    def __init__(self, kind: str, pid: int = 0, tid: int = 0, name: str = "") -> None:
        self.kind, self.pid, self.tid, self.name = kind, pid, tid, name
        self.through: tuple[str, str] | None = None
        self.chosen: Hashable = None
        """Key of the chosen row; None: the first."""
        self.cursor = self.first = 0


class TopScreen(App[None]):
    """Ticks come from ``sampler.on_tick``, which may be called in another thread."""

    CSS = """
    Screen { background: transparent; layout: vertical; overflow: hidden; }
    #head { height: auto; }
    #table { height: 1fr; }
    #foot { height: 1; }
    Input { display: none; height: 1; border: none; padding: 0; background: transparent; }
    Input:focus { border: none; background: transparent; }
    """
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    BINDINGS: ClassVar = []

    class Ticked(Message):
        """A tick has been taken."""

    def __init__(
        self,
        sampler: Sampled,
        shown: Shown,
        *,
        target: str,
        save: Callable[[Sequence[Tick], Callable[[Process], bool]], str],
    ) -> None:
        """``target`` says what is sampled. ``save`` makes a session of ticks and the processes that are shown, and
        returns what it did."""
        super().__init__(ansi_color=True)
        self.sampler, self.shown = sampler, shown
        self.levels = [Level("processes", name="processes")]
        self.at: int | None = None
        """The number of the tick that is shown; None: always the latest."""
        self.message = " ".join(sampler.notes)
        self._target, self._save = target, save
        self._waits = self._by_total = self._helps = False
        self._listing: Listing | None = None
        sampler.on_tick = lambda tick: self.post_message(self.Ticked())

    def compose(self) -> ComposeResult:
        """The lines above, the table, the line of keys, and the field of /."""
        yield Lines("head")
        yield Lines("table")
        yield Lines("foot")
        yield Input(placeholder="part of a name, or a pid", compact=True)

    @property
    def level(self) -> Level:
        """Where one is."""
        return self.levels[-1]

    # What is shown

    def ticks(self) -> Sequence[Tick]:
        """Returns the ticks up to the one that is shown."""
        return self.sampler.history.until(self.at)

    def on_top_screen_ticked(self) -> None:
        """Show a new tick, or how long ago the one was that is shown."""
        self.draw()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Draw everything anew."""
        ticks = self.ticks()
        head, table, foot = (self.query_one(f"#{name}", Lines) for name in ("head", "table", "foot"))
        width, height = self.size
        if self._helps:
            lines: list[Line] = [[(text, "")] for text in HELP.splitlines()]
        elif not ticks:
            lines = [[("insitu top", "bold"), ("   the first tick is being taken", "")]]
        else:
            lines = [self._status(ticks[-1], width)]
            if height >= 16:
                lines += summary(ticks, width, cpu_lines=4 if height < 40 else 16)
            lines.append(self._path(ticks[-1], width))
        head.styles.height = min(len(lines), height - 1)
        head.show(lines)
        table_height = height - 1 - len(lines)
        table.show(self._body(ticks, width, table_height) if ticks and not self._helps else [])
        keys = _KEYS if width >= len(_KEYS) else _KEYS_NARROW
        foot.show([[(printable(self.message) or keys, "bold" if self.message else "bright_black")]])

    def _status(self, tick: Tick, width: int) -> Line:
        latest = self.sampler.history.ticks[-1]
        if self.at is None:
            state, style = "live", "green"
        else:
            behind = round((latest.time_ns - tick.time_ns) / 1e9)
            state, style = f"frozen, {behind} s ago" if behind else "frozen", "bold yellow"
        own = f"own CPU {percent(tick.own_cpu)} %"
        target = shorten(printable(self._target), max(8, width - 60))
        left = f"insitu top  {target}  {clock(tick.time_ns)}  "
        space = max(1, width - len(left) - len(state) - len(own))
        return [(left, "bold"), (state, style), (" " * space, ""), (own, "")]

    def _path(self, tick: Tick, width: int) -> Line:
        level = self.level
        if level.kind == "processes":
            text = processes(len(self.shown.rows(tick.processes)))
            text += f", {tick.hidden} more not read" if tick.hidden else ""
            text += f' with "{printable(self.shown.filter)}"' if self.shown.filter else ""
        else:
            text = " > ".join(printable(each.name) for each in self.levels)
            if level.kind != "threads":
                text += f"   {'off CPU' if self._waits else 'on CPU'}, last {WINDOW_S:.0f} s"
        text = f"── {shorten(text, width - 6)} "
        return [(text + "─" * max(0, width - len(text)), "bright_black")]

    def _body(self, ticks: Sequence[Tick], width: int, height: int) -> list[Line]:
        """The table; on a wide terminal, with the functions of the machine beside the processes."""
        if width < _WIDE or self.level.kind != "processes" or not self.sampler.has_kernel_counts:
            return self._table(ticks, width, height)
        left = width // 2
        lines = [_padded(line, left) for line in self._table(ticks, left, height)]
        lines += [[(" " * left, "")] for _ in range(height - len(lines))]
        costs = self.sampler.functions.own_costs(stacks_of(recent(ticks), 0, 0, waits=False))
        for line, beside in zip(lines, side_lines(costs, width - left, height), strict=False):
            line += beside
        return lines

    def _table(self, ticks: Sequence[Tick], width: int, height: int) -> list[Line]:
        listing = self._listing = self._made(ticks, width)
        level, rows = self.level, listing.rows
        keys = [listing.key(row) for row in rows]
        if level.chosen in keys:
            level.cursor = keys.index(level.chosen)
        level.cursor = max(0, min(level.cursor, len(rows) - 1))
        room = max(0, height - 1)
        level.first = max(0, min(level.first, level.cursor, len(rows) - room), level.cursor - room + 1)
        lines = [listing.title][:height]
        for at in range(level.first, min(len(rows), level.first + room)):
            line = listing.line(rows[at])
            if at == level.cursor:
                text = "".join(text for text, _ in line)
                line = [(text.ljust(width), "reverse")]
            lines.append(line)
        if not rows:
            lines.append([(self._nothing(), "bright_black")])
        return lines

    def _made(self, ticks: Sequence[Tick], width: int) -> Listing:
        level, tick, bpf = self.level, ticks[-1], self.sampler.has_kernel_counts
        if level.kind == "processes":
            return process_table(tick.processes, self.shown, width, bpf=bpf)
        if level.kind == "threads":
            whole = next((row for row in tick.processes if row.pid == level.pid), None)
            threads = [row for row in tick.threads if row.parent == level.pid]
            if whole is None:
                return Listing([], [], lambda row: None, lambda row: [])
            return process_table(threads, self.shown._replace(filter=""), width, bpf=bpf, of_threads=whole)
        stacks = stacks_of(recent(ticks), level.pid, level.tid, waits=self._waits)
        if level.kind == "functions":
            costs = self.sampler.functions.costs(stacks)
            return functions_table(costs, width, waits=self._waits, by_total=self._by_total)
        return stacks_table(stacks, self.sampler.functions, level.through, width, waits=self._waits)

    def _nothing(self) -> str:
        if self.level.kind in ("functions", "stacks"):
            if not self.sampler.has_kernel_counts:
                return "functions need BPF: run as root, see insitu doctor"
            if self._waits and not self.level.pid:
                return "waits are recorded of one process: choose it, then o"
            return "no waits ended yet" if self._waits else "no samples: it was not on a CPU"
        if self.level.kind == "threads":
            return "not there at that time"
        return "no process matches" if self.shown.filter else "no processes"

    # Keys

    async def on_key(self, event: events.Key) -> None:
        """All keys of the screen; those of the field of / do not come here."""
        if isinstance(self.focused, Input):
            if event.key == "escape":
                self._end_filter("")
            return
        self.message = ""
        if self._helps:
            self._helps = False
        elif (action := self._action(event)) is not None:
            action()
        self.draw()

    def _action(self, event: events.Key) -> Callable[[], object] | None:
        moves = {"up": -1, "down": 1, "k": -1, "j": 1, "pageup": -20, "pagedown": 20, "home": -(10**6), "end": 10**6}
        times = {"left": -1, "right": 1, "shift+left": -10, "shift+right": 10}
        key = event.key
        if key in moves:
            return lambda: self._move(moves[key])
        if key in times:
            return lambda: self._go(times[key])
        named: dict[str, Callable[[], object]] = {
            "enter": self._into,
            "escape": self._back,
            "backspace": self._back,
            "space": self._freeze,
            "slash": self._begin_filter,
            "f": self._functions,
            "r": self._record,
            "question_mark": self._help,
            "q": self.exit,
            "ctrl+z": self.action_suspend_process,
        }
        return named.get(key) or self._sort(event.character or "")

    def action_help_quit(self) -> None:
        """Ctrl-C quits; textual would say that Ctrl-Q does."""
        self.exit()

    def on_mouse_scroll_down(self) -> None:
        """Choose a row below."""
        self._move(_WHEEL)
        self.draw()

    def on_mouse_scroll_up(self) -> None:
        """Choose a row above."""
        self._move(-_WHEEL)
        self.draw()

    def _move(self, by: int) -> None:
        level, listing = self.level, self._listing
        if listing is not None and listing.rows:
            level.cursor = max(0, min(level.cursor + by, len(listing.rows) - 1))
            level.chosen = listing.key(listing.rows[level.cursor])

    def _go(self, by: int) -> None:
        """Go back or forward in time, by ticks."""
        ticks = self.sampler.history.ticks
        if ticks:
            now = self.ticks()[-1].number
            self.at = max(ticks[0].number, min(now + by, ticks[-1].number))

    def _freeze(self) -> None:
        ticks = self.ticks()
        self.at = ticks[-1].number if self.at is None and ticks else None

    def _into(self) -> None:
        level, listing = self.level, self._listing
        if listing is None or not listing.rows or level.kind == "stacks":
            return
        row: Any = listing.rows[level.cursor]
        if level.kind == "processes":
            self.levels.append(Level("threads", row.pid, 0, f"{row.name} ({row.pid})"))
            self.sampler.look_at(row.pid)
        elif level.kind == "threads":
            name = "all threads" if row.pid == ALL_THREADS else f"{row.name} ({row.pid})"
            self.levels.append(Level("functions", level.pid, row.pid, name))
        else:
            self.levels.append(Level("stacks", level.pid, level.tid, row.function))
            self.level.through = (row.function, row.module)

    def _back(self) -> None:
        if len(self.levels) > 1:
            self.levels.pop()
            if self.level.kind == "processes":
                self.sampler.look_at(0)
                self._waits = False
        elif self.shown.filter:
            self.shown = self.shown._replace(filter="")

    def _functions(self) -> None:
        """Functions of the machine, or of the process that is looked at."""
        level = self.level
        if level.kind in ("processes", "threads"):
            self.levels.append(Level("functions", level.pid, 0, "functions"))

    def _sort(self, character: str) -> Callable[[], object] | None:
        if not character:
            return None
        if self.level.kind in ("functions", "stacks"):
            return {"o": self._show_waits, "c": self._show_cpu, "t": self._sort_total, "s": self._sort_own}.get(
                character
            )
        if character == "R":
            return lambda: self._sort_by(self.shown._replace(reverse=not self.shown.reverse))
        found = next((column for column in COLUMNS if column.key == character), None)
        return None if found is None else lambda: self._sort_by(self.shown._replace(sort=found, reverse=False))

    def _sort_by(self, shown: Shown) -> None:
        self.shown = shown
        self.level.chosen, self.level.cursor = None, 0

    def _show_waits(self) -> None:
        self._waits = True

    def _show_cpu(self) -> None:
        self._waits = False

    def _sort_total(self) -> None:
        self._by_total = True

    def _sort_own(self) -> None:
        self._by_total = False

    def _help(self) -> None:
        self._helps = True

    # The filter

    def _begin_filter(self) -> None:
        field = self.query_one(Input)
        field.value = self.shown.filter
        field.display = True
        self.query_one("#foot").display = False
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while one types."""
        self.shown = self.shown._replace(filter=event.value)
        self.draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter."""
        self._end_filter(event.value)

    def _end_filter(self, text: str) -> None:
        self.shown = self.shown._replace(filter=text)
        self.query_one(Input).display = False
        self.query_one("#foot").display = True
        self.set_focus(None)
        self.draw()

    # Recording

    def _record(self) -> None:
        """Save the ticks that are kept, of the processes that are shown, into a session."""
        ticks, pid, shown = self.ticks(), self.level.pid, self.shown
        if not ticks:
            return
        self.message = "saving ..."

        def wanted(row: Process) -> bool:
            return row.pid == pid if pid else bool(shown.rows([row]))

        def work() -> None:
            self.message = self._save(ticks, wanted)
            self.call_from_thread(self.draw)

        self.run_worker(work, thread=True)

    def ended(self, text: str) -> None:
        """Say that the target has ended; what was seen can still be looked at."""
        self.message = text
        self.draw()


def _padded(line: Line, width: int) -> Line:
    """A line of exactly this many columns, so that another can follow."""
    room = width
    cells: Line = []
    for text, style in line:
        shown = text if cell_len(text) <= room else set_cell_size(text, room)
        cells.append((shown, style))
        room -= cell_len(shown)
    return [*cells, (" " * room, "")]
