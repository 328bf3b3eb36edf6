"""Network packets and sockets: skboutput and socket_cookie.

The kernel's bpf_skb_output() takes packets of fentry probes only; reading the packet works in every probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.integers import least
from insitu.probe.codegen.memory import load_field
from insitu.probe.codegen.packet_data import LIMIT, ROOM, read_packet
from insitu.probe.codegen.records import send_filled
from insitu.probe.layout import RecordLayout
from insitu.probe.passes.check.members import is_args, need_fields
from insitu.probe.types import INT64, UINT64, Buffer, Pointer, Tuple, Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]

_SKB_FIELDS = ("sk_buff.len", "sk_buff.data_len", "sk_buff.data", "sk_buff.head", "sk_buff.end")
_COOKIE = "sock.__sk_common.skc_cookie"


def _check_output(checker: Checker, call: ast.Call) -> Type:
    checker.text(call.arguments[0], "the file of skboutput()")
    for index, what in ((1, "the packet"), (2, "the length"), (3, "the offset")):
        checker.scalar(checker.argument(call, index), f"{what} of skboutput()")
    need_fields(checker, call, _SKB_FIELDS)
    return INT64


def _output(low: Lowering, call: ast.Call) -> str:
    emit = low.emit
    packet, wanted, offset = (low.value(operand(call, index)) for index in (1, 2, 3))
    whole = load_field(low, packet, "sk_buff.len")
    more = emit.value(f"icmp ugt i64 {whole}, {offset}")
    on_wire = emit.select(more, emit.op("sub", whole, offset), "0")
    wanted = least(emit, wanted, str(LIMIT))
    stamp = emit.call(Helper.KTIME_GET_BOOT_NS)
    fields = Tuple((UINT64, UINT64, Buffer(ROOM)))
    layout = RecordLayout("skboutput", low.text(call.arguments[0]), fields, ring=low.layout.ring_map())

    def fill(index: int, pointer: str) -> None:
        if index < 2:
            emit.store((stamp, on_wire)[index], pointer)
        else:
            emit.store(read_packet(low, packet, offset, wanted, emit.offset(pointer, 8)), pointer)

    return send_filled(low, layout, fill)


def _check_cookie(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), "socket_cookie()")
    need_fields(checker, call, (_COOKIE,))
    return UINT64


def _cookie(low: Lowering, call: ast.Call) -> str:
    """The kernel's helper creates a missing cookie, but takes only arguments of fentry; else read the field."""
    subject = operand(call)
    given = isinstance(subject, ast.Member) and is_args(subject.object) and isinstance(subject.type, Pointer)
    value = low.value(subject)
    if given and low.clause.provider.traits.trusted:
        return low.emit.call(Helper.GET_SOCKET_COOKIE, f"ptr {low.emit.pointer(value)}")
    return load_field(low, value, _COOKIE)


BUILTINS: tuple[Builtin, ...] = (
    *function("skboutput", (4, 4), _check_output, value=_output),
    *function("socket_cookie", (1, 1), _check_cookie, value=_cookie),
)
