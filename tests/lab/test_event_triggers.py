"""Filters and triggers in Debian's kernels: what is accepted here they accept, and every kind takes effect."""

import errno
import json
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.unit.event_formats import ACCEPTED_TRIGGERS, LATENCY, REFUSED_TRIGGERS

from insitu.lab import Guest

_EFFECTS = Path(__file__).with_name("event_effects.py")
# QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
_WRITE_EACH = """
mount -t tracefs nodev /sys/kernel/tracing 2>/dev/null
cd /sys/kernel/tracing
echo 's:xlat u64 lat; pid_t pid' > dynamic_events
mkdir instances/asked && cd instances/asked
echo 'hist:keys=pid:ts0=common_timestamp.usecs' > events/sched/sched_waking/trigger
while IFS='|' read -r event trigger; do
    if (echo "$trigger" >> "events/$event/trigger") 2>/dev/null; then
        echo yes
        echo "!$trigger" >> "events/$event/trigger"
    else
        echo no
    fi
done
cd ../..
echo '!hist:keys=pid:ts0=common_timestamp.usecs' > instances/asked/events/sched/sched_waking/trigger
rmdir instances/asked
echo '-:xlat' > dynamic_events
"""


def test_a_kernel_accepts_the_triggers_that_are_accepted_here_and_refuses_the_others(guest: Guest) -> None:
    asked = [*ACCEPTED_TRIGGERS, *((event, text) for event, text, _, _ in REFUSED_TRIGGERS)]
    lines = "".join(f"{event.replace(':', '/')}|{text}\n" for event, text in asked)
    done = guest.run(["sh", "-c", _WRITE_EACH], stdin=lines.encode(), timeout=600)
    said = dict(zip(asked, done.stdout.split(), strict=True))
    assert {each: said[each] for each in asked} == {
        each: b"yes" if each in ACCEPTED_TRIGGERS else b"no" for each in asked
    }
    assert LATENCY.name == "synthetic:xlat"


@cache
def _effects(guest: Guest) -> dict[str, Any]:
    done = guest.run([sys.executable, str(_EFFECTS)], env=_ENVIRONMENT, timeout=900)
    assert done.status == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_kind_of_filter_lets_through_what_it_says(guest: Guest) -> None:
    offsets = range(10)
    expected = {
        "offset == 3": 1,
        "offset != 3": 9,
        "offset < 3": 3,
        "offset <= 3": 4,
        "offset > 3": 6,
        "offset >= 3": 7,
        "offset & 1": sum(each & 1 for each in offsets),
        "offset == 3 || offset == 5": 2,
        "offset > 3 && !(offset == 5)": 5,
        "(offset == 0x3 || offset == 07) && fd >= 0": 2,
        "comm == 'effects'": 10,
        "comm ~ 'eff*'": 10,
        "comm != 'effects'": 0,
        "cpu == 1": 10,
        "filename.ustring ~ '*host*'": 1,
        "filename.ustring == '/etc/passwd'": 1,
    }
    found = _effects(guest)
    assert {text: found[text] for text in expected} == expected
    if guest.kernel.name == "6.1":  # CPUS{} came with Linux 6.6
        assert found["cpu & CPUS{1}"] == "Invalid argument"
    else:
        assert (found["cpu & CPUS{1}"], found["cpu & CPUS{0}"]) == (10, 0)


def test_every_kind_of_trigger_takes_effect(guest: Guest) -> None:
    found = _effects(guest)
    # Ten calls of lseek(2) with a getppid(2) after each; the triggers act at the sixth lseek(2).
    expected = {
        "traceon": "1",
        "traceoff": [5, "0"],
        "traceoff:1": [5, "0"],
        "stacktrace": [1, "1"],
        "enable_event": [5, "1"],
        "disable_event": [5, "1"],
        "snapshot": 6,
        "onmatch": 10,
        "killed": [True, ["event", "instance"]],
        "instances left": [],
    }
    assert {name: found[name] for name in expected} == expected
    assert re.search(r"\{ whence: +0 \} hitcount: +10 +offset: +45\n", found["hist"])
    assert re.findall(r"~ (\d+-\d+) \} hitcount: +(\d+)", found["hist sorted"]) in (
        [("0-3", "4"), ("4-7", "4"), ("8-11", "2")],
        [("4-7", "4"), ("0-3", "4"), ("8-11", "2")],
    )
    assert re.search(r"common_pid: effects +\[ +\d+\], (common_)?stacktrace:\n +\S+\+0x", found["hist of the caller"])
    assert re.search(r"max: +9 +offset: +9 +fd: +\d", found["onmax save"])
    assert re.search(r"Snapshot taken .*\n\ttriggering value \{ onmax\(\$o\) \}: +9", found["onmax snapshot"])
    assert re.search(r"changed: +9 +fd: +\d", found["onchange save"])
    assert "Hits: 7\n" in found["enable_hist"]  # of getppid(2) after the offsets 3 to 9
    assert "Hits: 3\n" in found["disable_hist"]


def _events(guest: Guest, *words: str) -> bytes:
    done = guest.run([sys.executable, "-m", "insitu", "events", *words], env=_ENVIRONMENT, timeout=600)
    assert done.status == 0, done.stderr.decode()
    return done.stdout


def test_a_hist_trigger_counts_the_events_of_a_command_that_are_printed_one_by_one(guest: Guest) -> None:
    command = ["--", "sh", "-c", "stat /etc/passwd /etc/hosts > /dev/null; : < /etc/passwd"]
    traced = ["-q", "-e", "syscalls:sys_enter_openat", "--trigger", "hist:keys=flags"]
    printed = _events(guest, *traced, *command)
    counted = _events(guest, "--hist", "syscalls:sys_enter_openat", "--key", "flags", "--json", *command)
    found = json.loads(counted)
    assert found["counted_by"] == "a hist trigger"
    assert found["hits"] == printed.count(b" sys_enter_openat:") > 1
    assert sum(entry["hits"] for entry in found["entries"]) == found["hits"]
    assert b"# histograms of syscalls:sys_enter_openat\n" in printed
    assert re.findall(rb"Hits: (\d+)", printed) == [b"%d" % found["hits"]]


def test_the_intervals_of_a_histogram_add_up_to_the_events_of_the_command(guest: Guest) -> None:
    calls = "import os, time\nfor _ in range(3):\n    os.getppid(); os.getppid(); time.sleep(0.4)"
    asked = ["--hist", "syscalls:sys_enter_getppid", "--key", "common_pid", "--interval", "0.3", "--json"]
    documents = [json.loads(line) for line in _events(guest, *asked, "--", sys.executable, "-c", calls).splitlines()]
    assert len(documents) > 2
    assert documents[0]["counted_by"] == "a hist trigger"
    assert sum(entry["hits"] for each in documents for entry in each["entries"]) == 6
    assert sum(each["hits"] for each in documents) == 6


def test_a_synthetic_event_measures_a_sleep(guest: Guest) -> None:
    (latency,) = _effects(guest)["latencies"]
    assert latency >= 190_000_000  # the emulator's clocks differ a little
    assert _effects(guest)["dynamic events left"] == ""


def test_dynamic_events_of_the_kernel_show_arguments_by_name(guest: Guest) -> None:
    found = _effects(guest)
    failed = str(-errno.ENOENT)
    assert found["kprobe"] == ['dfd=-100 filename="/etc/passwd"', 'dfd=-100 filename="/no/such"']
    assert [each == f"retval={failed}" for each in found["kretprobe"]] == [False, True]
    assert all(each.startswith("sp=0xff") for each in found["kprobe inside"])
    flags = os.O_RDONLY | os.O_CLOEXEC
    assert found["eprobe"] == [f'filename="/etc/passwd" flags={flags}', f'filename="/no/such" flags={flags}']
    if guest.kernel.name == "6.1":  # fprobe events came with Linux 6.5
        assert "the kernel refuses" in found["fprobe"]
    else:
        assert found["fprobe"] == ['filename="/etc/passwd"', 'filename="/no/such"']
        assert [each == f"retval={failed}" for each in found["fprobe return"]] == [False, True]
