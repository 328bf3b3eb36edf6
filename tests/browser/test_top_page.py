"""The live page of `insitu top --web`, with ticks made by hand; and what its server refuses."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.unit.top_ticks import ScriptedSampler, process, tick

from insitu.record.top.tick import Sample
from insitu.views.top.web import TopServer

Served = tuple[TopServer, ScriptedSampler]


@pytest.fixture
def served() -> Iterator[Served]:
    sampler = ScriptedSampler({10: "leaf<b>", 20: "main", 30: "other", 40: "gamma", 50: "do_nanosleep"})
    server = TopServer(0, title="insitu top: <i>x</i>", sampler=sampler)
    yield server, sampler
    server.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The page, which asks for nothing but its own server, and logs no error."""
    complaints: list[str] = []

    def asked_for(url: str) -> None:
        if not url.startswith((served[0].address, "data:,")):
            complaints.append(f"asked for {url}")

    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(120_000)
    page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked_for(request.url))
    page.goto(served[0].address)
    yield page
    page.close()
    assert not complaints


def names(page: Page) -> list[str]:
    return page.locator(".processes tbody tr td.name").all_text_contents()


def rows(cpu: float = 0.9) -> list[object]:
    return [
        process(1, "alpha", cpu=cpu, rss_bytes=1 << 20),
        process(2, "<img src=x onerror=alert(1)>", cpu=0.2, rss_bytes=3 << 20),
        process(3, "gamma", cpu=0.4, calls=2e6),
    ]


def test_a_tick_appears_as_it_comes_and_names_are_text(page: Page, served: Served) -> None:
    expect(page.locator(".status")).to_contain_text("the first tick")
    served[1].give(tick(1, rows(), on_cpu={Sample(1, 1, (), (10, 20)): 3, Sample(3, 3, (), (20,)): 1}))
    expect(page.locator(".status")).to_contain_text("live")
    assert names(page) == ["alpha", "gamma", "<img src=x onerror=alert(1)>"]
    expect(page.locator(".own")).to_have_text("own CPU 1.2 %")
    expect(page.locator(".figures")).to_contain_text("cpu 12.5 %")
    assert page.locator(".functions tbody tr").all_text_contents() == ["75.0leaf<b>prog", "25.0mainprog"]
    served[1].give(tick(2, rows(0.0)))
    expect(page.locator(".processes tbody tr td.name").first).to_have_text("gamma")


def test_titles_sort_and_the_field_filters(page: Page, served: Served) -> None:
    served[1].give(tick(1, rows()))
    page.locator(".processes th", has_text="RSS").click()
    assert names(page)[0].startswith("<img")
    page.locator(".processes th", has_text="PID").click()
    assert names(page)[0] == "alpha"
    page.keyboard.press("/")
    page.keyboard.type("GAM")
    assert names(page) == ["gamma"]


def test_one_can_freeze_and_go_back_in_time(page: Page, served: Served) -> None:
    for number in (1, 2, 3):
        served[1].give(tick(number, [process(number, f"name{number}")]))
    expect(page.locator("td.name")).to_have_text("name3")
    page.keyboard.press("Space")
    served[1].give(tick(4, [process(4, "name4")]))
    expect(page.locator(".status")).to_contain_text("frozen · 2 s ago")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("td.name")).to_have_text("name1")
    page.keyboard.press("Space")
    expect(page.locator("td.name")).to_have_text("name4")


def cells(page: Page, table: str) -> list[list[str]]:
    """The texts of a table's rows, a list for each."""
    rows = page.locator(f".look .{table} tbody tr")
    expect(rows).not_to_have_count(0)
    return [row.locator("td").all_text_contents() for row in rows.all()]


def test_a_process_leads_to_its_threads_functions_and_stacks_and_back(page: Page, served: Served) -> None:
    threads = [process(1, "alpha", cpu=0.2)._replace(parent=1), process(9, "<b>worker", cpu=0.7)._replace(parent=1)]
    given = {
        "threads": threads,
        "on_cpu": {
            Sample(1, 9, (), (10, 20)): 6,
            Sample(1, 1, (), (30, 20)): 2,
            Sample(3, 3, (), (40,)): 4,
        },
        "off_cpu": {Sample(1, 9, (), (50, 20)): 1_500_000_000},
    }
    served[1].give(tick(1, rows(), **given))
    page.locator(".processes tr", has_text="alpha").click()
    expect(page.locator(".path h2")).to_have_text("alpha (1) > all threads")
    assert served[1].looked == 1
    assert [row[::4] for row in cells(page, "threads")] == [["", "all threads"], ["9", "<b>worker"], ["1", "alpha"]]
    found = {name: shares for *shares, name, _ in cells(page, "functions")}
    assert found == {"leaf<b>": ["75.0", "75.0"], "other": ["25.0", "25.0"], "main": ["0.0", "100.0"]}

    page.locator(".threads tr", has_text="worker").click()
    expect(page.locator(".path h2")).to_have_text("alpha (1) > <b>worker (9)")
    assert [row[2] for row in cells(page, "functions")] == ["leaf<b>", "main"]
    page.locator(".threads tr", has_text="all threads").press("Enter")
    page.locator(".look .functions tr", has_text="other").click()
    expect(page.locator(".path h2")).to_have_text("alpha (1) > all threads > other")
    expect(page.locator(".stack")).to_have_count(1)
    expect(page.locator(".stack")).to_contain_text("25.0 % 2 samples")
    assert page.locator(".stack li").all_text_contents() == ["otherprog", "mainprog"]

    page.get_by_role("button", name="off CPU").click()
    expect(page.locator(".stack")).to_contain_text("100.0 % 1.5 s")
    assert page.locator(".stack li").first.text_content() == "do_nanosleepprog"
    served[1].give(tick(2, rows(), **given))  # what is shown follows the ticks
    expect(page.locator(".stack")).to_contain_text("100.0 % 3.0 s")
    with page.expect_response("**/look?pid=0"):
        page.keyboard.press("Escape")
    expect(page.locator(".processes")).to_be_visible()
    assert served[1].looked == 0


def test_a_function_of_the_machine_leads_to_its_stacks_of_all_processes(page: Page, served: Served) -> None:
    served[1].give(tick(1, rows(), on_cpu={Sample(1, 1, (), (10, 20)): 3, Sample(3, 3, (), (10,)): 1}))
    page.locator(".functions tr", has_text="leaf<b>").first.click()
    expect(page.locator(".path h2")).to_have_text("whole machine > leaf<b>")
    expect(page.locator(".stack")).to_have_count(2)
    expect(page.locator(".look .threads")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator(".path h2")).to_have_text("whole machine")
    page.keyboard.press("Escape")
    expect(page.locator(".processes")).to_be_visible()


def test_threads_and_stacks_are_those_of_the_tick_that_is_shown(page: Page, served: Served) -> None:
    for number, address in ((1, 10), (2, 30)):
        late = tick(number, rows(), on_cpu={Sample(1, 1, (), (address,)): 1})
        served[1].give(late._replace(time_ns=late.time_ns + number * 10**11))
    page.locator(".processes tr", has_text="alpha").click()
    assert [row[2] for row in cells(page, "functions")] == ["other"]
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".look .functions tbody")).to_contain_text("leaf<b>")
    assert [row[2] for row in cells(page, "functions")] == ["leaf<b>"]


def test_the_page_says_when_its_server_has_ended(browser: Browser, served: Served) -> None:
    page = browser.new_page()
    page.goto(served[0].address)
    served[1].give(tick(1, rows()))
    expect(page.locator(".status")).to_contain_text("live", timeout=120_000)
    served[0].close()
    expect(page.locator(".status")).to_contain_text("has ended", timeout=120_000)
    assert names(page)[0] == "alpha"
    page.close()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("{token}/", {}, 200),
        ("{token}/", {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}, 200),
        ("{token}/", {"Host": "attacker.example:{port}"}, 403),
        ("{token}/", {"Host": "127.0.0.1"}, 403),
        ("{token}/", {"Origin": "http://attacker.example"}, 403),
        ("{token}/", {"Origin": "null"}, 403),
        ("", {}, 404),
        ("wrong/ticks?after=0", {}, 404),
        ("{token}x/", {}, 404),
        ("{token}/other", {}, 404),
        ("{token}/ticks?after=-1", {}, 404),
        ("{token}/ticks?after=0", {}, 200),
        ("{token}/look?pid=-1", {}, 404),
        ("{token}/look?pid=1&tid=2&at=3&a=1&b=1&c=1&d=1&e=1&f=1", {}, 404),
        ("wrong/look?pid=1", {}, 404),
    ],
)
def test_only_its_own_page_with_the_token_is_served(
    served: Served, path: str, headers: dict[str, str], status: int
) -> None:
    served[1].give(tick(1, rows()))
    address = urlsplit(served[0].address)
    known = {"token": address.path.strip("/"), "port": str(address.port)}
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
    connection.request("GET", "/" + path.format(**known), headers={k: v.format(**known) for k, v in headers.items()})
    response = connection.getresponse()
    body = response.read().decode()
    assert response.status == status
    assert ("alpha" in body or "<html" in body) == (status == 200)
    assert response.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "Access-Control-Allow-Origin" not in response.headers
    connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "HEAD"])
def test_other_methods_are_refused(served: Served, method: str) -> None:
    address = urlsplit(served[0].address)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
    connection.request(method, address.path)
    assert connection.getresponse().status == 501
    connection.close()


def test_it_listens_on_the_loopback_interface_alone(served: Served) -> None:
    port = urlsplit(served[0].address).port
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    assert [line[1] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"] == [
        f"0100007F:{port:04X}"
    ]
