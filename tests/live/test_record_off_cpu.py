"""insitu profile --off-cpu on this kernel."""

import subprocess
import sys
from pathlib import Path

import insitu

_SLEEPS, _SLEEP_NS = 20, 20_000_000
_SLEEPER = f"import time\nfor _ in range({_SLEEPS}): time.sleep({_SLEEP_NS / 1e9})"


def test_the_sleeps_of_a_command_are_spans_with_their_stack_and_thread_states(tmp_path: Path) -> None:
    output = tmp_path / "x.insitu"
    command = [sys.executable, "-m", "insitu", "profile", "-q", "--off-cpu", "-o", str(output), "--"]
    subprocess.run([*command, sys.executable, "-S", "-c", _SLEEPER], check=True)
    with insitu.open(output) as session:
        asleep = session.sql(
            "select id, dur_ns, category from span"
            " where stack in (select stack from stack_frame where function like $f)",
            {"f": "%nanosleep%"},
        )
        # A thread that is preempted while it goes to sleep, as on a loaded machine, leaves the CPU twice.
        assert len(asleep) >= _SLEEPS
        assert asleep["dur_ns"].sum() >= 0.8 * _SLEEPS * _SLEEP_NS
        assert set(asleep["category"]) == {"off-cpu"}
        spans = session.sql("select utid, ts_ns, dur_ns from span order by all")
        states = session.sql("select utid, ts_ns, dur_ns from thread_state where state = 'off-cpu' order by all")
        assert spans.equals(states)
