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
    sampler = ScriptedSampler({10: "leaf<b>", 20: "main"})
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
