"""The built-in programs: what each says of itself is whole, and is what its script does."""

import re
from collections.abc import Iterator

import pytest

from insitu.probe import ast
from insitu.probe.bpftrace.script_parser import parse
from insitu.probe.bpftrace.scripts import GROUPS, PROGRAMS, Program, built_in, described, listed
from insitu.probe.source import Source

_KINDS = {"begin", "end", "self", "interval", "profile", "software"}


def _text(program: Program) -> str:
    return (PROGRAMS / f"{program.name}.bt").read_text()


def _probes(program: Program) -> Iterator[ast.Probe]:
    yield from parse(Source(_text(program)), ["1"], None).probes


def _kinds(probe: ast.Probe) -> set[str]:
    return {point.parts[0].lower() for point in probe.attach_points}


def _calls(probe: ast.Probe, *names: str) -> list[ast.Call]:
    return [node for node in ast.walk([probe.body]) if isinstance(node, ast.Call) and node.name in names]


def _headings(program: Program) -> set[str]:
    """The words in capitals that printf() writes at the beginning (or, of tables, at the end)."""
    texts = [
        literal.value.decode()
        for probe in _probes(program)
        if _kinds(probe) & {"begin", "end", "interval"}
        for call in _calls(probe, "printf")
        for literal in call.arguments
        if isinstance(literal, ast.StringLiteral)
    ]
    return {word for text in texts for word in re.findall(r"(?<![%\w])[A-Z][A-Z0-9/%_-]*(?![\w(])", text)}


def _maps(program: Program) -> set[str]:
    """The maps that are left at the end, and so printed, or that print() prints."""
    macros = parse(Source(_text(program)), ["1"], None).macros
    named = {node.name for macro in macros for node in ast.walk(macro.body) if isinstance(node, ast.MapAccess)}
    cleared: set[str] = set()
    printed: set[str] = set()
    for probe in _probes(program):
        named |= {node.name for node in ast.walk([probe.predicate, probe.body]) if isinstance(node, ast.MapAccess)}
        printed |= _given_to(probe, "print")
        if "end" in _kinds(probe):
            cleared |= _given_to(probe, "clear")
    return named - cleared | printed


def _given_to(probe: ast.Probe, function: str) -> set[str]:
    """The maps that are a function's first argument."""
    given = [call.arguments[0] for call in _calls(probe, function)]
    return {node.name for node in given if isinstance(node, ast.MapAccess)}


@pytest.fixture(params=built_in(), ids=lambda program: program.name)
def program(request: pytest.FixtureRequest) -> Program:
    found: Program = request.param
    return found


def test_a_program_begins_with_its_question_how_to_use_it_and_its_group(program: Program) -> None:
    assert program.question.endswith("?") and len(program.question) < 100
    assert program.description
    assert program.group in GROUPS
    assert program.like


def test_the_columns_of_a_program_are_those_that_it_prints(program: Program) -> None:
    assert all(program.columns.values()), "a column's meaning"
    assert set(program.columns) == _headings(program) | _maps(program)


def test_the_events_of_a_program_are_its_attach_points(program: Program) -> None:
    points = {str(point) for probe in _probes(program) for point in probe.attach_points}
    assert set(program.events) == {point for point in points if point.partition(":")[0].lower() not in _KINDS}


# Happen in whatever runs, or in the one that causes it.
_ELSEWHERE = re.compile(
    r":(sched_(migrate_task|wak\w+|switch)|signal_generate|block_(bio_queue|getrq|rq_\w+)|irq_handler_\w+|softirq_\w+|kfree_skb|"
    r"tcp_retransmit_\w+|inet_sock_set_state|writeback_\w+|tcp_conn_request|mark_victim|mm_collapse_huge_page)$"
)


def test_a_program_of_events_in_other_processes_tests_for_its_own_or_is_about_the_machine(program: Program) -> None:
    if any(_ELSEWHERE.search(event) for event in program.events):
        assert "traced(" in _text(program) or program.scope.startswith("machine, ")


def test_a_scope_is_one_that_is_known(program: Program) -> None:
    assert program.scope in ("", "process", "tree") or re.fullmatch(r"machine, [\w ]+", program.scope)


def test_a_heading_fits_a_terminal_of_80_columns(program: Program) -> None:
    for probe in _probes(program):
        for call in _calls(probe, "printf"):
            texts = [each.value.decode() for each in call.arguments if isinstance(each, ast.StringLiteral)]
            if len(texts) == len(call.arguments) > 1:
                assert len((texts[0] % tuple(texts[1:])).rstrip()) <= 80


def test_the_list_has_each_program_below_its_group() -> None:
    lines = listed().splitlines()
    at = lines.index("CPU")
    assert any(
        re.fullmatch(r"  runqlat +How long do threads that could run wait for a CPU\?", each) for each in lines[at:]
    )
    assert not [line for line in lines if line.strip() and line not in GROUPS and not line.startswith("  ")]


def test_fields_of_the_comment_may_go_on_in_further_lines() -> None:
    lines = [
        "Why?",
        "",
        "Some",
        "words.",
        "",
        "Group: CPU",
        "Columns: A one thing;",
        "  B another",
        "Events: a:b,",
        "c:d",
    ]
    found = described("x", "\n * ".join(["/*", *lines]) + "\n */")
    assert (found.question, found.description, found.group) == ("Why?", "Some\nwords.", "CPU")
    assert found.columns == {"A": "one thing", "B": "another"} and found.events == ("a:b", "c:d")
