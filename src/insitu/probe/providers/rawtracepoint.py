"""rawtracepoint:NAME: the arguments that the kernel passes to a tracepoint, before any record is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from insitu.errors import InsituError
from insitu.kernel import bpf
from insitu.kernel.bpf_abi import AttachType, ProgramType
from insitu.probe.providers.arguments import Argument, ContextSlot
from insitu.probe.providers.base import AttachPoint, AttachSpec, Context, ProgramKind, Traits
from insitu.probe.providers.support.detach import Descriptors
from insitu.probe.providers.support.matching import has_wildcard, missing, parts, select
from insitu.symbols.btf import Btf, Kind, Type

__all__ = ["PROVIDERS"]

_PREFIX = "btf_trace_"  # the typedef by which a kernel describes each of its tracepoints
# Functions that take the same arguments and, unlike the typedef, name them.
_NAMED_BY = ("__probestub_", "__bpf_trace_", "__traceiter_")


class RawTracepoint:
    """Typed raw tracepoints: pointers among the arguments can be followed without a helper."""

    names = ("rawtracepoint", "rt")
    traits = Traits(of_process=True, numbered="slots")

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        module, name = _split(spec)
        if not has_wildcard(name) and context.btf.find(_PREFIX + name, Kind.TYPEDEF) and select(module, ["vmlinux"]):
            return [_point("vmlinux", name)]
        found = self.listing(spec, context)
        if not found:
            raise missing("raw tracepoint", name, self._names(context.btf))
        return found

    def arguments(self, point: AttachPoint, context: Context) -> list[Argument] | None:
        btf = context.btf_of(point.target)
        # The first parameter is the tracepoint's own data, which no program sees.
        parameters = _typedef(btf, point).target.target.parameters[1:]
        names = self._parameter_names(btf, point.function)
        found, slot = [], 0
        for index, parameter in enumerate(parameters):
            name = names[index] if index < len(names) else f"arg{index}"
            found.append(Argument(name, parameter.type, ContextSlot(slot)))
            slot += max(1, -(-parameter.type.size // 8))
        return found

    def _parameter_names(self, btf: Btf, tracepoint: str) -> list[str]:
        for prefix in _NAMED_BY:
            function = btf.find(prefix + tracepoint, Kind.FUNC)
            if function is not None:
                return [parameter.name for parameter in function.parameters[1:]]
        return []

    def program(self, point: AttachPoint, context: Context) -> ProgramKind:
        btf = context.btf_of(point.target)
        return ProgramKind(
            ProgramType.TRACING,
            "arguments",
            attach_type=AttachType.TRACE_RAW_TP,
            attach_btf_id=_typedef(btf, point).id,
            attach_btf_fd=context.btf_fd(point.target),
        )

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Descriptors:
        # The load named the tracepoint: there is exactly one.
        return Descriptors([bpf.raw_tracepoint_open(program_fd, None)])

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        module, name = _split(pattern)
        return [
            _point(owner, each)
            for owner in select(module, context.btf_owners)
            for each in select(name, self._names(context.btf_of(owner)))
        ]

    def _names(self, btf: Btf) -> list[str]:
        typedefs = btf.names(Kind.TYPEDEF)
        return sorted(name.removeprefix(_PREFIX) for name in typedefs if name.startswith(_PREFIX))


def _split(spec: AttachSpec) -> tuple[str, str]:
    """Module and name; both are patterns."""
    first, second = parts(spec, "rawtracepoint:NAME or rawtracepoint:MODULE:NAME", 0, 2)
    return (first, second) if second else ("*", first or "*")


def _point(module: str, name: str) -> AttachPoint:
    return AttachPoint("rawtracepoint", f"rawtracepoint:{module}:{name}", target=module, function=name)


def _typedef(btf: Btf, point: AttachPoint) -> Type:
    found = btf.find(_PREFIX + point.function, Kind.TYPEDEF)
    if found is None:
        raise InsituError(f"this kernel has no type information for raw tracepoint {point.function}")
    return found


PROVIDERS = (RawTracepoint(),)
