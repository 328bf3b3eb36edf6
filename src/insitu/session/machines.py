"""The machines of a session: its own, and guests that were recorded with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from insitu.session.core_tables import MACHINE
from insitu.valid_text import valid_text

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["MOST_MACHINES", "Machines", "machines"]

MOST_MACHINES: Final = 200


class Machines(NamedTuple):
    """By id: the name, the session's number of its first CPU, and what the names of its event tables begin with.

    A session of one machine has one, without a name.
    """

    name: list[str]
    first_cpu: list[int]
    events: list[str]

    def of_table(self, table: str) -> int:
        """The machine that a table ``event.NAME`` is of."""
        for machine, prefix in enumerate(self.events):
            if prefix and table.startswith(f"event.{prefix}"):
                return machine
        return 0

    def labelled(self, text: str, machine: int) -> str:
        """A text about something of a machine, with the machine's name if that is a guest."""
        return f"{self.name[machine]}: {text}" if 0 < machine < len(self.name) else text

    def cpu(self, number: int) -> str:
        """The name of a CPU: ``CPU 3``, or of a guest ``NAME: CPU 1``."""
        for machine in range(len(self.first_cpu) - 1, 0, -1):
            if number >= self.first_cpu[machine]:
                return self.labelled(f"CPU {number - self.first_cpu[machine]}", machine)
        return f"CPU {number}"


def machines(session: Session) -> Machines:
    """The machines of a session, at most MOST_MACHINES."""
    if MACHINE.name not in session.tables:
        return Machines([""], [0], [""])
    found = session.sql(f"select name, first_cpu, events from {MACHINE.name} order by id limit {MOST_MACHINES}")
    if not len(found):
        return Machines([""], [0], [""])
    names = [valid_text(name or "") for name in found["name"]]
    return Machines(names, found["first_cpu"].fill_null(0).to_list(), found["events"].fill_null("").to_list())
