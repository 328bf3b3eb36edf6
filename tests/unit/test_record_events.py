"""Which events are chosen on kernels and for users other than those at hand: perf_event_open(2) is played here."""

import errno
import os
from collections.abc import Callable

import pytest

from insitu.errors import InsituError
from insitu.kernel.perf_event import Attr, Hardware, ReadFormat, Sample, Software, Type
from insitu.record import events
from insitu.record.events import choose

Refuse = Callable[[Attr], int]


def play(monkeypatch: pytest.MonkeyPatch, refuse: Refuse) -> None:
    """Let opening fail with the errno that ``refuse`` gives, and succeed where that is 0."""

    def open_event(attr: Attr, **_: int) -> int:
        code = refuse(attr)
        if code:
            raise InsituError("refused") from OSError(code, os.strerror(code))
        return os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(events, "open_event", open_event)


def no_pmu(attr: Attr) -> int:
    return errno.ENOENT if attr.type == Type.HARDWARE else 0


def test_a_pmu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda attr: 0)
    [event], notes = choose()
    assert (event.name, event.attr.type, event.attr.config) == ("cycles", Type.HARDWARE, Hardware.CPU_CYCLES)
    assert notes == []


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP])
def test_without_a_pmu_the_timer_is_used_and_that_is_said(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    play(monkeypatch, lambda attr: code if attr.type == Type.HARDWARE else 0)
    [event], notes = choose()
    assert (event.name, event.attr.type, event.attr.config) == ("cpu-clock", Type.SOFTWARE, Software.CPU_CLOCK)
    assert len(notes) == 1


def test_an_event_that_was_asked_for_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, no_pmu)
    with pytest.raises(InsituError):
        choose("cycles")


def test_a_kernel_before_6_0_is_not_asked_for_lost_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda attr: errno.EINVAL if attr.read_format & ReadFormat.LOST else 0)
    [event], notes = choose()
    assert (event.attr.read_format, event.attr.build_id, notes) == (ReadFormat.ID, 1, [])


def test_a_kernel_before_5_12_is_not_asked_for_build_ids_either(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda attr: errno.EINVAL if attr.read_format & ReadFormat.LOST or attr.build_id else 0)
    [event], notes = choose()
    assert (event.attr.read_format, event.attr.build_id, notes) == (ReadFormat.ID, 0, [])


def test_what_is_refused_for_another_reason_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda attr: errno.EINVAL)
    with pytest.raises(InsituError):
        choose()


def test_a_user_who_may_not_see_the_kernel_gets_user_code_and_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda attr: 0 if attr.exclude_kernel else errno.EACCES)
    [event], notes = choose()
    assert event.attr.exclude_kernel and event.attr.exclude_callchain_kernel
    assert [note for note in notes if note.startswith("kernel samples excluded (perf_event_paranoid=")]


def test_a_user_who_asked_for_the_kernel_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda attr: 0 if attr.exclude_kernel else errno.EACCES)
    with pytest.raises(InsituError):
        choose(user=False)


def test_only_the_first_of_several_events_reports_mappings_and_all_name_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play(monkeypatch, no_pmu)
    chosen, _ = choose("cpu-clock,page-faults")
    assert [event.attr.mmap2 for event in chosen] == [1, 0]
    assert all(event.attr.sample_type & Sample.IDENTIFIER for event in chosen)


def test_copied_stacks_bring_registers_and_no_user_callchain(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, no_pmu)
    monkeypatch.setattr(os, "uname", lambda: type("Uname", (), {"machine": "x86_64"}))
    [event], _ = choose(stacks="dwarf", stack_bytes=16384)
    assert event.attr.sample_type & Sample.REGS_USER and event.attr.sample_type & Sample.STACK_USER
    assert (event.attr.sample_regs_user, event.attr.sample_stack_user) == (0xFF0FFF, 16384)
    assert event.attr.exclude_callchain_user == 1


def test_an_unknown_event_is_wrong_usage_and_the_known_are_named() -> None:
    with pytest.raises(InsituError, match="cpu-clock") as caught:
        choose("cpu-clocks")
    assert caught.value.status == 2


def test_clocks_and_cycles_are_sampled_by_frequency_and_what_happens_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play(monkeypatch, lambda attr: 0)
    chosen, _ = choose("cycles,cpu-clock,page-faults,context-switches")
    assert [(event.attr.freq, event.attr.sample_period) for event in chosen] == [(1, 99), (1, 99), (0, 1), (0, 1)]
    chosen, _ = choose("cycles,page-faults", period=1000)
    assert [(event.attr.freq, event.attr.sample_period) for event in chosen] == [(0, 1000), (0, 1000)]
    chosen, _ = choose("cycles,page-faults", frequency=50)
    assert [(event.attr.freq, event.attr.sample_period) for event in chosen] == [(1, 50), (1, 50)]


def test_modifiers_choose_the_side_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda attr: 0)
    chosen, _ = choose("cycles:u,cycles:k,cycles:pp,cycles:ukp,faults:u")
    found = [(e.name, e.attr.exclude_user, e.attr.exclude_kernel, e.attr.precise_ip) for e in chosen]
    assert found == [
        ("cycles:u", 0, 1, 0),
        ("cycles:k", 1, 0, 0),
        ("cycles:pp", 0, 0, 2),
        ("cycles:ukp", 0, 0, 1),
        ("page-faults:u", 0, 1, 0),
    ]


def test_events_in_braces_are_one_group_with_the_modifiers_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda attr: 0)
    chosen, _ = choose("cpu-clock,{cycles,instructions:p}:u,page-faults")
    assert [event.name for event in chosen] == ["cpu-clock", "cycles:u", "instructions:pu", "page-faults"]
    groups = [event.group for event in chosen]
    assert groups[0] == groups[3] == -1 and groups[1] == groups[2] != -1
    assert [event.attr.exclude_kernel for event in chosen] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("name", "kind", "config"),
    [
        # include/uapi/linux/perf_event.h: cache | operation << 8 | result << 16; and the code as it stands
        ("L1-dcache-load-misses", Type.HW_CACHE, 0x10000),
        ("LLC-stores", Type.HW_CACHE, 0x102),
        ("dTLB-prefetch-misses", Type.HW_CACHE, 0x10203),
        ("r1a8", Type.RAW, 0x1A8),
        ("cs", Type.SOFTWARE, Software.CONTEXT_SWITCHES),
        ("branch-instructions", Type.HARDWARE, Hardware.BRANCH_INSTRUCTIONS),
    ],
)
def test_perfs_names_are_known(monkeypatch: pytest.MonkeyPatch, name: str, kind: Type, config: int) -> None:
    play(monkeypatch, lambda attr: 0)
    [event], _ = choose(name)
    assert (event.attr.type, event.attr.config) == (kind, config)


@pytest.mark.parametrize("text", ["cycles:z", "{cycles,cs", "{cycles}x", "cycles:", "r", "L1-dcache", "unknown:u"])
def test_what_is_no_event_is_wrong_usage_in_one_line(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    play(monkeypatch, lambda attr: 0)
    with pytest.raises(InsituError) as caught:
        choose(text)
    assert "\n" not in str(caught.value)


def test_events_of_the_kernel_are_refused_where_its_code_is_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda attr: 0 if attr.exclude_kernel else errno.EACCES)
    with pytest.raises(InsituError, match="context-switches happens in the kernel, which this user may not record"):
        choose("context-switches")
    with pytest.raises(InsituError, match="happens in the kernel only") as caught:
        choose("context-switches", kernel=False)
    assert caught.value.status == 2
