"""watchpoint:ADDRESS:LENGTH:MODE: a probe for every access to some bytes, by the processor's debug registers."""

from __future__ import annotations

from insitu.errors import InsituError
from insitu.kernel import perf_event
from insitu.probe.providers.base import AttachPoint, AttachSpec, Context, Traits
from insitu.probe.providers.support.matching import parts
from insitu.probe.providers.support.perf_attachment import Event, everywhere
from insitu.probe.providers.support.sampling import Sampling

__all__ = ["PROVIDERS"]

_SHAPE = "watchpoint:ADDRESS:LENGTH:MODE"
_LENGTHS = (1, 2, 4, 8)
# HW_BREAKPOINT_R, _W and _X of include/uapi/linux/hw_breakpoint.h. x86 cannot watch reads alone.
_MODES = {"r": 1, "w": 2, "rw": 3, "wr": 3, "x": 4}
_USER_ADDRESSES = 1 << 63


class Watchpoint(Sampling):
    """perf's breakpoint events. A user address belongs to one process, so it needs a pid."""

    names = ("watchpoint", "w", "asyncwatchpoint", "aw")
    traits = Traits(of_process=True)

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        where, length, mode = parts(spec, _SHAPE, 3, 3)
        if "+" in where:
            raise InsituError(
                f"{spec}: watching a function's argument is not supported",
                remedy="a uprobe on the function prints the address; watch that",
            )
        try:
            place = int(where, 0)
        except ValueError:
            raise InsituError(f"{spec}: {where} is not an address", remedy=f"expected {_SHAPE}") from None
        if length not in map(str, _LENGTHS):
            raise InsituError(
                f"{spec}: {length} bytes cannot be watched; lengths are {', '.join(map(str, _LENGTHS))}"
            )
        if mode not in _MODES:
            raise InsituError(f"{spec}: the mode must be r, w, rw or x, not {mode}")
        if not 0 < place < 1 << 64 or place % int(length):
            raise InsituError(f"{spec}: a watched address must be a multiple of its length, below 2^64")
        if place < _USER_ADDRESSES and context.pid is None and not context.runs_command:
            raise InsituError(f"{spec}: a user-space address needs a process", remedy="-p PID or -c COMMAND")
        return [AttachPoint("watchpoint", str(spec), address=place, detail=(int(length), _MODES[mode]))]

    def events(self, point: AttachPoint, context: Context) -> list[Event]:
        assert isinstance(point.detail, tuple)
        length, mode = point.detail
        attr = perf_event.Attr(
            type=perf_event.Type.BREAKPOINT,
            bp_type=mode,
            config1=point.address,
            config2=length if mode != _MODES["x"] else 8,  # sizeof(long), as the ABI requires for code
            sample_period=1,
            disabled=1,
        )
        child = context.child_pid if point.address < _USER_ADDRESSES else 0
        return everywhere(attr, context.only_pid or child or None, point.cookie)

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        return []


PROVIDERS = (Watchpoint(),)
