"""The flame graph page of many distinct stacks: time to make it, and time the browser takes to load and draw it."""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from insitu.session.weighted_stacks import ThreadLabel, WeightedStacks
from insitu.symbols.frame import KERNEL, Frame
from insitu.views.flamegraph import flame_html
from insitu.views.heatmap import heatmap_html

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def synthetic(stacks: int, samples: int, *, functions: int = 20_000, threads: int = 8) -> WeightedStacks:
    """Samples of ``stacks`` distinct stacks, 5 to 60 deep, hot paths and long tails as real programs have them."""
    random = np.random.default_rng(7)
    frames = [
        Frame(f"module{i % 97}::function_{i}(int, std::vector<int> const&)", f"/usr/lib/lib{i % 97}.so")
        if i % 5
        else Frame(f"kernel_function_{i}", "[kernel.kallsyms]", kind=KERNEL)
        for i in range(functions)
    ]
    parent = np.zeros(stacks + 1, np.int32)
    depth = np.zeros(stacks + 1, np.int32)
    deep = random.random(stacks + 1)
    for at in range(1, stacks + 1):
        # Mostly extend a recent stack (a deep one), sometimes an old one (a wide tree).
        above = at - 1 if deep[at] < 0.75 and depth[at - 1] < 60 else int(at * random.random() ** 2)
        parent[at] = above
        depth[at] = depth[above] + 1
    frame = random.zipf(1.15, stacks + 1) % functions
    ts_ns = np.sort(random.integers(0, 100 * 10**9, samples))
    return WeightedStacks(
        parent=parent,
        frame=np.where(np.arange(stacks + 1) > 0, frame, -1).astype(np.int32),
        frames=frames,
        stack=(1 + (random.random(samples) ** 1.5 * stacks)).astype(np.int32),
        thread=random.integers(0, threads, samples).astype(np.int32),
        count=np.ones(samples, np.int64),
        weight=np.full(samples, 1_000_000, np.int64),
        threads=[ThreadLabel(i + 1, 1000 + i, 1000, f"worker-{i % 3}") for i in range(threads)],
        event="cpu-clock",
        unit="ns",
        ts_ns=ts_ns,
        first_ns=int(ts_ns[0]),
        last_ns=int(ts_ns[-1]),
    )


def main() -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_ARGUMENTS)
        for stacks, samples in ((5_000, 68_000), (200_000, 2_000_000), (200_000, 10_000_000)):
            recorded = synthetic(stacks, samples)
            for view in (flame_html, heatmap_html):
                start = time.perf_counter()
                page_text = view(recorded, title="synthetic")
                made = time.perf_counter() - start
                path = Path(directory) / "page.html"
                path.write_text(page_text)
                page = browser.new_page(viewport={"width": 1600, "height": 1000})
                start = time.perf_counter()
                page.goto(path.as_uri())
                page.evaluate("insitu.ready")
                loaded = time.perf_counter() - start
                print(
                    f"{view.__name__}: {stacks:,} stacks, {samples:,} samples: made in {made:.2f} s,"
                    f" {len(page_text) / 1e6:.1f} MB, loaded in {loaded:.2f} s; {_draws(page)}",
                    flush=True,
                )
                page.close()
        browser.close()


def _draws(page: "object") -> str:
    """Milliseconds per drawing (no GPU here) at the root, after zooming, and of rebuilding the tree bottom-up."""
    evaluate = page.evaluate  # type: ignore[attr-defined]
    draw = "[...Array(9)].map(() => { insitu.frames(); return insitu.drawTime(); })"
    frames = len(evaluate("insitu.frames()"))
    root = statistics.median(evaluate(draw))
    reversed_ms = evaluate(
        "(() => { const start = performance.now(); dispatchEvent(new KeyboardEvent('keydown', {key: 'r'}));"
        " return performance.now() - start; })()"
    )
    bottom_up = statistics.median(evaluate(draw))
    return (
        f"{frames} frames drawn in {root:.1f} ms; bottom-up after {reversed_ms:.0f} ms, drawn in {bottom_up:.1f} ms"
    )


if __name__ == "__main__":
    main()
