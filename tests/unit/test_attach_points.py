"""Attach points as scripts spell them: what they name, and that no spelling ends in anything but an error."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.base import AttachPoint, AttachSpec, Context
from insitu.probe.providers.support.matching import select

# Kinds that need neither privilege nor a kernel's lists.
_PLAIN = [
    "BEGIN",
    "end",
    "self",
    "profile",
    "p",
    "interval",
    "i",
    "software",
    "s",
    "hardware",
    "h",
    "watchpoint",
    "w",
]


def expand(text: str, pid: int | None = None) -> list[AttachPoint]:
    kind, *parts = text.split(":")
    return PROVIDERS[kind].expand(AttachSpec(kind, tuple(parts)), Context(pid=pid))


def test_aliases_name_the_same_provider() -> None:
    for name, alias in (
        ("kprobe", "k"),
        ("kretprobe", "kr"),
        ("tracepoint", "t"),
        ("rawtracepoint", "rt"),
        ("uprobe", "u"),
        ("uretprobe", "ur"),
        ("usdt", "U"),
        ("profile", "p"),
        ("interval", "i"),
        ("software", "s"),
        ("hardware", "h"),
        ("watchpoint", "w"),
        ("fentry", "f"),
        ("fexit", "fr"),
        ("iter", "it"),
    ):
        assert PROVIDERS[name] is PROVIDERS[alias]
        assert PROVIDERS[alias].names[0] == name


@pytest.mark.parametrize(
    ("text", "attr"),
    [
        ("profile:hz:99", {"sample_period": 99, "freq": 1}),
        ("p:s:2", {"sample_period": 2_000_000_000}),
        ("interval:ms:10", {"sample_period": 10_000_000}),
        ("i:us:7", {"sample_period": 7_000}),
        ("i:1s", {"sample_period": 1_000_000_000}),
    ],
)
def test_a_timer_is_a_frequency_or_a_period_in_nanoseconds(text: str, attr: dict[str, int]) -> None:
    (point,) = expand(text)
    assert point.detail == attr


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("software:faults:5", "software:faults:5"),
        ("s:cs", "software:cs"),
        ("h:cycles:1000", "hardware:cycles:1000"),
        ("self:signal:USR1", "self:signal:SIGUSR1"),
        ("BEGIN", "BEGIN"),
    ],
)
def test_a_point_has_its_full_name(text: str, name: str) -> None:
    assert [point.name for point in expand(text)] == [name]


@pytest.mark.parametrize(
    "text",
    [
        "profile:hz:0",
        "profile:hz:1000000000000",
        "profile:hz:-1",
        "interval:s:²",
        "software:page-faults:0",
        "watchpoint:0x1000:3:w",
        "watchpoint:0x1000:8:q",
        "watchpoint:main+arg1:8:w",
        "self:sigusr1",
        "BEGIN:now",
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InsituError):
        expand(text, pid=1)


def test_a_star_stands_for_any_text_and_nothing_else_is_special() -> None:
    names = ["vfs_read", "vfs_readv", "operator[]", "a.b", "axb"]
    assert select("vfs_*", names) == ["vfs_read", "vfs_readv"]
    assert select("*r*d*", names) == ["vfs_read", "vfs_readv"]
    assert select("operator[]*", names) == ["operator[]"]
    assert select("a.b*", names) == ["a.b"]


_TEXT = st.text(alphabet=st.sampled_from("*:+-/\0.0x19szµ[(äq \n"), max_size=12)


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from([*_PLAIN, "uprobe", "usdt"]), parts=st.lists(_TEXT, max_size=4))
def test_any_spelling_ends_in_points_or_an_error(kind: str, parts: list[str]) -> None:
    with suppress(InsituError):
        PROVIDERS[kind].expand(AttachSpec(kind, tuple(parts)), Context())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("software:cpu-clock:1e6", "software:cpu-clock:1000000"),
        ("software:faults:0x10", "software:faults:16"),
        ("software:cpu-clock:5ms", "software:cpu-clock:5000000"),
        ("hardware:instructions:20us", "hardware:instructions:20000"),
        ("interval:us:1e5", "interval:us:100000"),
        ("interval:1_000us", "interval:us:1_000"),
        ("interval:2m", "interval:ns:120000000000"),
        ("profile:hz:1e2", "profile:hz:100"),
    ],
)
def test_numbers_are_written_as_in_the_language(text: str, name: str) -> None:
    (point,) = expand(text)
    assert point.name == name.replace("_", "")


@pytest.mark.parametrize("text", ["software:faults:1e99", "software:faults:5x", "interval:s:1e", "interval:ms:1s"])
def test_what_is_no_number_or_too_large_is_refused(text: str) -> None:
    with pytest.raises(InsituError, match="is not a number of"):
        expand(text)
