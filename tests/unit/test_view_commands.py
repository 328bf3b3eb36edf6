"""report, callgraph, diff and export as users run them, on a file of folded stacks."""

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys

import pytest

from .sessions import waits_session

_FOLDED = "prog;main;parse 30\nprog;main;work;inner 60\nprog;main;work 10\n"


def _insitu(*words, **options):
    options = {"capture_output": True, "text": True, "timeout": 60} | options
    return subprocess.run([sys.executable, "-m", "insitu", *map(str, words)], **options)


@pytest.fixture
def folded(tmp_path):
    path = tmp_path / "run.folded"
    path.write_text(_FOLDED)
    return path


def test_report_prints_tables_that_awk_can_read(folded):
    done = _insitu("report", folded)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.split("# threads")[0].splitlines() if not line.startswith("#")]
    assert ["60.00", "60", "60.00", "60", "-", "inner"] in rows


def test_the_first_and_the_last_millisecond_of_a_recording_are_ranges(tmp_path):
    run = waits_session(tmp_path / "waits.insitu")  # ten waits of 10 ms, 250 ms apart
    done = _insitu("flame", run, "-o", tmp_path / "x.html", "--range", "2.9-3")
    assert (done.returncode, done.stderr) == (1, "insitu: no events in seconds 2.9-3 (all are in 0-2.251)\n")
    for part in ("0-0.001", "2.250-2.251", "0-2.251"):
        done = _insitu("flame", run, "-o", tmp_path / "x.html", "--range", part)
        assert (done.returncode, done.stderr) == (0, ""), part


def test_reports_graphs_and_exports_take_a_range(tmp_path):
    run = waits_session(tmp_path / "waits.insitu")  # ten waits of 10 ms, 250 ms apart, of 4 s in all
    report = json.loads(_insitu("report", run, "--json", "--range", "0.5-1.5").stdout)
    assert (report["samples"], report["total"], report["duration_ns"]) == (4, 40_000_000, 1_000_000_000)
    late = json.loads(_insitu("report", run, "--json", "--range", "2-9").stdout)
    assert (late["samples"], late["duration_ns"]) == (2, 1_000_000_000)
    folded = _insitu("export", run, "--format", "folded", "--range", "0.5-1.5").stdout
    assert folded == _insitu("report", run, "--folded", "--range", "0.5-1.5").stdout
    assert sum(int(line.rpartition(" ")[2]) for line in folded.splitlines()) == 40_000_000
    assert "4 events" in _insitu("callgraph", run, "--range", "0.5-1.5").stdout
    for words in (["report"], ["callgraph"], ["export", "--format", "folded"]):
        done = _insitu(*words, run, "--range", "2.9-3")
        assert (done.returncode, done.stderr) == (1, "insitu: no events in seconds 2.9-3 (all are in 0-2.251)\n")
    done = _insitu("export", run, "--format", "perfetto", "-o", tmp_path / "x.pftrace", "--range", "0-1")
    assert done.returncode == 2 and "nothing can be selected" in done.stderr


def test_report_folded_gives_the_file_back(folded):
    done = _insitu("report", "--folded", folded)
    assert sorted(done.stdout.splitlines()) == sorted(_FOLDED.splitlines())


def test_report_json_is_one_document(folded):
    assert json.loads(_insitu("report", "--json", folded).stdout)["total"] == 100


def test_a_reader_that_has_seen_enough_is_not_an_error(tmp_path):
    path = tmp_path / "long.folded"
    path.write_text("".join(f"p;main;function_number_{at} 1\n" for at in range(50_000)))
    for words in (["--folded"], ["--limit", "0", "--no-tree"], ["--json", "--limit", "0"]):
        first = subprocess.Popen(
            [sys.executable, "-m", "insitu", "report", path, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert first.stdout.readline()
        first.stdout.close()
        assert first.stderr.read() == b""
        assert first.wait(60) == 141  # as a shell shows SIGPIPE


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_gets_colours_and_lines_that_fit(folded, columns):
    ours, theirs = os.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    with os.fdopen(ours, "rb", 0) as terminal:
        child = subprocess.Popen([sys.executable, "-m", "insitu", "report", folded], stdout=theirs, env=environment)
        os.close(theirs)
        shown = b""
        try:
            while part := terminal.read(65536):
                shown += part
        except OSError:  # EIO: the child has closed its end
            pass
        assert child.wait(60) == 0
    assert b"\x1b[" in shown and b"inner" in shown


def test_callgraph_writes_dot_to_a_pipe_and_by_suffix(folded, tmp_path):
    dot = _insitu("callgraph", folded).stdout
    assert dot.startswith("digraph") and '"inner' in dot
    assert _insitu("callgraph", folded, "-o", tmp_path / "x.dot").returncode == 0
    assert (tmp_path / "x.dot").read_text() == dot
    refused = _insitu("callgraph", folded, "-o", tmp_path / "x.png")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_diff_names_what_grew(folded, tmp_path):
    after = tmp_path / "after.folded"
    after.write_text(_FOLDED.replace("parse 30", "parse 900"))
    done = _insitu("diff", folded, after)
    table = [line.split() for line in done.stdout.splitlines() if not line.startswith("#")]
    assert [*table[1][:5], table[1][-1]] == ["30.00", "92.78", "+62.78", "3.09", "*", "parse"]
    lines = _insitu("diff", "--folded", "--no-normalise", folded, after).stdout.splitlines()
    assert "prog;main;parse 30 900" in lines


def test_export_takes_the_format_from_the_name(folded, tmp_path):
    for name in ("x.folded", "x.speedscope.json", "x.pb.gz", "x.dot"):
        assert _insitu("export", folded, "-o", tmp_path / name).returncode == 0
    assert json.loads((tmp_path / "x.speedscope.json").read_text())["shared"]["frames"]
    assert b"parse" in gzip.decompress((tmp_path / "x.pb.gz").read_bytes())
    assert (tmp_path / "x.dot").read_text().startswith("digraph")
    assert sorted((tmp_path / "x.folded").read_text().splitlines()) == sorted(_FOLDED.splitlines())
    refused = _insitu("export", folded, "-o", tmp_path / "x.unknown")
    assert refused.returncode == 2 and "--format" in refused.stderr


@pytest.mark.parametrize("words", [("export", "--format", "folded"), ("callgraph",), ("flame",)])
def test_a_dash_is_standard_output(folded, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert len(_insitu(*words, folded, "-o", "-").stdout.splitlines()) > 1
    assert sorted(tmp_path.iterdir()) == before


def test_export_of_a_session_without_what_the_format_needs_says_what_is_missing(folded, tmp_path):
    session = tmp_path / "trace.insitu"
    assert _insitu("import", folded, "-o", session).returncode == 0
    for table in ("sample", "stack"):
        shutil.rmtree(session / "tables" / table)
    for name in ("x.folded", "x.json", "x.pb.gz", "x.dot"):
        refused = _insitu("export", session, "-o", tmp_path / name)
        assert refused.returncode == 1 and "missing: stack" in refused.stderr, refused.stderr
        assert refused.stderr.count("\n") == 1 and not (tmp_path / name).exists()


def test_export_of_a_recording_without_samples_is_refused(tmp_path):
    (tmp_path / "x.folded").write_text("a;main 0\n")
    refused = _insitu("export", tmp_path / "x.folded", "-o", tmp_path / "x.json")
    assert refused.returncode == 1 and "no samples to export" in refused.stderr
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("options", "words"), [([], "line 2"), (["--skip-bad-lines"], "1 bad line was left out (line 2: no count")]
)
def test_import_says_which_lines_are_bad(tmp_path, options, words):
    (tmp_path / "x.folded").write_text("a;main 3\nhello\na;main;f 2\n")
    done = _insitu("import", *options, tmp_path / "x.folded", "-o", tmp_path / "x.insitu")
    assert words in done.stderr
    assert done.returncode == (0 if options else 1)


def test_help_of_import_and_export_lists_every_format():
    from insitu.convert.formats.registry import EXPORTERS, IMPORTERS

    for command, formats in (("import", IMPORTERS), ("export", EXPORTERS)):
        text = _insitu(command, "--help").stdout
        assert all(form.name in text and form.title in text for form in formats)


def test_pprof_goes_to_a_pipe_but_not_to_a_terminal(folded):
    piped = _insitu("export", folded, "--format", "pprof", text=False)
    assert b"parse" in gzip.decompress(piped.stdout)
    ours, theirs = os.openpty()
    try:
        refused = _insitu(
            "export", folded, "--format", "pprof", capture_output=False, stdout=theirs, stderr=subprocess.PIPE
        )
    finally:
        os.close(theirs)
        os.close(ours)
    assert refused.returncode == 2 and "binary" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["report", "BAD"],
        ["report", "MISSING"],
        ["report", "GOOD", "--comm", "nginx"],
        ["report", "GOOD", "--event", "cycles"],
        ["callgraph", "EMPTY"],
        ["diff", "GOOD", "BAD"],
        ["diff", "GOOD", "GOOD", "--by-time"],
        ["export", "GOOD"],
    ],
)
def test_every_failure_is_one_line_without_a_traceback(tmp_path, folded, words):
    (tmp_path / "bad.folded").write_text("a;b 1\nno count here\n")
    (tmp_path / "empty.folded").write_text("")
    paths = {
        "GOOD": folded,
        "BAD": tmp_path / "bad.folded",
        "EMPTY": tmp_path / "empty.folded",
        "MISSING": "/nowhere",
    }
    done = _insitu(*[paths.get(word, word) for word in words])
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("insitu: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["flame"], "x.html"),
        (["callgraph"], "x.svg"),
        (["callgraph"], "x.dot"),
        (["export"], "x.folded"),
        (["export"], "x.speedscope.json"),
        (["export"], "x.pb.gz"),
        (["import"], "x.insitu"),
        (["diff"], "x.html"),
    ],
)
@pytest.mark.parametrize("older", [b"", b"kept"])
def test_what_cannot_be_written_whole_is_not_written_at_all(folded, tmp_path, words, name, older):
    """The limit on the size of files stands for a full disk: write(2) fails half-way."""
    folded.write_text("".join(f"prog;main;{'f' * 200}{at} 1\n" for at in range(20)))
    directory = tmp_path / "out"
    directory.mkdir()
    output = directory / name
    if older and words != ["import"]:
        output.write_bytes(older)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    paths = [folded, folded] if words == ["diff"] else [folded]
    limit = (10, 10)
    done = _insitu(*words, *paths, "-o", output, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert done.returncode == 1
    assert done.stderr.startswith("insitu: ") and done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def test_a_page_replaces_the_older_one_and_keeps_its_permissions_and_its_links(folded, tmp_path):
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    page.write_text("older")
    page.chmod(0o640)
    link.symlink_to(page)
    assert _insitu("flame", folded, "-o", link).returncode == 0
    assert link.is_symlink() and page.stat().st_mode & 0o777 == 0o640
    assert page.read_text().startswith("<!doctype html>")


def test_a_new_page_has_the_permissions_of_any_new_file(folded, tmp_path):
    _insitu("flame", folded, "-o", tmp_path / "page.html", umask=0o027)
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o640


def test_an_import_in_the_way_of_something_else_is_refused(folded, tmp_path):
    (tmp_path / "mine").write_text("precious")
    done = _insitu("import", folded, "-o", tmp_path / "mine")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert (tmp_path / "mine").read_text() == "precious"


def test_standard_input_is_named_in_complaints(tmp_path):
    done = _insitu("import", "-", "-o", tmp_path / "x.insitu", input="")
    assert done.returncode == 1
    assert done.stderr == "insitu: standard input: empty file (insitu import --help lists what can be read)\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at", [1, 2, 3])
def test_options_may_stand_anywhere(folded, at):
    words = ["sql", str(folded), "select sum(weight) n from sample"]
    done = _insitu(*words[:at], "--format", "csv", *words[at:])
    assert (done.stdout.split(), done.stderr) == (["n", "100"], "")
