"""Events of PMUs by the names and fields that sysfs gives, on trees as machines have them."""

import re
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.kernel import pmu
from insitu.kernel.perf_event import Hardware, Type
from insitu.record.default_events import default_events
from insitu.record.event_names import NamedEvent, all_events, named_events

from .pmu_trees import write


@pytest.fixture(autouse=True)
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pmu, "DEVICES", write(tmp_path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{cycles}}", "a '}' without its '{'"),
        ("cycles}", "a '}' without its '{'"),
        ("{cycles,cs}:u}", "a '}' without its '{'"),
        ("{cycles,cs", "a '{' without its '}'"),
        ("{cycles,{cs}}", "braces belong around a whole group"),
        ("{cycles}u", "braces belong around a whole group"),
    ],
)
def test_braces_that_do_not_match_are_said_to_be_so(text: str, said: str) -> None:
    with pytest.raises(InsituError, match=re.escape(said)):
        all_events(text)


def one(text: str) -> NamedEvent:
    [event] = named_events(text)
    return event


@pytest.mark.parametrize(
    ("text", "config", "words"),
    [
        ("cpu/event=0x3c,umask=0x1/", 0x13C, (0, 0, 0)),
        ("cpu/event=0xc0,cmask=1,inv/", 0x18000C0, (0, 0, 0)),
        ("cpu/mem-loads/", 0x1CD, (3, 0, 0)),
        ("cpu/mem-loads,ldlat=30/", 0x1CD, (30, 0, 0)),
        ("cpu/config=0x5300c0,config1=7/", 0x5300C0, (7, 0, 0)),
        ("topdown-retiring", 0x8000, (0, 0, 0)),
        ("slots", 0x400, (0, 0, 0)),
        ("amd_core/event=0x1ff/", 0x1000000FF, (0, 0, 0)),
    ],
)
def test_terms_go_to_the_bits_that_the_format_files_name(text: str, config: int, words: tuple[int, int, int]) -> None:
    event = one(text)
    assert (event.config, event.words) == (config, words)


def test_a_raw_code_and_the_same_as_terms_are_the_same_config() -> None:
    assert one("r1a8").config == one("cpu/event=0xa8,umask=0x1/").config
    assert (one("r1a8").type, one("cpu/event=0xa8,umask=1/").type) == (Type.RAW, 4)


def test_commas_between_slashes_do_not_end_an_event_and_braces_hold_such_events() -> None:
    found = all_events("{cpu/event=0x3c,umask=0x0/u,instructions}:k,page-faults")
    assert [event.name for event in found] == ["cpu/event=0x3c,umask=0x0/:uk", "instructions:k", "page-faults"]
    assert [event.group for event in found] == [0, 0, -1]


def test_a_name_given_in_the_terms_is_the_one_that_is_shown() -> None:
    assert one("cpu/event=0x3c,name=clocks/").name == "clocks"


def test_a_kind_of_uncore_pmu_means_all_of_them_with_scale_unit_and_the_cpus_that_count() -> None:
    for text in ("uncore_imc/cas_count_read/", "imc/cas_count_read/", "uncore_imc_*/cas_count_read/"):
        found = named_events(text)
        assert [event.type for event in found] == [24, 25]
        assert {(event.name, event.config, event.unit, event.scale, event.cpus) for event in found} == {
            (text, 0xF04, "MiB", 6.103515625e-5, (0, 1))
        }
    assert one("energy-pkg").unit == "Joules"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cpu/umaks=1/", "PMU cpu has no 'umaks'; did you mean 'umask'?"),
        ("cpu/event=0x100/", "event=0x100 does not fit in 8 bits"),
        ("cpu/event=lots/", "event=lots is not a number"),
        ("cpuu/event=1/", "no PMU 'cpuu'; did you mean 'cpu'?"),
        ("topdown-retirin", "unknown event 'topdown-retirin'; did you mean 'topdown-retiring'?"),
        ("cycles:z", "-e cycles:z: unknown modifier"),
        ("{cycles,instructions}:z", "-e cycles:z: unknown modifier"),
        ("L1-dcache-load", "did you mean 'L1-dcache-loads'?"),
    ],
)
def test_what_this_machine_does_not_have_is_refused_with_the_nearest_name(text: str, said: str) -> None:
    with pytest.raises(InsituError) as raised:
        named_events(text)
    assert said in raised.value.message and raised.value.status == 2


def test_modifiers_of_hosts_guests_idle_and_pinning_reach_the_attributes() -> None:
    attr = one("cycles:uGIDe").attr()
    assert (attr.exclude_kernel, attr.exclude_hv, attr.exclude_user) == (1, 1, 0)
    assert (attr.exclude_host, attr.exclude_guest, attr.exclude_idle, attr.pinned, attr.exclusive) == (1, 0, 1, 1, 1)
    attr = one("cycles").attr()
    assert (attr.exclude_host, attr.exclude_guest, attr.exclude_hv, attr.config) == (0, 1, 0, Hardware.CPU_CYCLES)
    assert one("cycles:GH").attr().exclude_host == one("cycles:GH").attr().exclude_guest == 0
    assert one("cycles:P").attr().precise_ip == 3


def test_cache_events_have_perfs_names() -> None:
    # include/uapi/linux/perf_event.h: cache | operation << 8 | result << 16
    assert one("LLC-store-misses").config == 2 | 1 << 8 | 1 << 16
    assert one("L1-dcache-prefetches").config == 2 << 8


def test_the_default_events_end_with_top_down_level_1_where_the_pmu_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = [event.base for event in default_events(0, whole_system=False)]
    assert names[:5] == ["task-clock", "context-switches", "cpu-migrations", "page-faults", "cycles"]
    assert names[-5:] == [f"cpu/{name}/" for name in ("slots", *(f"topdown-{part}" for part in _PARTS))]
    groups = {event.group for event in default_events(0, whole_system=False)[-5:]}
    assert len(groups) == 1 and groups != {-1}
    monkeypatch.setattr(pmu, "DEVICES", str(tmp_path / "none"))
    assert [event.base for event in default_events(0, whole_system=True)][-1] == "branch-misses"


_PARTS = ("retiring", "bad-spec", "fe-bound", "be-bound")
