"""The flame graph page, driven as a user drives it; expected numbers are counted from the samples themselves."""

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from insitu.session.weighted_stacks import WeightedStacks
from insitu.symbols.frame import KERNEL, Frame
from insitu.views.call_tree import call_tree
from insitu.views.diff import diff_stacks
from insitu.views.flamegraph import diff_flame_html, flame_html
from insitu.views.page import page_title
from insitu.views.report import build_report

StacksOf = Callable[..., WeightedStacks]
Open = Callable[..., Page]

NAMES = ["main", "parse", "parse_line", "alloc", "free", "read", "sort", "Sort::merge", "copy", "recurse"]


def some_samples(count: int, seed: int = 1) -> list[tuple[int, str, int, list[str]]]:
    chance = random.Random(seed)
    samples = []
    for at in range(count):
        tid = chance.choice([11, 11, 12, 13])
        inner = [NAMES[min(9, int(chance.expovariate(0.4)))] for _ in range(chance.randint(1, 7))]
        samples.append((at * 1_000_000, "server" if tid < 13 else "logger", tid, ["start", *inner]))
    return samples


def share(samples: list[Any], matching: Callable[[Any], bool]) -> str:
    return f"{100 * sum(map(matching, samples)) / len(samples):.2f} %"


def frame(page: Page, function: str, **where: object) -> dict[str, Any]:
    """The widest drawn frame of ``function``."""
    drawn = [f for f in page.evaluate("insitu.frames()") if f["function"] == function]
    drawn = [f for f in drawn if all(f[key] == value for key, value in where.items())]
    assert drawn, f"{function} is not drawn"
    return max(drawn, key=lambda f: f["width"])


def centre(drawn: dict[str, Any]) -> tuple[float, float]:
    return drawn["x"] + drawn["width"] / 2, drawn["y"] + drawn["height"] / 2


def details(page: Page) -> str:
    return page.locator(".details").inner_text()


def settle(page: Page) -> None:
    """Two animation frames: what was asked for is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.fixture(scope="module")
def samples() -> list[Any]:
    return some_samples(4000)


@pytest.fixture
def page(open_page: Open, stacks_of: StacksOf, samples: list[Any]) -> Page:
    return open_page(flame_html(stacks_of(samples), title="a test"))


@pytest.mark.parametrize("pattern", ["parse", "^parse$", "sort|merge", "Sort", "re.*se|alloc", "nothing"])
def test_the_matched_share_counts_each_sample_once(page: Page, samples: list[Any], pattern: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(pattern)
    flags = 0 if re.search("[A-Z]", pattern) else re.IGNORECASE
    expected = share(samples, lambda sample: any(re.search(pattern, name, flags) for name in sample[3]))
    expect(page.locator(".found")).to_contain_text(f"{expected} matched")


def test_the_matched_share_is_the_same_bottom_up(page: Page, samples: list[Any]) -> None:
    page.fill("input[type=search]", "alloc")
    page.keyboard.press("Enter")
    page.keyboard.press("r")
    expected = share(samples, lambda sample: "alloc" in sample[3])
    expect(page.locator(".found")).to_contain_text(f"{expected} matched")


def test_a_wrong_pattern_is_explained_and_nothing_else_happens(page: Page) -> None:
    before = page.evaluate("insitu.tallied()")
    page.fill("input[type=search]", "main(")
    expect(page.locator(".found")).to_have_class(re.compile("wrong"))
    expect(page.locator(".found")).to_contain_text("nterminated group")
    assert page.evaluate("insitu.tallied()") == before


def test_hovering_shows_exact_numbers(page: Page, samples: list[Any]) -> None:
    below_start = Counter(sample[3][1] for sample in samples)
    own = sum(len(sample[3]) == 2 and sample[3][1] == "parse" for sample in samples)
    page.mouse.move(*centre(frame(page, "parse", depth=2)))
    tip = page.locator(".tooltip").inner_text()
    total = below_start["parse"]
    assert f"{total:,} samples" in tip
    assert f"{100 * total / len(samples):.2f} %" in tip
    assert f"{own:,} samples" in tip


def template_name(chance: random.Random, depth: int = 4) -> str:
    """A C++ function as long as they come."""

    def instance(levels: int) -> str:
        word = f"{chance.choice(['Map', 'Pair', 'Allocator', 'Iterator'])}{chance.randrange(100)}"
        return f"ns::{word}<{', '.join(instance(levels - 1) for _ in range(3))}>" if levels else word

    return f"{instance(depth)}::method{chance.randrange(1000)}({instance(2)} const&)"


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (760, 700), (390, 800)])
def test_a_click_zooms_into_the_frame_that_hovering_named_and_hovering_moves_nothing(
    open_page: Open, stacks_of: StacksOf, width: int, height: int
) -> None:
    chance = random.Random(7)
    samples = [(i, "server", 1, [template_name(chance) for _ in range(chance.randint(3, 25))]) for i in range(30)]
    samples = [(i, *samples[min(i % 40, 29)][1:]) for i in range(400)]
    page = open_page(flame_html(stacks_of(samples), title="x"), viewport={"width": width, "height": height})
    graph = page.locator(".graph")
    before = (graph.bounding_box(), page.evaluate("insitu.frames()"), page.locator("footer").bounding_box())
    box = before[0]
    named_by_tooltip = 0
    for _ in range(25):
        x = box["x"] + chance.uniform(2, box["width"] - 12)
        y = box["y"] + chance.uniform(2, box["height"] - 2)
        page.mouse.move(x, y)
        settle(page)
        assert (graph.bounding_box(), page.evaluate("insitu.frames()")) == before[:2]
        tooltip, strip = page.locator(".tooltip"), page.locator(".details .name")
        named = [each.text_content() for each in (tooltip.locator("strong"), strip) if each.is_visible()]
        page.mouse.click(x, y)
        settle(page)
        assert page.locator("footer").bounding_box() == before[2]
        zoomed = page.locator(".crumbs [aria-current]").get_attribute("title")
        if zoomed == "all":
            continue  # there was no frame, or it was the root
        # It is said once: by the tooltip, or of the selected frame by the strip below the graph.
        assert named.count(zoomed) == 1
        named_by_tooltip += named[0] == zoomed
        page.evaluate("location.hash = ''")
        settle(page)
        assert page.evaluate("insitu.frames()") == before[1]
    assert named_by_tooltip > 10


def test_the_strip_below_the_graph_describes_the_selected_frame(page: Page, samples: list[Any]) -> None:
    page.mouse.move(*centre(frame(page, "parse", depth=2)))
    assert details(page) == "Hover for details, click to zoom"
    page.mouse.click(*centre(frame(page, "parse", depth=2)))
    settle(page)
    total = sum(sample[3][1] == "parse" for sample in samples)
    assert details(page).split("\n")[0].endswith("parse")
    assert f"{total:,} samples" in details(page)
    assert "/usr/bin/prog" in details(page)
    page.mouse.move(*centre(frame(page, "parse", depth=2)))
    expect(page.locator(".tooltip")).to_be_hidden()
    page.mouse.move(*centre(frame(page, "start")))
    expect(page.locator(".tooltip strong")).to_have_text("start")
    assert "start" not in details(page)


def test_on_a_touch_screen_a_tap_zooms_and_shows_the_figures(
    open_page: Open, stacks_of: StacksOf, samples: list[Any]
) -> None:
    options = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = open_page(flame_html(stacks_of(samples), title="x"), **options)
    assert details(page) == "Tap to zoom and for details"
    total = sum(sample[3][1] == "parse" for sample in samples)
    page.touchscreen.tap(*centre(frame(page, "parse", depth=2)))
    settle(page)
    assert page.evaluate("insitu.tallied()")["zoomed"] == total
    assert f"{total:,} samples" in details(page)
    expect(page.locator(".tooltip")).to_be_hidden()


def test_functions_and_figures_are_those_of_the_report(open_page: Open, stacks_of: StacksOf) -> None:
    """Addresses without a symbol and inlined copies are added up by one rule."""
    chance = random.Random(2)
    samples = []
    for i in range(600):
        stripped = Frame(f"libfoo.so+{chance.randrange(4096):#x}", "/lib/libfoo.so", symbolized=False)
        parse = Frame("parse", "/usr/bin/prog", inlined=chance.random() < 0.5)
        jit = Frame(f"{chance.randrange(1 << 40):#x}", symbolized=False)
        samples.append((i, "p", 1, ["main", *chance.choices([stripped, parse, jit, "sort"], [5, 4, 2, 4], k=4)]))
    samples += [(600, "p", 1, ["main", name]) for name in ("zeta", "alpha", "Beta")]
    stacks = stacks_of(samples)
    page = open_page(flame_html(stacks, title="x"))
    shown = [
        [cell.strip().split("\n")[0] for cell in row.locator("td").all_inner_texts()]
        for row in page.locator(".functions tbody tr").all()
    ]
    rows = build_report(stacks).functions
    assert rows[0].function == "[libfoo.so]"
    assert shown == [[r.function, f"{r.own / 6.03:.2f} %", f"{r.total / 6.03:.2f} %"] for r in rows]
    assert {f["function"] for f in page.evaluate("insitu.frames()")} == {"all", "main", *(r.function for r in rows)}
    page.locator(".functions tbody tr", has_text="parse").click()
    expect(page.locator(".functions tr.chosen")).to_have_count(1)
    page.fill("input[type=search]", "parse")
    expect(page.locator(".found")).to_contain_text("1 function")
    apart = open_page(flame_html(stacks, title="x", addresses=True))
    names = {f["function"] for f in apart.evaluate("insitu.frames()")}
    assert len([name for name in names if name.startswith("libfoo.so+0x")]) > 100


def test_a_difference_matches_functions_as_the_diff_does(open_page: Open, stacks_of: StacksOf) -> None:
    before, after = (
        stacks_of(
            [(0, "p", 1, [Frame("f", f"/{where}/prog"), Frame(f"prog+{at}", f"/{where}/prog", symbolized=False)])]
        )
        for where, at in (("old", "0x10"), ("new", "0x2c"))
    )
    page = open_page(diff_flame_html(call_tree(before), call_tree(after), title="x"))
    cells = [row.locator("td").all_inner_texts() for row in page.locator(".functions tbody tr").all()]
    assert [[cell.strip() for cell in row] for row in cells] == [
        ["[prog]", "100.00 %", "100.00 %", "±0.00 pp"],
        ["f", "0.00 %", "100.00 %", "±0.00 pp"],
    ]
    assert {(row.function, row.before, row.after) for row in diff_stacks(before, after).rows} == {
        ("[prog]", 100, 100)
    }


def test_breadcrumbs_and_table_have_short_names_that_tell_functions_apart(
    open_page: Open, stacks_of: StacksOf
) -> None:
    find = "ns::Table<{}, std::less<{}> >::find(int) const"
    path = ["main", find.format("Key", "Key"), find.format("Sum", "Sum"), "void ns::leaf<a, b>(int)"]
    page = open_page(flame_html(stacks_of([(0, "p", 1, path)]), title="x"))
    short = ["main", "ns::Table<Key, std::less<…> >::find", "ns::Table<Sum, std::less<…> >::find", "ns::leaf<…>"]
    assert {*page.locator(".functions tbody button").all_text_contents()} == {*short}
    page.mouse.click(*centre(frame(page, path[-1])))
    settle(page)
    assert page.locator(".crumbs button:not(.reset)").all_text_contents() == ["all", *short]


def test_of_a_name_that_does_not_fit_the_scope_is_cut(open_page: Open, stacks_of: StacksOf) -> None:
    name = "a_namespace_of_some_length::another_one_within_it::Klass<int, float>::the_function(int)"
    page = open_page(flame_html(stacks_of([(0, "p", 1, ["main", name])]), title="x"))
    page.mouse.click(*centre(frame(page, name)))
    settle(page)
    for where in (".functions tbody button", ".crumbs button"):
        parts = page.locator(where, has_text="the_function").locator(".scope, .own")
        assert parts.all_text_contents()[1] == "::the_function"
        assert parts.evaluate_all("parts => parts.map(e => e.scrollWidth > e.clientWidth)") == [True, False]


@pytest.mark.parametrize("width", [390, 700, 1400])
def test_the_strip_below_the_graph_has_room_for_the_figures(
    open_page: Open, stacks_of: StacksOf, samples: list[Any], width: int
) -> None:
    page = open_page(flame_html(stacks_of(samples), title="x"), viewport={"width": width, "height": 844})
    page.mouse.click(*centre(frame(page, "start")))
    settle(page)
    expect(page.locator(".details dl")).to_contain_text("of zoomed")
    strip = page.locator("footer").bounding_box()
    for part in (*page.locator(".details dl > div").all(), page.locator(".origin"), page.locator(".legend")):
        box = part.bounding_box()
        assert box["x"] + box["width"] <= width
        assert strip["y"] <= box["y"] <= box["y"] + box["height"] <= strip["y"] + strip["height"]
    assert page.locator(".more").evaluate("e => e.scrollHeight <= e.clientHeight + 1")


def test_clicking_zooms_and_the_browser_goes_back_and_forward(page: Page, samples: list[Any]) -> None:
    wide = frame(page, "parse", depth=2)
    page.mouse.click(*centre(wide))
    settle(page)
    zoomed = frame(page, "parse", depth=2)
    assert zoomed["width"] > 2 * wide["width"]
    assert frame(page, "start")["width"] == pytest.approx(zoomed["width"])
    expected = sum(sample[3][1] == "parse" for sample in samples)
    assert page.evaluate("insitu.tallied()")["zoomed"] == expected
    expect(page.locator(".crumbs [aria-current]")).to_have_text("parse")
    page.go_back()
    settle(page)
    assert frame(page, "parse", depth=2)["width"] == pytest.approx(wide["width"])
    page.go_forward()
    settle(page)
    assert frame(page, "parse", depth=2)["width"] == pytest.approx(zoomed["width"])
    page.get_by_role("button", name="Reset zoom").click()
    settle(page)
    assert page.evaluate("insitu.tallied()")["zoomed"] == len(samples)


def test_a_link_opens_the_same_view(open_page: Open, stacks_of: StacksOf, page: Page) -> None:
    page.mouse.click(*centre(frame(page, "parse", depth=2)))
    page.keyboard.press("i")
    address = page.evaluate("location.hash")
    other = open_page(flame_html(stacks_of(some_samples(4000)), title="a test"), hash=address)
    assert other.evaluate("insitu.tallied()") == page.evaluate("insitu.tallied()")
    assert frame(other, "start")["y"] < frame(other, "parse", depth=2)["y"]


def test_bottom_up_totals_are_self_counts(page: Page, samples: list[Any]) -> None:
    page.keyboard.press("r")
    settle(page)
    own = Counter(sample[3][-1] for sample in samples)
    drawn = {f["function"]: f["total"] for f in page.evaluate("insitu.frames()") if f["depth"] == 1}
    assert drawn == dict(own)
    callers = Counter(sample[3][-2] for sample in samples if sample[3][-1] == "alloc" and len(sample[3]) > 1)
    page.mouse.click(*centre(frame(page, "alloc", depth=1)))
    settle(page)
    drawn = {f["function"]: f["total"] for f in page.evaluate("insitu.frames()") if f["depth"] == 2}
    assert drawn == dict(callers)


def test_a_light_path_is_followed_bottom_up_once_it_is_zoomed(open_page: Open, stacks_of: StacksOf) -> None:
    # 1 sample of 50,000 is less than what is followed at once.
    heavy = [(0, "prog", 1, ["main", "busy"])] * 50_000
    page = open_page(flame_html(stacks_of([*heavy, (0, "prog", 1, ["main", "outer", "inner", "rare"])]), title="x"))
    page.keyboard.press("r")
    page.locator(".functions tbody tr", has_text="rare").wait_for()
    names = page.evaluate("insitu.frames()")
    assert {f["function"] for f in names} >= {"all", "busy"}
    rare = page.evaluate("insitu.nameNumber('rare')")
    page.evaluate(f"location.hash = 'reverse=1&zoom={rare}'")
    settle(page)
    assert [f["function"] for f in page.evaluate("insitu.frames()")] == ["all", "rare", "inner", "outer", "main"]


def test_a_thread_or_a_command_can_be_chosen(page: Page, samples: list[Any]) -> None:
    threads = page.get_by_label("Threads shown")
    threads.select_option("t:12")
    settle(page)
    assert page.evaluate("insitu.tallied()")["total"] == sum(sample[2] == 12 for sample in samples)
    threads.select_option("c:server")
    settle(page)
    assert page.evaluate("insitu.tallied()")["total"] == sum(sample[1] == "server" for sample in samples)
    threads.select_option("by-thread")
    settle(page)
    drawn = {f["function"]: f["total"] for f in page.evaluate("insitu.frames()") if f["depth"] == 1}
    assert drawn == dict(Counter(f"{comm}/{tid}" for _, comm, tid, _ in samples))
    page.keyboard.press("Escape")
    page.locator(".graph").focus()
    page.keyboard.press("r")
    settle(page)
    drawn = {f["function"]: f["total"] for f in page.evaluate("insitu.frames()") if f["depth"] == 1}
    assert drawn == dict(Counter(f"{comm}/{tid}" for _, comm, tid, _ in samples))
    own = Counter(sample[3][-1] for sample in samples)
    drawn = Counter()
    for f in page.evaluate("insitu.frames()"):
        if f["depth"] == 2:
            drawn[f["function"]] += f["total"]
    assert drawn == own


def test_the_function_table_counts_recursion_once(page: Page, samples: list[Any]) -> None:
    page.fill("input[type=search]", "^main$")
    row = page.locator(".functions tbody tr").first
    cells = [cell.strip() for cell in row.locator("td").all_inner_texts()]
    own = share(samples, lambda sample: sample[3][-1] == "main")
    total = share(samples, lambda sample: "main" in sample[3])
    assert cells[1:] == [own, total]


def test_everything_can_be_done_by_keyboard(page: Page, samples: list[Any]) -> None:
    heaviest = Counter(sample[3][1] for sample in samples).most_common(2)
    page.locator(".graph").focus()
    page.keyboard.press("ArrowUp")  # selects the root
    page.keyboard.press("ArrowUp")  # start
    page.keyboard.press("ArrowUp")
    assert heaviest[0][0] in details(page)
    page.keyboard.press("ArrowRight")
    assert heaviest[1][0] in details(page)
    spoken = page.locator(".spoken").inner_text()
    assert heaviest[1][0] in spoken
    assert f"{heaviest[1][1]:,} samples" in spoken
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("insitu.tallied()")["zoomed"] == heaviest[0][1]
    page.keyboard.press("Escape")
    page.wait_for_function(f"insitu.tallied().zoomed === {len(samples)}")
    page.keyboard.press("i")
    settle(page)
    assert frame(page, "all")["y"] < frame(page, "start")["y"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("Control+f")
    expect(page.locator("input[type=search]")).to_be_focused()


def test_the_look_follows_the_system_and_the_toggle(open_page: Open, stacks_of: StacksOf) -> None:
    html = flame_html(stacks_of(some_samples(50)), title="x")
    page = open_page(html, color_scheme="dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "<!--",
    "{{ 7*7 }} ${alert(4)} \\u003c \u202e\ud800",
    "std::vector<std::map<int, std::string> >::operator[](unsigned long) const",
]


def test_hostile_names_stay_text_everywhere(open_page: Open, stacks_of: StacksOf) -> None:
    evil = HOSTILE[0]
    samples = [(i, name, 10 + i, [Frame(name, name, name), name]) for i, name in enumerate(HOSTILE)] * 5
    profile = stacks_of(samples, losses={evil: 3})
    page = open_page(flame_html(profile, title=HOSTILE[1], subtitle=evil, notes=[HOSTILE[2]]))
    assert page.title() == HOSTILE[1]
    expect(page.locator("h1")).to_have_text(HOSTILE[1])
    expect(page.locator(".banner.loss")).to_contain_text(f"3 records lost by {evil}")
    assert {f["function"] for f in page.evaluate("insitu.frames()")} >= set(HOSTILE[:4])
    shown = frame(page, evil, depth=1)
    page.mouse.move(*centre(shown))
    expect(page.locator(".tooltip strong")).to_have_text(evil)
    page.mouse.click(*centre(shown))
    expect(page.locator(".details .name")).to_have_text(evil)
    expect(page.locator(".crumbs [aria-current]")).to_have_text("<script>alert<…>")
    expect(page.locator(".crumbs [aria-current]")).to_have_attribute("title", evil)
    page.get_by_label("Threads shown").select_option("by-thread")
    page.fill("input[type=search]", "<script>")
    assert (
        page.evaluate("document.querySelectorAll('script').length") == 1
    )  # the data block is gone, the page's own left
    assert page.evaluate("document.querySelectorAll('img').length") == 0


def test_characters_that_mislead_are_shown_escaped(open_page: Open, stacks_of: StacksOf) -> None:
    """Controls, NUL, lone surrogates, overrides of direction, ends of lines and of elements."""
    markup = "]]></title></script><img src=x onerror=alert(1)>"
    evil = f"a\0\x1b[31m\x9b\udc80\u202e\u2066\u200b\u2028\r\n\t{markup}"
    text = rf"a\x00\x1b[31m\x9b\udc80\u202e\u2066\u200b\u2028\r\n\t{markup}"
    stacks = stacks_of([(0, evil, 1, ["main", Frame(evil, evil, evil, 3)])] * 9, losses={evil: 3}, notes=(evil,))
    html = flame_html(stacks, title=evil, subtitle=evil)
    assert not {c for c in html if not (c.isprintable() or c == "\n")}
    page = open_page(html)
    assert page.title() == text
    expect(page.locator("h1")).to_have_text(text)
    expect(page.locator(".banner.loss")).to_contain_text(text)
    assert {each["function"] for each in page.evaluate("insitu.frames()")} >= {"main", text}
    expect(page.locator(".functions tbody button").first).to_have_attribute("title", text)
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 1


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("std::vector<int, std::allocator<int> >::operator[](unsigned long) const", "std::vector<…>::operator[]"),
        ("operator<<(std::ostream&, Foo<int> const&)", "operator<<"),
        (
            "<alloc::vec::Vec<T,A> as core::ops::drop::Drop>::drop",
            "<alloc::vec::Vec<…> as core::ops::drop::Drop>::drop",
        ),
        (
            "v8::internal::(anonymous namespace)::Invoke(v8::internal::Isolate*)",
            "v8::internal::(anonymous namespace)::Invoke",
        ),
        ("sort(bool (*)(int, int)) [clone .isra.0]", "sort"),
        ("JS:*render /srv/app.js:8:19", "JS:*render"),
        ("/usr/lib/libz.so.1+0x12ab", "libz.so.1+0x12ab"),
        ("a<b", "a<b"),
        ("[unknown]", "[unknown]"),
    ],
)
def test_where_room_is_short_a_name_keeps_what_tells(
    open_page: Open, stacks_of: StacksOf, name: str, plain: str
) -> None:
    frame = Frame(name, symbolized=not name.startswith(("/usr/lib/", "[unknown]")))
    page = open_page(flame_html(stacks_of([(0, "prog", 1, [frame])]), title="x", addresses=name != "[unknown]"))
    label = page.locator(".functions tbody button")
    expect(label).to_have_text(plain)
    expect(label).to_have_attribute("title", name)


@pytest.mark.parametrize("icicle", [False, True])
def test_a_stack_that_is_taller_than_the_window_says_so_at_its_end(
    open_page: Open, stacks_of: StacksOf, icicle: bool
) -> None:
    tall = [(0, "p", 1, [f"f{depth}" for depth in range(60)])]
    page = open_page(
        flame_html(stacks_of(tall), title="tall", icicle=icicle), viewport={"width": 1200, "height": 750}
    )
    settle(page)
    hint = page.locator(".beyond.below" if icicle else ".beyond.above")
    other = page.locator(".beyond.above" if icicle else ".beyond.below")
    rows, drawn = 61, len(page.evaluate("insitu.frames()"))  # the root has a row, too
    expect(hint).to_be_visible()
    hidden = int(re.sub(r"\D", "", hint.inner_text()))
    assert rows - drawn <= hidden <= rows - drawn + 1  # a row may be cut in two
    expect(other).to_be_hidden()
    page.locator(".graph").evaluate("(graph, top) => graph.scrollTo(0, top)", 100_000 if icicle else 0)
    expect(hint).to_be_hidden()
    expect(other).to_be_visible()
    assert "f59" in [each["function"] for each in page.evaluate("insitu.frames()")]
    low = open_page(flame_html(stacks_of([(0, "p", 1, ["f"])]), title="low"), viewport={"width": 1200, "height": 750})
    settle(low)
    expect(low.locator(".beyond")).to_have_count(2)
    for each in low.locator(".beyond").all():
        expect(each).to_be_hidden()


def test_losses_are_said_and_their_absence_is_silent(open_page: Open, stacks_of: StacksOf) -> None:
    samples = some_samples(20)
    expect(open_page(flame_html(stacks_of(samples), title="x")).locator(".banner")).to_have_count(0)
    lossy = stacks_of(samples, losses={"ring buffer": 1234})
    page = open_page(flame_html(lossy, title="x"))
    expect(page.locator(".banner.loss")).to_contain_text("1,234 records lost by ring buffer")


def test_kinds_of_frames_have_colours_of_their_own_and_a_legend(open_page: Open, stacks_of: StacksOf) -> None:
    stack = [
        "main",
        Frame("do_syscall_64", "[kernel.kallsyms]", kind=KERNEL),
        Frame("libx.so+0x12", "/lib/libx.so", symbolized=False),
    ]
    page = open_page(flame_html(stacks_of([(0, "prog", 1, stack)]), title="x"))
    assert page.locator(".legend span").all_inner_texts() == ["user", "kernel", "unknown"]
    page.get_by_role("button", name="Module").click()
    assert set(page.locator(".legend span").all_inner_texts()) == {"prog", "[kernel.kallsyms]", "libx.so"}


def test_no_samples_give_an_empty_page_and_no_error(open_page: Open, stacks_of: StacksOf) -> None:
    page = open_page(flame_html(stacks_of([]), title="nothing"))
    expect(page.locator(".empty")).to_have_text("No samples")
    assert details(page) == ""
    assert page.evaluate("insitu.tallied()")["total"] == 0
    page.keyboard.press("r")
    page.keyboard.press("i")


def test_a_difference_shows_both_sides_and_the_change(open_page: Open, stacks_of: StacksOf) -> None:
    before = [(0, "p", 1, ["main", "a"])] * 60 + [(0, "p", 1, ["main", "gone"])] * 40
    after = [(0, "p", 1, ["main", "a"])] * 150 + [(0, "p", 1, ["main", "new"])] * 50
    page = open_page(diff_flame_html(call_tree(stacks_of(before)), call_tree(stacks_of(after)), title="x"))
    page.mouse.move(*centre(frame(page, "a")))
    tip = page.locator(".tooltip").inner_text()
    assert "60.00 %" in tip
    assert "60 samples" in tip
    assert "75.00 %" in tip
    assert "150 samples" in tip
    assert "+15.00 pp" in tip
    assert "gone" not in {f["function"] for f in page.evaluate("insitu.frames()")}
    page.get_by_role("button", name="Before", exact=True).click()
    settle(page)
    drawn = {f["function"] for f in page.evaluate("insitu.frames()")}
    assert "gone" in drawn
    assert "new" not in drawn
    page.mouse.move(*centre(frame(page, "gone")))
    assert "\N{MINUS SIGN}40.00 pp" in page.locator(".tooltip").inner_text()


def test_two_hundred_thousand_stacks_load_and_respond(open_page: Open, stacks_of: StacksOf) -> None:
    chance = random.Random(3)
    samples = []
    for i in range(200_000):
        a, b = chance.randrange(300), chance.randrange(40)
        samples.append((i, "prog", 1, ["main", f"f{a}", f"g{b}", f"leaf{i % 20_000}"]))
    page = open_page(flame_html(stacks_of(samples), title="large"))
    distinct = len({(s[3][1], s[3][2], s[3][3]) for s in samples})
    assert page.evaluate("insitu.tallied()") == {
        "total": 200_000,
        "zoomed": 200_000,
        "nodes": 1 + 1 + 300 + 300 * 40 + distinct,
    }
    page.fill("input[type=search]", "^leaf1$")
    expect(page.locator(".found")).to_contain_text("0.01 % matched")  # 10 of 200,000
    page.locator(".graph").focus()
    page.keyboard.press("r")
    page.mouse.move(700, 500)
    page.keyboard.press("i")
    settle(page)
    assert frame(page, "all")["total"] == 200_000


@pytest.mark.parametrize(("width", "rows"), [(1400, 1), (1280, 1), (1200, 2), (1000, 2)])
def test_no_control_is_alone_in_a_row_of_the_toolbar(
    open_page: Open, stacks_of: StacksOf, samples: list[Any], width: int, rows: int
) -> None:
    page = open_page(flame_html(stacks_of(samples), title="a test"), viewport={"width": width, "height": 800})
    tops = page.evaluate("[...document.querySelector('.toolbar').children].map(e => Math.round(e.offsetTop / 20))")
    count = Counter(tops)
    assert len(count) <= rows and min(count.values()) > 1


ITERATOR = "__gnu_cxx::__normal_iterator<int*, std::vector<int, std::allocator<int> > >"


def test_the_tooltip_is_bounded_beside_its_row_and_gone_when_the_graph_changes(
    open_page: Open, stacks_of: StacksOf
) -> None:
    name = f"std::sort<{', '.join([ITERATOR] * 6)}>"
    page = open_page(flame_html(stacks_of([(0, "p", 1, ["main", name]), (1, "p", 1, ["main"])]), title="x"))
    found = next(each for each in page.evaluate("insitu.frames()") if each["function"] == name)
    for down in (1, found["height"] - 1):
        page.mouse.move(found["x"] + 20, found["y"] + down)
        box = page.locator(".tooltip").bounding_box()
        assert box["width"] <= 400
        assert box["y"] >= found["y"] + found["height"] or box["y"] + box["height"] <= found["y"]
    page.keyboard.press("r")
    settle(page)
    expect(page.locator(".tooltip")).to_be_hidden()


def test_names_of_the_table_keep_operators_and_both_brackets(open_page: Open, stacks_of: StacksOf) -> None:
    names = [f"{ITERATOR}::operator{sign}" for sign in ("++", "--")]
    page = open_page(
        flame_html(stacks_of([(at, "p", 1, ["main", name]) for at, name in enumerate(names)]), title="x")
    )
    for sign in ("++", "--"):
        row = page.locator(".functions .name", has_text=f"operator{sign}")
        ends = row.evaluate(
            """button => {
              const of = (each) => each.getBoundingClientRect();
              const parts = [".own > :last-child", ".own", ".scope"];
              const [tail, own, scope] = parts.map((each) => button.querySelector(each));
              return [tail.textContent, tail.scrollWidth - tail.clientWidth, of(tail).right - of(button).right,
                of(own).top - of(button).top, of(scope).width, of(scope).top >= of(button).bottom - 1];
            }"""
        )
        tail, hidden, beyond, above, width, wrapped = ends
        assert tail == f"<…>::operator{sign}" and hidden <= 0 and beyond < 1 and abs(above) < 2
        assert wrapped or width > 25  # some letters, or nothing


def test_a_page_of_processes_is_titled_by_them(stacks_of: StacksOf) -> None:
    stacks = stacks_of([(0, "server", 41, ["main"])])
    assert page_title("/x/off.insitu", stacks) == "off.insitu"
    watched = replace(stacks, manifest=stacks.manifest.changed(command=[], pids=[41]))
    assert page_title("/x/off.insitu", watched) == "process 41 (server)"
