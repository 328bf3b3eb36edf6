"""What this kernel, machine and user can do, asked once and by doing it.

Each question is a function of a module here (profiling, tracing, links, inspecting, laboratory) that returns a typed
Result: ``capabilities.profiling.sampling().details.max_stack``. ``ask()`` puts all of them, for `insitu doctor`, and
before them those of needs: which commands this user may use.
"""

from typing import Any, NamedTuple

from insitu.capabilities.result import Result, State

__all__ = ["Feature", "Result", "State", "ask"]


class Feature(NamedTuple):
    """A question's result with its place in the list of all."""

    group: str
    name: str
    result: Result[Any]


def ask() -> tuple[Feature, ...]:
    """All features, grouped ("commands", "profile", "trace", "inspect", "lab"), in the order to show them.

    But for commands, each is tried: opened, loaded or read, and closed at once; nothing is raised. Takes a few tenths
    of a second the first time.
    """
    from insitu.capabilities import inspecting, laboratory, needs, profiling, tracing

    groups = (
        ("commands", needs.PROBES),
        ("profile", profiling.PROBES),
        ("trace", tracing.PROBES),
        ("inspect", inspecting.PROBES),
        ("lab", laboratory.PROBES),
    )
    return tuple(Feature(group, name, probe()) for group, probes in groups for name, probe in probes)
