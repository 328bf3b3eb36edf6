"""Headless Chromium, and pages opened in it from files as a user would open them."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from insitu.session.interning import FrameTable, StackTree
from insitu.session.weighted_stacks import ThreadLabel, WeightedStacks
from insitu.symbols.frame import Frame

# Start time in ns, command, thread id, stack from the outermost function on.
Sample = tuple[int, str, int, Sequence[str | Frame]]

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if not path:
        pytest.fail("no chromium on this machine: run make setup, or install Debian's package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open HTML text as a file. At the end: no error was logged, and nothing but that file was asked for."""
    opened: list[Page] = []
    complaints: list[str] = []

    def open_html(html: str, *, hash: str = "", **options: object) -> Page:
        path = tmp_path / f"page{len(opened)}.html"
        path.write_text(html, encoding="utf-8")
        page = browser.new_page(**{"viewport": {"width": 1400, "height": 900}, **options})
        page.set_default_timeout(120_000)  # for hangs; a loaded machine is slow
        opened.append(page)
        page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))

        def asked_for(url: str) -> None:
            if not url.startswith((path.as_uri(), "data:,")):
                complaints.append(f"asked for {url}")

        page.on("request", lambda request: asked_for(request.url))
        page.emulate_media(reduced_motion="reduce")
        page.goto(path.as_uri() + hash)
        page.evaluate("insitu.ready")
        return page

    yield open_html
    for page in opened:
        page.close()
    assert not complaints


def _stacks(samples: Sequence[Sample], **known: object) -> WeightedStacks:
    frames, tree = FrameTable(), StackTree()
    labels: dict[tuple[str, int], int] = {}
    chains, threads = [], []
    for _, comm, tid, words in samples:
        chain = [Frame(word, "/usr/bin/prog") if isinstance(word, str) else word for word in words]
        chains.append(frames.number(reversed(chain)))
        threads.append(labels.setdefault((comm, tid), len(labels)))
    offset = np.cumsum([0, *map(len, chains)], dtype=np.int64)
    leaves = tree.add(offset, np.array([frame for chain in chains for frame in chain], np.int32))
    ts_ns = np.array([sample[0] for sample in samples], np.int64)
    found = {
        "parent": tree.parent,
        "frame": tree.frame,
        "frames": frames.frames,
        "stack": np.array(leaves, np.int32),
        "thread": np.array(threads, np.int32),
        "count": np.ones(len(samples), np.int64),
        "weight": np.full(len(samples), 1_000_000, np.int64),
        "threads": [ThreadLabel(tid, tid, tid, comm) for comm, tid in labels] or [ThreadLabel(0, 0, 0, "")],
        "event": "cpu-clock",
        "unit": "ns",
        "ts_ns": ts_ns,
        "first_ns": int(ts_ns.min()) if len(ts_ns) else 0,
        "last_ns": int(ts_ns.max(initial=0)),
        **known,
    }
    return WeightedStacks(**found)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def stacks_of() -> Callable[..., WeightedStacks]:
    """The function that makes weighted stacks of samples (time in ns, command, thread id, stack)."""
    return _stacks
