"""The timeline of many events: time to make the page, its size, the browser's memory, and the time of its frames.

Chromium draws without a GPU here: each frame is what the CPU needs for it.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.flame_html import CHROMIUM_ARGUMENTS
from insitu.convert.thread_states import Switches, Wakings, thread_states, write_thread_states
from insitu.kernel import procfs
from insitu.session.core_tables import COUNTER, SAMPLE, SPAN, TRACK
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.reader import Session
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import KERNEL, Frame
from insitu.views.timeline import timeline, timeline_html

CPUS = 8
THREADS = 12  # of each CPU
_STATES = np.array([1, 0, 2, 0x100])


def scheduled(count: int) -> tuple[Switches, Wakings]:
    """``count`` events of a scheduler: the threads of a CPU take turns, those asleep are woken by one that runs."""
    random = np.random.default_rng(5)
    each = count // 3 // CPUS
    parts = []
    for cpu in range(CPUS):
        ts_ns = 1_000_000_000 + np.cumsum(random.exponential(25_000, each + 1).astype(np.int64) + 500)
        turn = np.cumsum(random.integers(1, THREADS, each + 1)) % THREADS + 1000 + cpu * THREADS
        state = random.choice(_STATES, each, p=(0.62, 0.2, 0.08, 0.1))
        parts.append((ts_ns[1:], np.full(each, cpu, np.int32), turn[:-1], state, turn[1:]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    switches = Switches(*(column[order] for column in columns))
    nobody = np.zeros(0, np.int64)
    states = thread_states(switches, Wakings(nobody, nobody.astype(np.int32), nobody.astype(np.int32)))
    asleep = np.flatnonzero((states.state >= 3) & (states.dur_ns > 1))
    woken_ns = states.ts_ns[asleep] + (states.dur_ns[asleep] * random.random(len(asleep)) ** 0.2).astype(np.int64)
    at = np.maximum(np.searchsorted(switches.ts_ns, woken_ns) - 1, 0)
    return switches, Wakings(woken_ns, states.tid[asleep], switches.next_tid[at].astype(np.int32))


def synthetic(path: Path, count: int) -> Path:
    """A session of some ``count`` events: two thirds of the scheduler, the others system calls and samples."""
    create(path, Manifest.here(procfs, command=["synthetic"]), procfs)
    random = np.random.default_rng(6)
    switches, wakings = scheduled(count * 2 // 3)
    names = [f"worker-{number}" for number in range(5)]
    with SessionWriter.on_disk(path) as writer:
        for number in range(CPUS * THREADS):
            process = 1000 + number // 8 * 8
            if number % 8 == 0:
                upid = writer.processes.process(process, exe=f"/usr/bin/server-{number // 8}")
            writer.processes.thread(1000 + number, upid, name="server" if number % 8 == 0 else names[number % 5])
        states = thread_states(switches, wakings)
        write_thread_states(writer, states)
        running = np.flatnonzero((states.state == 0) & (states.dur_ns > 4000))
        chosen = np.sort(random.choice(running, min(count // 6, len(running)), replace=False))
        utid = writer.processes.utids(states.tid[chosen], states.ts_ns[chosen])
        calls = [f"call_{number}" for number in range(40)]
        _spans(writer, states.ts_ns[chosen] + 500, states.dur_ns[chosen] - 1000, utid, calls, random)
        functions = [Frame(f"function_{number}", "/usr/bin/server") for number in range(200)]
        kernel = Frame("do_syscall_64", "[kernel.kallsyms]", kind=KERNEL)
        stacks = [writer.intern_stack([*functions[at : at + 12], kernel]) for at in range(180)]
        chosen = np.sort(random.choice(running, min(count // 6, len(running)), replace=False))
        writer.append(
            SAMPLE,
            {
                "ts_ns": states.ts_ns[chosen] + 1000,
                "utid": writer.processes.utids(states.tid[chosen], states.ts_ns[chosen]),
                "cpu": states.cpu[chosen],
                "event_type": np.full(len(chosen), writer.event_type("cpu-clock", "ns")),
                "stack": np.array(stacks, np.int32)[random.integers(0, len(stacks), len(chosen))],
                "weight": np.full(len(chosen), 1_000_000),
            },
        )
        writer.append(TRACK, {"id": [0], "name": ["memory"], "unit": ["bytes"], "device": [""]})
        at_ns = np.linspace(int(states.ts_ns[0]), int(states.ts_ns[-1]), 5000).astype(np.int64)
        values = 3e9 + np.cumsum(random.normal(0, 2e7, 5000))
        writer.append(COUNTER, {"ts_ns": at_ns, "track": np.zeros(5000, np.int32), "value": values})
        writer.finish(end_ns=int(states.ts_ns[-1]) + 1000)
    return path


def _spans(writer: SessionWriter, ts_ns: Any, dur_ns: Any, utid: Any, calls: list[str], random: Any) -> None:
    name = random.zipf(1.4, len(ts_ns)) % len(calls)
    writer.append(
        SPAN,
        {
            "id": writer.span_ids(len(ts_ns)),
            "ts_ns": ts_ns,
            "dur_ns": dur_ns,
            "utid": utid,
            "category": ["request"] * len(ts_ns),
            "name": [calls[each] for each in name.tolist()],
            "stack": np.zeros(len(ts_ns), np.int32),
        },
    )


# Pans over the whole recording and zooms from all of it to a microsecond and back.
_DRIVE = (
    ["insitu.panel().look({from: 0, to: insitu.panel().model.end})"]
    + ["insitu.panel().zoom(0.9)"] * 120
    + ["insitu.panel().pan(0.05)"] * 60
    + ["insitu.panel().zoom(1 / 0.9)"] * 120
    + ["insitu.panel().look({from: insitu.panel().model.end * 0.4, to: insitu.panel().model.end * 0.5})"]
    + ["insitu.panel().pan(0.04)"] * 100
)
_FRAME = "new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))"


def _cpu_s(session: Any) -> float:
    """CPU time of the page's main thread, which other load of this machine does not change."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "ThreadTime"))


def _memory(browser: Any) -> tuple[int, int]:
    """Resident bytes of the largest of the browser's page processes, now and at most."""
    found = [(0, 0)]
    for process in browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]:
        if process["type"] == "renderer":
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{process['id']}/status").read_text().splitlines()
            )
            found.append((int(status["VmRSS"].split()[0]) << 10, int(status["VmHWM"].split()[0]) << 10))
    return max(found)


def main(counts: tuple[int, ...] = (1_000_000, 5_000_000, 10_000_000)) -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_ARGUMENTS)
        for count in counts:
            path = synthetic(Path(directory) / f"{count}.insitu", count)
            start = time.perf_counter()
            with Session(path) as session:
                made = timeline(session, title="synthetic")
            html = timeline_html(made)
            made_s = time.perf_counter() - start
            file = Path(directory) / "page.html"
            file.write_text(html)
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            start = time.perf_counter()
            page.goto(file.as_uri())
            page.evaluate("insitu.ready")
            loaded = time.perf_counter() - start
            resident, most = _memory(browser)
            inspector = page.context.new_cdp_session(page)
            inspector.send("Performance.enable")
            idle_ms: list[float] = []
            frames_ms: list[float] = []
            for step in _DRIVE:
                for what, into in (("0", idle_ms), (step, frames_ms)):
                    before = _cpu_s(inspector)
                    page.evaluate(f"() => {{ {what}; return {_FRAME}; }}")
                    into.append((_cpu_s(inspector) - before) * 1000)
            frames = np.array(frames_ms) - np.median(idle_ms)  # without what the question itself takes
            print(
                f"{made.rows:>10,} rows: page made in {made_s:.1f} s, {len(html) / 1e6:.1f} MB, loaded and drawn in "
                f"{loaded:.1f} s, memory {resident / 1e6:,.0f} MB, at most {most / 1e6:,.0f}; "
                f"{len(frames)} frames without a GPU, CPU time of the page: "
                f"mean {frames.mean():.1f} ms, median {np.median(frames):.1f} ms, "
                f"p95 {np.percentile(frames, 95):.1f} ms, most {frames.max():.1f} ms "
                f"(step {frames.argmax()}); {np.mean(frames < 1000 / 60):.1%} below "
                "1/60 s",
                flush=True,
            )
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
