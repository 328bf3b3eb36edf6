"""The part of a recording that a view is asked for: one event, and perhaps one thread or command."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.session.profile import Profile, Value

__all__ = ["selected", "value_of"]

Mask = NDArray[np.bool_]


def selected(
    profile: Profile, *, event: str | None = None, tid: int | None = None, comm: str | None = None
) -> Profile:
    """The samples of one event (of the first that has samples, unless named), of one thread or command.

    Counts of different events cannot be added up, hence never more than one event. ``event`` may leave modifiers
    (":u") out. The result's ``events`` is that event's name alone; that others were recorded is added to its notes.
    Raises InsituError, naming what there is, when nothing is selected.
    """
    if not len(profile):
        return profile
    if len(profile.events) == 1:
        present = np.zeros(1, np.int64)
    else:
        present = np.flatnonzero(np.bincount(profile.event, minlength=len(profile.events)))
    chosen = int(present[0])
    if event is not None:
        names = [profile.events[at] for at in present]
        matches = [name for name in names if name == event] or [n for n in names if n.partition(":")[0] == event]
        if not matches:
            raise InsituError(f"no samples of event {event!r}", remedy=f"there are: {', '.join(names)}")
        chosen = int(present[names.index(matches[0])])
    mask = None if len(present) == 1 else profile.event == chosen
    if tid is not None:
        mask = _both(mask, profile.tid == tid)
    if comm is not None:
        commands, of_sample = profile.commands(profile.tid, profile.ts_ns)
        if comm not in commands:
            raise InsituError(f"no samples of command {comm!r}", remedy=f"there are: {', '.join(commands[:8])}")
        mask = _both(mask, of_sample == commands.index(comm))
    if mask is not None and not mask.any():
        asked = [f"thread {tid}"] * (tid is not None) + [f"command {comm!r}"] * (comm is not None)
        raise InsituError(f"no samples of {' and '.join(asked)}", remedy="insitu report shows what there is")
    events = [profile.events[chosen]]
    others = [profile.events[at] for at in present if at != chosen]
    if others:
        notes = profile.info.get("notes")
        said = [*notes] if isinstance(notes, list) else []
        note = f"also recorded: {', '.join(others)}; --event shows them"
        profile = replace(profile, info={**profile.info, "notes": [*said, note]})
    if mask is None:
        return profile if profile.events == events else replace(profile, events=events, event=profile.event - chosen)
    count = int(np.count_nonzero(mask))
    return replace(
        profile,
        ts_ns=profile.ts_ns[mask],
        cpu=profile.cpu[mask],
        tid=profile.tid[mask],
        stack=profile.stack[mask],
        event=np.zeros(count, np.int32),
        weight=profile.weight[mask],
        events=events,
    )


def value_of(profile: Profile, asked: Value | None) -> Value:
    """What to add up: as asked, else samples, but for imports whose samples are no samples (see read_folded)."""
    return asked or ("weight" if profile.info.get("value") == "weight" else "samples")


def _both(one: Mask | None, other: Mask) -> Mask:
    return other if one is None else one & other
