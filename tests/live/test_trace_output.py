"""What a run prints in text and JSON, where bpftrace 0.17 has no such output or newer versions print another form.

The expected lines are those of bpftrace's own tests of these versions, or follow from arithmetic.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.live.tracing import known_program, run_trace

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_BAR = "@" * 52
_SCRIPT = """
enum step { FIRST = 1 };
BEGIN {
    @st = stats(2); @st = stats(10);
    @keyed["a"] = stats(-3);
    @av[1] = avg(5);
    @lh = lhist(3, 0, 10, 1);
    @hi[7] = hist(1025);
    @big = 9007199254740993;
    @of[FIRST] = FIRST;
    @pair = (x=1, y="z");
    @none[1] = 1; delete(@none, 1);
    exit();
}
"""


def _json_lines(*words: str, env: dict[str, str] | None = None) -> list[dict[str, object]]:
    output = run_trace("-f", "json", *words, env=env).stdout
    return [json.loads(line) for line in output.splitlines() if line]


def test_the_newer_form_of_text_is_a_setting() -> None:
    shown = run_trace("-e", 'config = { output_version = "0.24" }' + _SCRIPT).stdout
    assert shown == (
        "\n\n"
        "@av[1]: 5\n"
        "@big: 9007199254740993\n"
        "@hi[7]:\n"
        f"{'[1K, 2K)':<16}{1:8} |{_BAR}|\n\n"
        "@keyed[a]: { .count = 1, .average = -3, .total = -3 }\n"
        "@lh:\n"
        f"{'[3]':<16}{1:8} |{_BAR}|\n\n"
        "@of[FIRST]: FIRST\n"
        "@pair: { .x = 1, .y = z }\n"
        "@st: { .count = 2, .average = 6, .total = 12 }\n"
    )


def test_the_newer_form_of_json_is_a_setting() -> None:
    """Numbers that a double cannot hold are text, enumerators in keys have names, and empty maps are left out."""
    shown = run_trace("-f", "json", "-e", _SCRIPT, env={"BPFTRACE_OUTPUT_VERSION": "0.24"}).stdout
    assert shown.splitlines() == [
        '{"type": "stats", "data": {"@av": {"1": 5}}}',
        '{"type": "map", "data": {"@big": "9007199254740993"}}',
        '{"type": "hist", "data": {"@hi": {"7": [{"min": 1024, "max": 2047, "count": 1}]}}}',
        '{"type": "stats", "data": {"@keyed": {"a": {"count": 1, "average": -3, "total": -3}}}}',
        '{"type": "hist", "data": {"@lh": [{"min": 3, "max": 3, "count": 1}]}}',
        '{"type": "map", "data": {"@of": {"FIRST": 1}}}',
        '{"type": "map", "data": {"@pair": {"x": 1, "y": "z"}}}',
        '{"type": "stats", "data": {"@st": {"count": 2, "average": 6, "total": 12}}}',
    ]


def test_a_time_series_that_zero_has_emptied_is_still_there() -> None:
    script = "BEGIN { @a = tseries(1, 1s, 5); zero(@a); @b = tseries(1, 1s, 5); clear(@b); exit(); }"
    assert _json_lines("-e", script) == [{"type": "tseries", "data": {"@a": []}}]


def test_what_is_counted_after_zero_starts_at_nothing() -> None:
    script = (
        "BEGIN { @h = hist(1); @m = min(-5); zero(@h); zero(@m); }"
        "interval:ms:100 { @h = hist(2); @m = min(3); print(@h); print(@m); exit(); }"
    )
    maps = [line["data"] for line in _json_lines("-e", script)]
    assert maps[0] == {"@h": [{"min": 2, "max": 3, "count": 1}]} and maps[1] == {"@m": 3}


def test_attached_probes_have_their_count_where_each_version_looks() -> None:
    output = run_trace("-f", "json", "-e", "BEGIN { exit(); } END { }", quiet=False).stdout
    assert json.loads(output.splitlines()[0]) == {"type": "attached_probes", "count": 2, "data": {"probes": 2}}
    newer = {"BPFTRACE_OUTPUT_VERSION": "0.24"}
    assert run_trace("-e", "BEGIN { exit(); }", quiet=False, env=newer).stdout.startswith("Attached 1 probe\n")


def test_complaints_are_objects_in_json_with_their_location() -> None:
    script = 'BEGIN {\n  errorf("bad %d", 3); warnf("odd");\n  exit();\n}'
    assert _json_lines("-e", script) == [
        {"type": "errorf", "msg": "bad 3", "filename": "-e", "line": 2, "col": 3},
        {"type": "warnf", "msg": "odd", "filename": "-e", "line": 2, "col": 24},
    ]


def test_raw_stacks_are_not_indented(tmp_path: Path) -> None:
    program = known_program(tmp_path)
    script = (
        f'uprobe:{program}:inner {{ printf("%s", ustack(raw, 2)); @[ustack(raw, 1)] = 1; printf("%s", ustack(1));'
        ' print(reg("ip")); }'
    )
    lines = run_trace("-e", script, "-c", str(program)).stdout.splitlines()
    address = int(lines[5])
    assert lines[:2] == ["", f"{address:x}"] and int(lines[2], 16) > address
    assert lines[3:5] == ["", "        inner+0"]
    assert lines[-3:] == ["@[", f"{address:x}", "]: 1"]


def test_a_probe_of_an_event_keeps_the_name_that_the_script_gave_it() -> None:
    script = "software:cpu:1000000, s:faults:1, software:page-faults:1 { @[probe] = 1; }"
    shown = run_trace(
        "-f", "json", "-e", script, "-c", "sh -c 'for i in 1 2 3 4 5 6 7 8 9; do ls > /dev/null; done'"
    ).stdout
    (line,) = (line for line in shown.splitlines() if line)
    assert {"software:faults:1", "software:page-faults:1"} <= json.loads(line)["data"]["@"].keys()
    assert json.loads(line)["data"]["@"].keys() <= {
        "software:cpu:1000000",
        "software:faults:1",
        "software:page-faults:1",
    }


def test_json_is_valid_utf_8_whatever_bytes_the_texts_have(tmp_path: Path) -> None:
    named = tmp_path / os.fsdecode(b"na\xffme")
    named.write_text("#!/bin/sh\necho hello\n")
    named.chmod(0o755)
    script = 'begin { @[str($1)] = 1; print(str($1)); printf("%s", str($1)); print((1, str($1))); exit(); }'
    done = subprocess.run(
        [sys.executable, "-m", "insitu", "trace", "-q", "-f", "json", "-e", script, os.fsencode(named)],
        capture_output=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.decode().splitlines() if line]
    shown = os.fsencode(named).decode(errors="replace")
    assert [line["data"] for line in lines] == [shown, shown, [1, shown], {"@": {shown: 1}}]
