"""Saving and restoring a guest: QEMU's migration is waited for until a deadline, and its failure is reported."""

import itertools
import time
from pathlib import Path
from typing import Any, cast

import pytest

from insitu.errors import InsituError
from insitu.lab.guests.migration import restore, save
from insitu.lab.qmp import Qmp


class Monitor:
    """Takes every command; query-migrate returns the given states one by one, the last one for ever."""

    def __init__(self, *states: str | None) -> None:
        self.commands: list[str] = []
        self._states = itertools.chain(states, itertools.repeat(states[-1]))

    def execute(self, command: str, **arguments: Any) -> Any:
        if command != "query-migrate":
            self.commands.append(command)
            return {}
        state = next(self._states)
        return {} if state is None else {"status": state}


def saved(monitor: Monitor, seconds: float = 60) -> None:
    save(cast(Qmp, monitor), Path("/x/it's"), time.monotonic() + seconds)


def test_saving_stops_the_guest_and_waits_until_all_is_written() -> None:
    monitor = Monitor(None, "setup", "active", "device", "completed")
    saved(monitor)
    assert monitor.commands == ["stop", "migrate-set-capabilities", "migrate"]


def test_restoring_lets_the_guest_run_at_the_end() -> None:
    monitor = Monitor("none", "active", "completed")
    restore(cast(Qmp, monitor), Path("/x/devices"), time.monotonic() + 60)
    assert monitor.commands == ["migrate-set-capabilities", "migrate-incoming", "cont"]


@pytest.mark.parametrize("state", ["failed", "cancelled", "postcopy-paused"])
def test_a_migration_that_fails_is_reported_at_once(state: str) -> None:
    with pytest.raises(InsituError, match=f"cannot save the guest's state: migration {state}"):
        saved(Monitor("active", state))


def test_a_migration_that_does_not_end_is_reported_at_the_deadline() -> None:
    with pytest.raises(InsituError, match="did not save the guest's state in time"):
        saved(Monitor("active"), seconds=0.05)
