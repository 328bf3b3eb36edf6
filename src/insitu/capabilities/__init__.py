"""What this kernel, machine and user can do: asked once, by doing it, and each answer with its reason and remedy."""

from functools import cache

from insitu.capabilities.result import Answer, Feature, Probe, State, refused
from insitu.errors import InsituError

__all__ = ["Answer", "Feature", "State", "ask"]


@cache
def ask() -> tuple[Feature, ...]:
    """All features, grouped by what they are for ("profile", "trace", "inspect", "lab"), in the order to show them.

    Each is tried for real: opened, loaded or read, and let go at once. A probe that fails in a way that it
    did not foresee answers no, with what happened; nothing is raised. Takes a few tenths of a second.
    """
    from insitu.capabilities import inspecting, laboratory, profiling, tracing

    groups: tuple[tuple[str, tuple[tuple[str, Probe], ...]], ...] = (
        ("profile", profiling.PROBES),
        ("trace", tracing.PROBES),
        ("inspect", inspecting.PROBES),
        ("lab", laboratory.PROBES),
    )
    return tuple(Feature(group, name, *_answer(probe)) for group, probes in groups for name, probe in probes)


def _answer(probe: Probe) -> Answer:
    try:
        return probe()
    except InsituError as error:
        return refused(error)
    except Exception as error:  # one probe's surprise must not cost the other answers
        return Answer(State.NO, str(error) or type(error).__name__, "")
