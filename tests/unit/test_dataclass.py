"""Our data classes against the standard library's: the same classes made by both behave alike."""

from __future__ import annotations

import copy
import dataclasses
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from insitu import dataclass as ours


def _classes(maker: Any) -> SimpleNamespace:
    """A few classes of every make in use, by ours or by the standard library."""

    @maker.dataclass(frozen=True, slots=True)
    class Base:
        number: int
        text: str = "a"

        @property
        def double(self) -> int:
            return 2 * self.number

    @maker.dataclass(frozen=True, slots=True)
    class Derived(Base):
        hidden: tuple[int, ...] = maker.field(default=(), compare=False, repr=False)

        def __str__(self) -> str:
            return "derived"

    @maker.dataclass(slots=True)
    class Node:
        start: int
        type: Any = maker.field(default=None, init=False, compare=False)

    @maker.dataclass(slots=True)
    class Child(Node):
        words: list[str] = maker.field(default_factory=list)
        limit: ClassVar[int] = 3

    @maker.dataclass
    class Open:
        sizes: dict[str, int] = maker.field(default_factory=dict)
        count: int = 4

    @maker.dataclass(eq=False)
    class Single:
        number: int

    return SimpleNamespace(**{each.__name__: each for each in (Base, Derived, Node, Child, Open, Single)})


OURS, STANDARD = _classes(ours), _classes(dataclasses)
CALLS = [
    ("Base", (1,), {}),
    ("Base", (), {"number": 2, "text": "b"}),
    ("Derived", (3, "x"), {"hidden": (1, 2)}),
    ("Node", (5,), {}),
    ("Child", (5, ["w"]), {}),
    ("Child", (6,), {}),
    ("Open", (), {"count": 9}),
]


@pytest.mark.parametrize(("name", "arguments", "named"), CALLS)
def test_objects_look_and_compare_as_the_standard_librarys(name: str, arguments: Any, named: Any) -> None:
    made = [getattr(each, name)(*arguments, **named) for each in (OURS, STANDARD)]
    again = [getattr(each, name)(*arguments, **named) for each in (OURS, STANDARD)]
    assert repr(made[0]) == repr(made[1])
    assert [field.name for field in ours.fields(made[0])] == [field.name for field in dataclasses.fields(made[1])]
    for mine, other in zip(made, again, strict=True):
        assert mine == other and mine is not other
        assert mine == copy.copy(other) if name not in ("Base", "Derived") else hash(mine) == hash(other)
    assert made[0] != made[1]


def test_what_is_not_compared_is_not_in_the_hash_either() -> None:
    for each in (OURS, STANDARD):
        assert each.Derived(1, "a", (1,)) == each.Derived(1, "a", (2,))
        assert hash(each.Derived(1, "a", (1,))) == hash(each.Derived(1, "a", (2,)))
        assert each.Derived(1) != each.Base(1)
        assert str(each.Derived(1)) == "derived"
        assert each.Derived(4).double == 8


def test_every_object_gets_a_default_of_its_own_from_a_factory() -> None:
    for each in (OURS, STANDARD):
        first, second = each.Child(1), each.Child(2)
        first.words.append("x")
        assert second.words == []


@pytest.mark.parametrize("arguments", [(), (1, "a", 3), (1,) * 9])
def test_wrong_numbers_of_arguments_are_refused(arguments: Any) -> None:
    for each in (OURS, STANDARD):
        with pytest.raises(TypeError):
            each.Base(*arguments)


def test_frozen_objects_and_unknown_attributes_of_slotted_ones_are_refused() -> None:
    for each in (OURS, STANDARD):
        with pytest.raises(AttributeError):
            each.Base(1).number = 2
        with pytest.raises(AttributeError):
            del each.Base(1).text
        with pytest.raises(AttributeError):
            each.Node(1).other = 2


def test_objects_that_can_change_cannot_be_hashed_unless_they_are_compared_by_identity() -> None:
    for each in (OURS, STANDARD):
        with pytest.raises(TypeError):
            hash(each.Node(1))
        single = each.Single(1)
        assert single != each.Single(1)
        assert {single: 2}[single] == 2


def test_replace_changes_some_fields_and_keeps_the_others() -> None:
    mine = ours.replace(OURS.Derived(1, "x", (3,)), text="y")
    theirs = dataclasses.replace(STANDARD.Derived(1, "x", (3,)), text="y")
    assert repr(mine) == repr(theirs)
    assert mine.hidden == theirs.hidden == (3,)
    assert ours.is_dataclass(mine) and ours.is_dataclass(OURS.Base) and not ours.is_dataclass(3)
