"""tracepoint:CATEGORY:NAME, with the fields of the event's record as ``args``."""

from __future__ import annotations

from collections.abc import Sequence

from insitu.capabilities import links
from insitu.kernel import perf_event
from insitu.kernel.bpf_abi import ProgramType
from insitu.kernel.tracefs import Field
from insitu.probe.providers.arguments import Argument, ContextField, DataLocation, Primitive
from insitu.probe.providers.base import AttachPoint, AttachSpec, Context, ProgramKind, Traits
from insitu.probe.providers.support.detach import Descriptors
from insitu.probe.providers.support.matching import has_wildcard, missing, parts, select
from insitu.probe.providers.support.perf_attachment import attach_events, on_one_cpu

__all__ = ["PROVIDERS"]

# The kernel widens system calls' arguments to 8 bytes and then calls them unsigned, whatever their type.
_SIGNED = {"int", "long", "short", "char", "signed char", "long long", "pid_t", "s8", "s16", "s32", "s64", "off_t"}


class Tracepoint:
    """Events of tracefs, attached as perf events."""

    names = ("tracepoint", "t")
    traits = Traits(of_process=True)

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        category, name = parts(spec, "tracepoint:CATEGORY:NAME", 2, 2)
        if not has_wildcard(category + name):
            # One format file is read sooner than the list of all.
            try:
                context.tracefs.read(f"events/{category}/{name}/id")
                return [_point(category, name)]
            except (OSError, ValueError):
                raise missing("tracepoint", f"{category}:{name}", context.tracefs.events()) from None
        found = self.listing(spec, context)
        if not found:
            raise missing("tracepoint", f"{category}:{name}", context.tracefs.events())
        return found

    def arguments(self, point: AttachPoint, context: Context) -> list[Argument] | None:
        return [_argument(field) for field in context.tracefs.event(point.target, point.function).fields]

    def program(self, point: AttachPoint, context: Context) -> ProgramKind:
        return ProgramKind(ProgramType.TRACEPOINT, "record", shared=True, cookies=links.perf_links().available)

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Descriptors:
        events = []
        for point in points:
            number = context.tracefs.event(point.target, point.function).id
            attr = perf_event.Attr(type=perf_event.Type.TRACEPOINT, config=number, sample_period=1, disabled=1)
            events += on_one_cpu(attr, point.cookie)
        return attach_events(program_fd, events, tracing=True)

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        category, name = (*pattern.parts, "*", "*")[:2]
        return [_point(*event.split(":", 1)) for event in select(f"{category}:{name}", context.tracefs.events())]


def _point(category: str, name: str) -> AttachPoint:
    return AttachPoint("tracepoint", f"tracepoint:{category}:{name}", target=category, function=name)


def _argument(field: Field) -> Argument:
    signed = field.signed or field.declaration in _SIGNED
    if field.location:
        element = Primitive(field.declaration, 1, signed, 0)
        return Argument(field.name, element, DataLocation(field.offset, field.location == "relative"))
    if field.count is not None:
        size = field.size // field.count if field.count else field.size
        element = Primitive(field.declaration, size, signed, field.count)
        return Argument(field.name, element, ContextField(field.offset, field.size))
    value = Primitive(field.declaration, field.size, signed)
    return Argument(field.name, value, ContextField(field.offset, field.size, signed))


PROVIDERS = (Tracepoint(),)
