"""Every set of constants that a kind or a table of calls names is in the facts: one that is not raises KeyError."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import insitu.syscalls.kinds
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Call, Enter
from insitu.syscalls.decode import Decoder
from insitu.syscalls.facts import facts_of
from insitu.syscalls.signature import signatures

KINDS = Path(insitu.syscalls.kinds.__file__).parent
KINDS_OF_SETS = ("flags", "flags_long", "enum", "enum_long", "ipc_flags", "ipc_command")
DECLARED = re.compile(r"\b(?:flags|enum|flagslong)\d*\((\w+)[,)]|^(?:flags|enum):(\w+)$")
ASKS = ("flags_text", "enum_text", "constant", "constants", "unknown", "_words", "_flags", "_bits")


def is_a_set(name: str) -> bool:
    try:
        facts_of("x86_64").constants(name)
    except KeyError:
        return False
    return True


def texts(nodes: list[ast.expr]) -> list[str]:
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def named_sets(tree: ast.AST) -> Iterator[str]:
    """Yields what the literals of a module name as a set: where one is asked for, beside the comment on what is
    unknown, in declarations of structures, and beside other sets in a table."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ASKS:
                yield from texts(node.args)[:1]
        if isinstance(node, ast.Call | ast.Tuple):
            words = texts(node.args if isinstance(node, ast.Call) else node.elts)
            yield from (first for first, second in itertools.pairwise(words) if second.endswith("_???"))
        if isinstance(node, ast.Dict | ast.Tuple):
            rows = node.values if isinstance(node, ast.Dict) else node.elts
            words = texts([row.elts[0] if isinstance(row, ast.Tuple) and row.elts else row for row in rows])
            if words and sum(map(is_a_set, words)) * 2 > len(words):
                yield from words
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (one or other for one, other in DECLARED.findall(node.value))


def test_every_set_that_a_kind_names_is_in_the_facts() -> None:
    named = {
        (name, path.name)
        for path in sorted(KINDS.glob("*.py"))
        for name in named_sets(ast.parse(path.read_text("utf-8")))
        if not name.endswith("_???")
    } - {("set", "layout.py")}  # its docstring explains declarations
    assert len(named) > 150
    assert {"px_protocol", "termios_vt", "bpf_prog_type", "rtnetlink", "line_discipline"} <= {
        each for each, _ in named
    }
    assert not sorted(each for each in named if not is_a_set(each[0]))


def test_every_set_that_the_tables_name_is_in_the_facts() -> None:
    named = {
        parameter.given[0]
        for signature in signatures().values()
        for parameter in (*signature.parameters, signature.returns)
        if parameter.kind in KINDS_OF_SETS
    }
    assert len(named) > 60
    assert not sorted(name for name in named if not is_a_set(name))


def test_a_socket_of_each_family_has_a_protocol() -> None:
    facts = facts_of("x86_64")
    decoder = Decoder(TextOptions())
    shown = {}
    for family in range(64):
        call = Call(Enter(0, 1, 1, "x86_64", facts.numbers["socket"], (family, 2, 1, 0, 0, 0)))
        shown[family] = decoder.arguments(call)[2].text
    # include/uapi/linux/if_pppox.h, include/linux/in.h
    assert (shown[24], shown[2], shown[63]) == ("PX_PROTO_OL2TP", "IPPROTO_ICMP", "1")
