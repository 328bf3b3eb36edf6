"""Headless Chromium, and pages opened in it from files as a user would open them."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from insitu.session.profile import Lost, Profile, Thread
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
        page.set_default_timeout(10_000)
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


def _profile(samples: Sequence[Sample], lost: Sequence[Lost] = ()) -> Profile:
    frames: dict[Frame, int] = {}
    stacks: dict[tuple[int, int], int] = {}
    parents, stack_frames = [0], [-1]
    leaves = []
    for _, _, _, words in samples:
        at = 0
        for word in words:
            frame = Frame(word, "/usr/bin/prog") if isinstance(word, str) else word
            key = (at, frames.setdefault(frame, len(frames)))
            if key not in stacks:
                stacks[key] = len(parents)
                parents.append(at)
                stack_frames.append(key[1])
            at = stacks[key]
        leaves.append(at)
    comms = {tid: comm for _, comm, tid, _ in samples}
    return Profile(
        frames=list(frames),
        stack_parent=np.array(parents, np.int32),
        stack_frame=np.array(stack_frames, np.int32),
        ts_ns=np.array([sample[0] for sample in samples], np.int64),
        cpu=np.zeros(len(samples), np.int32),
        tid=np.array([sample[2] for sample in samples], np.int32),
        stack=np.array(leaves, np.int32),
        event=np.zeros(len(samples), np.int32),
        weight=np.full(len(samples), 1_000_000, np.int64),
        threads=[Thread(tid, tid, comm=comm) for tid, comm in comms.items()],
        lost=list(lost),
    )


@pytest.fixture(scope="session")
def profile_of() -> Callable[..., Profile]:
    """The function that makes a profile of samples (time in ns, command, thread id, stack)."""
    return _profile
