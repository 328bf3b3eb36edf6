"""The timeline page on a session of known content: what it says is compared with arithmetic on that content."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from insitu.convert.thread_states import Switches, Wakings, thread_states, write_thread_states
from insitu.kernel import procfs
from insitu.session.core_tables import COUNTER, SAMPLE, SPAN, SYSCALL, TRACK, VIRTUAL_CPU
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.reader import Session
from insitu.session.schema import Column, Table
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import KERNEL, Frame
from insitu.views.page import packed
from insitu.views.page_server import PageServer
from insitu.views.timeline import timeline, timeline_html, timeline_shell

Open = Callable[..., Page]

MS = 1_000_000
START = 7_000 * MS
OPENED = Table("event.opened", "", (Column("ts_ns", "timestamp"), Column("utid", "utid"), Column("path", "path")))
NONE = "\N{EN DASH}"
MAIN, HELPER, BUSY = 100, 101, 200
# In milliseconds: time, CPU, thread that leaves, its state, thread that comes.
SWITCHES = [
    (0, 0, 0, 0, MAIN),
    (0, 1, 0, 0, BUSY),
    (10, 0, MAIN, 1, 0),  # main goes to sleep in futex
    (30, 0, 0, 0, HELPER),
    (50, 0, HELPER, 1, 0),
    (60, 1, BUSY, 0x100, MAIN),  # main has waited 20 ms for CPU 1, on which busy ran
    (80, 1, MAIN, 0x20, BUSY),
    (100, 1, BUSY, 2, 0),
]
WAKINGS = [(25, HELPER, BUSY), (40, MAIN, HELPER)]


def session(path: Path, *, name: str = "main") -> Path:
    create(path, Manifest.here(procfs, command=["./prog", "--fast"], start_ns=START), procfs)
    with SessionWriter.on_disk(path) as writer:
        upid = writer.processes.process(MAIN, exe="/usr/bin/prog")
        main = writer.processes.thread(MAIN, upid, name=name)
        helper = writer.processes.thread(HELPER, upid, name="helper")
        writer.processes.thread(BUSY, writer.processes.process(BUSY), name="busy")
        rows = np.array(SWITCHES, np.int64).T
        ts_ns, cpu, prev, state, following = START + rows[0] * MS, *rows[1:]
        woken = np.array(WAKINGS, np.int64).T
        narrow = [each.astype(np.int32) for each in (cpu, prev, following, woken[1], woken[2])]
        switches = Switches(ts_ns, narrow[0], narrow[1], state, narrow[2])
        states = thread_states(switches, Wakings(START + woken[0] * MS, *narrow[3:]), start_ns=START)
        write_thread_states(writer, states)
        spans = [
            (1, 78, main, "work", "request"),
            (5, 70, main, "parse", "request"),
            (9, 52, main, "futex", "syscall"),
        ]
        spans += [(31, 4, helper, "parse", "request"), (36, 6, helper, "parse", "request")]
        begin, length, utid, names, categories = map(list, zip(*spans, strict=True))
        ids = writer.span_ids(len(spans))
        writer.append(
            SPAN,
            {
                "id": ids,
                "ts_ns": START + np.array(begin) * MS,
                "dur_ns": np.array(length) * MS,
                "utid": utid,
                "category": categories,
                "name": names,
                "stack": [0] * len(spans),
            },
        )
        called = {"span_id": [int(ids[2])], "nr": [202], "ret": [0], "arguments": ["0x1234, FUTEX_WAIT"]}
        writer.append(SYSCALL, called)
        stack = writer.intern_stack([Frame("read_page", "[ext4]", kind=KERNEL), Frame(name, "/usr/bin/prog")])
        kind = writer.event_type("cpu-clock", "ns")
        at = START + np.array([2, 4, 70]) * MS
        sampled = {"ts_ns": at, "utid": [main] * 3, "cpu": [0, 0, 1], "event_type": [kind] * 3, "stack": [stack] * 3}
        writer.append(SAMPLE, sampled)
        writer.append(OPENED, {"ts_ns": [START + 7 * MS], "utid": [main], "path": [f"/data/{name}"]})
        writer.append(TRACK, {"id": [0], "name": ["queue"], "unit": ["requests"], "device": [""]})
        values = {"ts_ns": START + np.array([0, 20, 90]) * MS, "track": [0] * 3, "value": [2.0, 8.0, 5.0]}
        writer.append(COUNTER, values)
        writer.finish(end_ns=START + 100 * MS)
    return path


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    with Session(session(tmp_path_factory.mktemp("timeline") / "run.insitu")) as opened:
        return timeline_html(timeline(opened, title="prog --fast"))


@pytest.fixture
def page(open_page: Open, html: str) -> Page:
    return open_page(html)


def place(page: Page, track: str, ms: float, lane: int = 0) -> tuple[float, float]:
    at = page.evaluate(f"insitu.place({track!r}, {ms * MS}, {lane})")
    return at["x"], at["y"]


def track(page: Page, name: str) -> str:
    """The id of the track of that name that is no group."""
    found: str = page.evaluate(f"insitu.panel().tracks.find((each) => each.depth && each.name === {name!r}).id")
    return found


def facts(page: Page) -> dict[str, str]:
    rows = page.locator("aside .facts > div")
    return {row.locator("dt").inner_text(): row.locator("dd").inner_text() for row in rows.all()}


def table(page: Page, title: str) -> dict[str, list[str]]:
    """The cells of a table of the panel by the first, each with its full value where it has one."""
    rows = page.locator(f"aside h3:text-is('{title}') + table tbody tr")
    found = {}
    for row in rows.all():
        first, *others = row.locator("td").all()
        full = [cell.locator("[title]").first for cell in others]
        values = [
            each.get_attribute("title") if each.count() else cell.inner_text()
            for each, cell in zip(full, others, strict=True)
        ]
        found[first.inner_text()] = [str(value) for value in values]
    return found


def shown(page: Page) -> tuple[float, float]:
    view = page.evaluate("insitu.panel().canvas.view")
    return view["from"] / MS, view["to"] / MS


def test_a_click_on_a_sleep_says_who_ended_it_and_what_that_one_did_before(page: Page) -> None:
    page.mouse.click(*place(page, track(page, "main 100"), 20))
    panel = page.locator("aside")
    expect(panel.locator("h2")).to_have_text("sleeping")
    assert facts(page)["start"] == "0.010 000 000 s"
    assert facts(page)["duration"] == "30 ms"
    expect(panel).to_contain_text(
        "It was blocked in futex. helper 101 woke it after 30 ms. Then it was runnable for 20 ms"
    )
    steps = [step.inner_text() for step in panel.locator(".chain li").all()]
    assert steps == ["helper 101 for 15 ms: running 10 ms, runnable 5 ms", "busy 200 for 15 ms: running 15 ms"]
    panel.get_by_role("button", name="helper 101").first.click()
    expect(panel.locator("h2")).to_have_text("running")
    assert facts(page)["thread"] == "helper 101"
    assert facts(page)["CPU"] == "0"


def test_a_click_on_a_wait_for_a_cpu_says_who_had_it(page: Page) -> None:
    page.mouse.click(*place(page, track(page, "main 100"), 50))
    panel = page.locator("aside")
    expect(panel.locator("h2")).to_have_text("runnable")
    assert facts(page)["woken by"] == "helper 101"
    expect(panel).to_contain_text("It waited for a CPU for 20 ms, until it got CPU 1, where meanwhile ran:")
    rows = [row.locator("td").all_inner_texts() for row in panel.locator("table tbody tr").all()]
    assert rows == [["busy 200", "20 ms", "100.00 %"]]


def test_a_dragged_range_has_the_statistics_of_its_part_of_everything(page: Page) -> None:
    page.keyboard.press("0")
    x0, y = place(page, track(page, "main 100"), 5)
    x1, _ = place(page, track(page, "main 100"), 45)
    page.mouse.move(x0, y)
    page.mouse.down()
    page.mouse.move(x1, y, steps=4)
    page.mouse.up()
    selected = page.evaluate("insitu.panel().canvas.range")
    low, high = selected["from"] / MS, selected["to"] / MS
    assert low == pytest.approx(5, abs=0.2) and high == pytest.approx(45, abs=0.2)
    # To the nanosecond, as the address holds it.
    page.evaluate(f"insitu.panel().selectRange({{from: {5 * MS}, to: {45 * MS}}})")
    expect(page.locator("aside h2")).to_have_text("40 ms")
    threads = table(page, "Threads")
    assert list(threads) == ["busy 200", "helper 101", "main 100"]
    assert threads["busy 200"] == ["40 ms · 100.00 %", NONE, NONE, NONE]
    assert threads["helper 101"] == ["15 ms · 37.50 %", "5 ms · 12.50 %", NONE, NONE]
    assert threads["main 100"] == ["5 ms · 12.50 %", "5 ms · 12.50 %", "30 ms · 75.00 %", NONE]
    spans = table(page, "Spans")
    # parse of main has 40 ms, those of helper 4 and 6; work has 40 ms, all in parse.
    assert spans["parse"] == ["3", "50 ms", "50 ms", f"{50 / 3:.6f}".rstrip("0") + " ms"]
    assert spans["work"] == ["1", "40 ms", "0 ns", "40 ms"]
    assert spans["futex"] == ["1", "36 ms", "36 ms", "36 ms"]
    assert table(page, "Events") == {"opened": ["1"]}
    assert table(page, "Counters")["queue (requests)"] == ["1", "8 requests", "8 requests", "8 requests"]
    page.keyboard.press("f")
    assert shown(page) == (5, 45)
    page.keyboard.press("Escape")
    expect(page.locator("aside h2")).to_have_text("Whole recording")
    assert table(page, "Samples") == {"read_page": ["3", "100.00 %"]}


def test_calls_samples_events_and_counters_show_what_they_hold(page: Page) -> None:
    category = page.evaluate("insitu.panel().tracks.find(({name, of}) => name === 'syscall' && of === 1).id")
    page.mouse.click(*place(page, category, 30))
    expect(page.locator("aside h2")).to_have_text("futex")
    expect(page.locator("aside .text")).to_have_text("(0x1234, FUTEX_WAIT) = 0")
    page.mouse.click(*place(page, "t1x", 70))
    expect(page.locator("aside h2")).to_have_text("read_page")
    assert page.locator("aside .stack li").all_inner_texts() == ["read_page\n[ext4]", "main\nprog"]
    assert facts(page)["CPU"] == "1"
    page.mouse.click(*place(page, "t1e", 7))
    expect(page.locator("aside .text")).to_have_text("path=/data/main")
    page.mouse.click(*place(page, "n0", 50))
    assert facts(page)["value"] == "8 requests"
    assert facts(page)["start"] == "0.020 000 000 s"


def test_keys_zoom_to_the_nanosecond_and_back_and_move(page: Page) -> None:
    page.mouse.move(*place(page, track(page, "main 100"), 60))
    for _ in range(120):
        page.keyboard.press("w")
    low, high = shown(page)
    assert (high - low) * MS == pytest.approx(20)
    assert low <= 60.2 and high >= 59.8
    page.keyboard.press("0")
    assert shown(page) == (0, 100)
    page.keyboard.press("w")
    page.keyboard.press("s")
    before = shown(page)
    page.keyboard.press("w")
    page.keyboard.press("d")
    assert shown(page)[0] > before[0]
    x, y = place(page, track(page, "main 100"), 60)
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -500)
    page.keyboard.up("Control")
    page.wait_for_function("insitu.panel().canvas.view.to - insitu.panel().canvas.view.from < 5e7")


def test_search_goes_from_match_to_match_and_wakeups_are_followed(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("^parse")
    expect(page.locator(".found")).to_have_text("3")
    for number, start in enumerate(("0.005 000 000 s", "0.031 000 000 s", "0.036 000 000 s", "0.005 000 000 s")):
        page.keyboard.press("Enter")
        expect(page.locator(".found")).to_have_text(f"{number % 3 + 1} of 3")
        assert facts(page)["start"] == start
    page.keyboard.press("Shift+Enter")
    assert facts(page)["start"] == "0.036 000 000 s"
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    page.mouse.click(*place(page, track(page, "main 100"), 20))
    page.keyboard.press("[")
    assert (facts(page)["thread"], facts(page)["start"]) == ("helper 101", "0.030 000 000 s")
    page.keyboard.press("]")
    assert (facts(page)["thread"], facts(page)["start"]) == ("main 100", "0.040 000 000 s")
    page.keyboard.press(".")
    expect(page.locator("aside h2")).to_have_text("running")
    page.keyboard.press(",")
    expect(page.locator("aside h2")).to_have_text("runnable")


def tracks(page: Page, what: str = "rest") -> list[str]:
    found: list[str] = page.evaluate(f"insitu.panel().canvas.layout.{what}.map(({{track}}) => track.name)")
    return found


def test_groups_collapse_tracks_are_pinned_and_filtered(page: Page) -> None:
    before = tracks(page)
    assert before[:3] == ["CPUs", "CPU 0", "CPU 1"]
    x, y = place(page, "cpus", 0)
    page.mouse.click(x - 100, y)
    assert tracks(page) == [name for name in before if not name.startswith("CPU ")]
    page.mouse.click(x - 100, y)
    page.mouse.click(*place(page, track(page, "helper 101"), 35))
    page.keyboard.press("p")
    assert tracks(page, "pinned") == ["helper 101"]
    page.get_by_placeholder("Filter tracks").fill("busy")
    assert tracks(page) == ["busy 200"]
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert list(table(page, "Threads")) == ["busy 200"]


def test_what_is_empty_says_so(page: Page, open_page: Open, tmp_path: Path) -> None:
    message = page.locator(".empty")
    expect(message).to_be_hidden()
    page.get_by_placeholder("Filter tracks").fill("nobody")
    expect(message).to_have_text("No thread or process has a name that matches")
    page.get_by_placeholder("Filter tracks").fill("busy")
    expect(message).to_be_hidden()
    path = tmp_path / "run.insitu"
    create(path, Manifest.here(procfs, start_ns=START), procfs)
    with SessionWriter.on_disk(path) as writer:
        utid = writer.processes.thread(5, writer.processes.process(5), name="slow")
        writer.append(OPENED, {"ts_ns": [START, START + 90 * MS], "utid": [utid] * 2, "path": ["/a", "/b"]})
        writer.finish(end_ns=START + 100 * MS)
    with Session(path) as opened:
        quiet = open_page(timeline_html(timeline(opened, title="x", seconds=(0.02, 0.06))))
    expect(quiet.locator(".empty")).to_have_text("Nothing was recorded in this time")


def _contained(page: Page, selector: str) -> list[str]:
    """Texts of the elements that lie in the window whole, and are not cut."""
    found: list[str] = page.evaluate(
        """(selector) => [...document.querySelectorAll(selector)].filter((each) => {
            const { left, top, right, bottom } = each.getBoundingClientRect();
            const fits = left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
            return fits && each.scrollWidth <= each.clientWidth + 1;
        }).map((each) => each.textContent)""",
        selector,
    )
    return found


def test_a_narrow_window_has_the_whole_legend_and_long_names_in_full_when_pointed_at(
    open_page: Open, tmp_path: Path
) -> None:
    name = "a-name-of-a-thread-that-is-much-too-long"
    with Session(session(tmp_path / "run.insitu", name=name)) as opened:
        html = timeline_html(timeline(opened, title="x"))
    for width in (600, 1280):
        page = open_page(html, viewport={"width": width, "height": 800})
        states = ["running", "runnable", "preempted", "sleeping", "uninterruptible"]
        assert _contained(page, "footer.legend em") == [*states, "busy", "helper"]
        assert page.locator("footer.legend span").nth(6).get_attribute("title") == name
        swatches = page.evaluate(
            "[...document.querySelectorAll('footer.legend i')].map((each) => each.getBoundingClientRect().width)"
        )
        assert swatches == [12] * 8
        _, y = place(page, "t1", 5)
        page.mouse.move(60, y)
        expect(page.locator(".tooltip")).to_have_text(f"{name} 100")


def test_a_link_opens_the_same_view_and_selection(page: Page, open_page: Open, html: str) -> None:
    page.evaluate(f"insitu.panel().look({{from: {20 * MS}, to: {70 * MS}}})")
    page.mouse.click(*place(page, track(page, "main 100"), 50))
    page.wait_for_function("location.hash.includes('view=20000000-70000000')")
    other = open_page(html, hash=page.evaluate("location.hash"))
    assert shown(other) == (20, 70)
    expect(other.locator("aside h2")).to_have_text("runnable")


def test_hostile_names_are_texts(open_page: Open, tmp_path: Path) -> None:
    name = "</script><img src=x onerror=alert(1)>"
    with Session(session(tmp_path / "run.insitu", name=name)) as opened:
        page = open_page(timeline_html(timeline(opened, title=name)))
    assert page.title() == name
    page.mouse.click(*place(page, "t1e", 7))
    expect(page.locator("aside .text")).to_have_text(f"path=/data/{name}")
    page.mouse.click(*place(page, "t1x", 70))
    expect(page.locator("aside .stack li").nth(1)).to_contain_text(name)
    page.mouse.move(*place(page, "t1", 5))
    expect(page.locator(".tooltip")).to_contain_text(name)


def test_times_of_a_recording_of_days_are_exact(tmp_path: Path, open_page: Open) -> None:
    day = 86_400_000 * MS
    path = tmp_path / "run.insitu"
    create(path, Manifest.here(procfs, start_ns=START), procfs)
    with SessionWriter.on_disk(path) as writer:
        utid = writer.processes.thread(5, writer.processes.process(5), name="slow")
        begin, length = [START, START + 3 * day + 7], np.ma.masked_array([day + 1, 123_456_789])
        spans = {"id": [0, 1], "ts_ns": begin, "dur_ns": length, "utid": [utid] * 2, "stack": [0, 0]}
        writer.append(SPAN, {**spans, "category": ["job"] * 2, "name": ["first", "second"]})
        writer.finish(end_ns=START + 4 * day)
    with Session(path) as opened:
        page = open_page(timeline_html(timeline(opened, title="x")))
    found = page.evaluate("[...insitu.panel().model.data.spanTime, ...insitu.panel().model.data.spanDuration]")
    assert found == [0, 3 * day + 7, day + 1, 123_456_789]
    page.mouse.click(*place(page, "t1s0", (3 * day + 7) / MS))
    assert facts(page)["start"] == "259200.000 000 007 s"
    assert facts(page)["duration"] == "123.456789 ms"


def _states(writer: SessionWriter, switches: list[tuple[int, int, int, int, int]]) -> None:
    """Add the states of threads by switches (ms, CPU, thread that leaves, its state, thread that comes)."""
    ts_ms, cpu, prev, state, following = np.array(switches, np.int64).T
    narrow = [each.astype(np.int32) for each in (cpu, prev, following)]
    nobody = np.zeros(0, np.int32)
    found = Switches(START + ts_ms * MS, narrow[0], narrow[1], state, narrow[2])
    write_thread_states(
        writer, thread_states(found, Wakings(nobody.astype(np.int64), nobody, nobody), start_ns=START)
    )


def test_a_guests_cpu_and_the_hosts_thread_that_runs_it_lead_to_each_other(tmp_path: Path, open_page: Open) -> None:
    path = tmp_path / "run.insitu"
    create(path, Manifest.here(procfs, start_ns=START), procfs)
    with SessionWriter.on_disk(path) as writer:
        vcpu = writer.processes.thread(31, writer.processes.process(30, exe="/usr/bin/qemu"), name="CPU 0/KVM")
        writer.append(VIRTUAL_CPU, {"cpu": [1], "machine": [1], "utid": [vcpu]})
        _states(writer, [(0, 0, 0, 0, 31), (60, 0, 31, 1, 0)])
        writer.begin_machine("vm", kernel="6.12", first_cpu=1, cpus=1, events="vm.")
        writer.processes.thread(7, writer.processes.process(7), name="init")
        _states(writer, [(10, 1, 0, 0, 7), (50, 1, 7, 1, 0)])
        writer.finish(end_ns=START + 100 * MS)
    with Session(path) as opened:
        page = open_page(timeline_html(timeline(opened, title="x")))
    hints = dict(page.evaluate("insitu.panel().tracks.map(({name, hint}) => [name, hint])"))
    assert hints["vm: CPU 0"] == "run by CPU 0/KVM 31"
    assert hints["CPU 0/KVM 31"] == "runs vm: CPU 0"
    assert hints["CPU 0"] == hints["vm: init 7"] == ""
    assert list(table(page, "Threads")) == ["CPU 0/KVM 31 · runs vm: CPU 0", "vm: init 7"]
    # By the track's name to the thread, and what it did then.
    _, y = place(page, track(page, "vm: CPU 0"), 30)
    page.mouse.move(60, y)
    expect(page.locator(".tooltip")).to_contain_text("run by CPU 0/KVM 31")
    page.mouse.click(60, y)
    expect(page.locator("aside h2")).to_have_text("running")
    assert facts(page)["thread"] == "CPU 0/KVM 31"
    assert facts(page)["duration"] == "60 ms"
    # From there to what the guest's CPU ran, and back.
    page.locator("aside .facts").get_by_role("button", name="vm: CPU 0").click()
    assert facts(page)["thread"] == "vm: init 7"
    assert (facts(page)["CPU"], facts(page)["CPU run by"]) == ("vm: 0", "CPU 0/KVM 31")
    page.locator("aside .facts").get_by_role("button", name="CPU 0/KVM 31").click()
    assert facts(page)["thread"] == "CPU 0/KVM 31"


def test_a_range_of_the_recording_begins_at_its_own_time(tmp_path: Path, open_page: Open) -> None:
    with Session(session(tmp_path / "run.insitu")) as opened:
        page = open_page(timeline_html(timeline(opened, title="x", seconds=(0.02, 0.06))))
    assert shown(page) == (0, 40)
    threads = table(page, "Threads")
    assert threads["main 100"] == [NONE, "20 ms · 50.00 %", "20 ms · 50.00 %", NONE]


def test_the_page_of_a_server_asks_it_for_the_data(browser: Browser, tmp_path: Path) -> None:
    with Session(session(tmp_path / "run.insitu")) as opened:
        data = packed(*timeline(opened, title="served"))
    answers: dict[str, Any] = {"data": lambda _: ("application/octet-stream", data)}
    with contextlib.closing(PageServer(0, timeline_shell("served").encode(), answers)) as server:
        page = browser.new_page()
        page.goto(server.address)
        page.evaluate("insitu.ready")
        expect(page.locator("h1")).to_have_text("served")
        expect(page.locator("aside")).to_contain_text("busy 200")
        assert page.goto(re.sub(r"/[^/]+/$", "/wrong/data", server.address)).status == 404  # type: ignore[union-attr]
        page.close()
