"""profile:UNIT:N on every CPU, and interval:UNIT:N on one."""

from __future__ import annotations

from insitu.errors import InsituError
from insitu.kernel import perf_event
from insitu.probe.providers.base import AttachPoint, AttachSpec, Context, Traits
from insitu.probe.providers.support.matching import amount, number, parts, select
from insitu.probe.providers.support.perf_attachment import Event, everywhere, on_one_cpu
from insitu.probe.providers.support.sampling import Sampling

__all__ = ["PROVIDERS"]

_NS_PER = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_UNITS = ("hz", *_NS_PER)
_MAX_HZ = 100_000
_MAX_NS = 1 << 62


class Timer(Sampling):
    """A clock event of perf's, so that ``profile`` sees the registers of what it interrupts."""

    def __init__(self, kind: str, aliases: tuple[str, ...], every_cpu: bool) -> None:
        self.names = (kind, *aliases)
        self.traits = Traits(of_process=every_cpu)
        self._every_cpu = every_cpu

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        kind = self.names[0]
        unit, written = parts(spec, f"{kind}:UNIT:NUMBER, UNIT one of {', '.join(_UNITS)},", 1, 2)
        if not written:
            unit, written = _spelled(unit)
        if unit not in _UNITS:
            raise InsituError(f"{spec}: unknown unit {unit}", remedy=f"one of {', '.join(_UNITS)}")
        count = number(written) or 0
        most = _MAX_HZ if unit == "hz" else _MAX_NS // _NS_PER[unit]
        if not 0 < count <= most:
            raise InsituError(f"{spec}: {written} is not a number of {unit} from 1 to {most}")
        attr = {"sample_period": count, "freq": 1} if unit == "hz" else {"sample_period": count * _NS_PER[unit]}
        return [AttachPoint(kind, f"{kind}:{unit}:{count}", function=unit, detail=attr)]

    def events(self, point: AttachPoint, context: Context) -> list[Event]:
        assert isinstance(point.detail, dict)
        attr = perf_event.Attr(
            type=perf_event.Type.SOFTWARE, config=perf_event.Software.CPU_CLOCK, disabled=1, **point.detail
        )
        return everywhere(attr, context.only_pid, point.cookie) if self._every_cpu else on_one_cpu(attr, point.cookie)

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        kind = self.names[0]
        found = select(pattern.parts[0] if pattern.parts else "*", _UNITS)
        return [AttachPoint(kind, f"{kind}:{unit}:", function=unit) for unit in found]


def _spelled(text: str) -> tuple[str, str]:
    """Unit and number of a duration such as ``10ms``; a bare number counts nanoseconds."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(digits) :] or "ns"
    if unit not in _UNITS and (duration := amount(text)) is not None:
        return "ns", str(duration)  # minutes, hours, days
    return unit, digits


PROVIDERS = (Timer("profile", ("p",), True), Timer("interval", ("i",), False))
