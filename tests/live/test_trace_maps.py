"""Maps of aggregations, whose values are kept per CPU, while a script deletes and clears them."""

import os
import sys
from pathlib import Path

import pytest

import insitu

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_AGGREGATIONS = (
    *("count()", "sum(3)", "min(5)", "max(-5)", "avg(4)", "stats(4)", "hist(4)", "hist(4, 5)", "lhist(4, 0, 10, 1)"),
    "tseries(4, 1s, 10)",
)


def _left(removal: str, key: str) -> dict[str, list[dict[str, object]]]:
    """What is left in maps of all aggregations after every CPU has counted and then one has removed all of it.

    ``removal`` has MAP for the map's name.
    """
    maps = [f"@n{number}" for number in range(len(_AGGREGATIONS))]
    counting = " ".join(f"{name}{key} = {kind};" for name, kind in zip(maps, _AGGREGATIONS, strict=True))
    removing = " ".join(removal.replace("MAP", name) + ";" for name in maps)
    script = f"""
        profile:hz:299 /!@over/ {{ {counting} @seen[cpu] = 1; if (len(@seen) == ncpus) {{ @over = 1; }} }}
        interval:ms:100 /@over/ {{ @over++; if (@over == 3) {{ {removing} }} if (@over == 5) {{ exit(); }} }}
    """
    found = insitu.trace(script).wait().maps
    assert found["@over"]["value"].to_list() == [5]
    return {kind: found[name].to_dicts() for name, kind in zip(maps, _AGGREGATIONS, strict=True)}


@pytest.mark.parametrize("removal", ["delete(MAP)", "clear(MAP)"])
def test_deleting_a_map_without_keys_deletes_what_all_cpus_have(removal: str) -> None:
    left = _left(removal, "")
    # A count without a key is always there, as bpftrace 0.17 has it.
    assert left.pop("count()") == [{"value": 0}]
    assert left == {kind: [] for kind in left}


@pytest.mark.parametrize("removal", ["delete(MAP, 1)", "clear(MAP)"])
def test_deleting_an_element_deletes_what_all_cpus_have(removal: str) -> None:
    left = _left(removal, "[1]")
    assert left == {kind: [] for kind in left}


def test_after_a_deletion_counting_begins_anew_at_once() -> None:
    script = """begin { @n = count(); @n = count(); delete(@n); @n = count(); print((uint64)@n);
        @s = sum(5); delete(@s); @s = sum(7); print((int64)@s); @m = min(3); delete(@m); @m = min(9);
        print((int64)@m); exit(); }"""
    assert list(insitu.trace(script).events()) == [1, 7, 9]


def test_kernels_that_reach_no_other_cpus_cells_leave_the_deletion_to_user_space(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("insitu.probe.builtins.maps.knows_helper", lambda number: False)
    script = """begin { @s = sum(5); @h = hist(5); @answer = delete(@s); delete(@h); }
        interval:ms:100 { @over++; if (@over == 2) { exit(); } }"""
    found = insitu.trace(script).wait().maps
    assert found["@answer"]["value"].to_list() == [True]
    assert found["@s"].is_empty() and found["@h"].is_empty()


def test_numbers_are_assigned_in_place_where_the_script_asks_for_it() -> None:
    found = insitu.trace(
        "config = { assign_in_place = 1; } BEGIN { @a[1] = 5; @a[2] = 7; @a[1] = -6; exit(); }"
    ).wait()
    assert found.maps["@a"].sort("key").rows() == [(1, -6), (2, 7)]


def test_tuples_are_assigned_in_place_too() -> None:
    script = (
        "config = { assign_in_place = 1; } BEGIN { @a[1] = (5, 6); @a[1] = (@a[1].1, 9); @a[2] = (3, 4); exit(); }"
    )
    assert sorted(insitu.trace(script).wait().maps["@a"].rows()) == [(1, [6, 9]), (2, [3, 4])]


def test_an_element_is_written_to_where_it_is() -> None:
    script = """BEGIN {
        @a[1] = (5, "hello", 7); @n[3] = 4;
        with ($x : @a[1]) { $x.0 = 9; $x.2 += 5; $x.1 = "bye"; } else { @wrong = 1; }
        with ($y : @a[2]) { @wrong = 2; } else { @missing = 1; }
        with ($n : @n[3]) { $n = $n * 10; }
        for ($i : 0..100) { with ($n : @n[3]) { $n += $i; } }
        with ($n : @n[3]) { exit(); return; } else { @wrong = 3; }
    }"""
    found = insitu.trace(script).wait().maps
    assert found["@a"].rows() == [(1, ["9", "bye", "12"])]
    assert found["@n"].rows() == [(3, 4 * 10 + sum(range(100)))]
    assert found["@missing"].item() == 1 and found["@wrong"].is_empty()


def test_what_arguments_lead_to_is_read_without_helpers_where_the_script_asks_for_it() -> None:
    script = """config = { direct_reads = 1; }
        rawtracepoint:sched_process_exec /pid == cpid/ {
            @task[(uint64)pid] = ((uint64)args.p.pid, (uint64)curtask.tgid, (uint64)args.p.real_parent.tgid);
        }"""
    with insitu.trace(script, command="true") as run:
        ((key, value),) = run.wait().maps["@task"].rows()
    assert value == [key, key, os.getpid()]


@pytest.mark.parametrize("length", [62, 63, 64, 65, 1023])
def test_keys_with_short_and_with_long_strings_are_of_one_map(length: int) -> None:
    # A key has room for max_strlen bytes where it is not known how long the text at an address is.
    script = """BEGIN {
        $short = str((uint64)&curtask->comm); $long = str($1); $found = 0;
        @n[$short] = count(); @n[$short] = count(); @n[$long] = count();
        @read[1, str((uint64)&$short), 2] = 3; @read[1, $short, 2] += 4; @read[1, str((uint64)&$long), 2] = 5;
        print((@read[1, str((uint64)&$short), 2], @read[1, $long, 2], @read[2, str((uint64)&$long), 2]));
        @v[1, $short] = 5; @v[1, $short] += 3; @v[2, $long] = 7; @v[2, $long]++;
        print((@v[1, $short], @v[2, $long], @v[3, $short], @v[1, $long]));
        print((has_key(@v, (1, $short)), has_key(@v, (2, $long)), has_key(@v, (1, $long))));
        print(((uint64)@n[$short], (uint64)@n[$long]));
        @text[$short] = $long; @text[$long] = $short;
        print((@text[$short] == $long, @text[$long] == $short));
        print((find(@v, (2, $long), $found), $found));
        print((delete(@v, (1, $short)), delete(@v[2, $long]), delete(@v[2, $long])));
        @cleared[$short] = 1; @cleared[$long] = 2; clear(@cleared);
        @zero[$short] = 1; @zero[$long] = 2; zero(@zero);
        @walked[$short] = 1; @walked[$long] = 2; print(len(@walked));
        for ($each : @walked) { @sum += $each.1; }
        exit();
    }"""
    long, short = "x" * length, Path("/proc/self/comm").read_text().rstrip("\n")
    with insitu.trace(script, parameters=[long]) as run:
        assert list(run.events()) == [
            *((7, 5, 0), (8, 8, 0, 0), (True, True, False), (2, 1), (True, True), (True, 8), (True, True, False), 2),
        ]
        maps = run.maps
    assert maps.pop("@sum")["value"].to_list() == [3]
    assert maps.pop("@v").is_empty()
    assert sorted(maps.pop("@read").rows()) == sorted([(1, short, 2, 7), (1, long, 2, 5)])
    assert {name: dict(found.iter_rows()) for name, found in maps.items()} == {
        "@n": {short: 2, long: 1},
        "@text": {short: long, long: short},
        "@cleared": {},
        "@zero": {short: 0, long: 0},
        "@walked": {short: 1, long: 2},
    }


_JOINT = """
    profile:hz:299 {{ @n[{key}] = count(); @s[{key}] = sum(3); @low[{key}] = min(-5); @high[{key}] = max(7);
        @average[{key}] = avg(4); @h[{key}] = hist(20); @all[{key}] = stats(6); @apart = count(); @cpus[cpu] = 1; }}
    interval:ms:100 /len(@cpus) == ncpus/ {{ exit(); }}
"""


@pytest.mark.parametrize("key", ["1", '1, str(kaddr("vfs_read"), 200)'])
def test_maps_that_are_always_added_to_together_hold_what_each_alone_would(key: str) -> None:
    found = insitu.trace(_JOINT.format(key=key)).wait().maps
    (runs,) = found["@apart"]["value"].to_list()
    assert runs >= (os.cpu_count() or 1)
    assert found["@n"]["value"].to_list() == [runs]
    assert found["@s"]["value"].to_list() == [3 * runs]
    assert found["@low"]["value"].to_list() == [-5]
    assert found["@high"]["value"].to_list() == [7]
    assert found["@average"].select("value", "count", "total").rows() == [(4, runs, 4 * runs)]
    assert [row["count"] for row in found["@h"].to_dicts() if row["low"] == 16] == [runs]
    assert found["@h"]["count"].sum() == runs
    assert found["@all"].select("value", "count", "total").rows() == [(6, runs, 6 * runs)]


def test_updates_of_joint_maps_that_are_full_are_lost_for_each_map() -> None:
    script = """config = { max_map_keys = 2 }
        begin { for ($i : 0..5) { @n[$i] = count(); @s[$i] = sum($i); } exit(); }"""
    traced = insitu.trace(script).wait()
    assert traced.maps["@n"]["key"].sort().to_list() == [0, 1]
    assert traced.maps["@s"].sort("key")["value"].to_list() == [0, 1]
    assert sum(count for count, what in traced.lost if "a map was full" in what) == 2 * 3


def test_joint_maps_are_read_each_for_itself_and_cleared_together() -> None:
    script = """begin {
            for ($i : 0..5) { @n[7] = count(); @s[7] = sum($i); @low[7] = min(0 - $i); @m[7] = avg($i); }
            exit();
        }
        end { @read = ((uint64)@n[7], (uint64)@s[7], (int64)@low[7], (uint64)@m[7], (uint64)@n[8]);
            clear(@n); clear(@s); clear(@low); clear(@m); }"""
    found = insitu.trace(script).wait().maps
    assert found["@read"]["value"].to_list() == [[5, 10, -4, 2, 0]]
    assert all(found[name].is_empty() for name in ("@n", "@s", "@low", "@m"))


_BY_CPU = """
profile:hz:999 {{
    if (@c[{key}] == 0) {{ @before = has_key(@t, {key}); @nothing = @n[{key}]; }}
    @n[{key}] += 1;
    @c[{key}]++;
    if (!has_key(@t, {key})) {{ @t[{key}] = (1, cpu); }}
    with ($t : @t[{key}]) {{ $t.0 += 1; }}
    let $found;
    if (find(@t, {key}, $found) && $found.0 == 5) {{
        @deleted = delete(@t, {key});
        @again = delete(@t, {key});
        @gone = has_key(@t, {key});
    }}
    if (@n[{key}] == 20) {{ exit(); }}
}}
END {{ print(@c); }}
"""


@pytest.mark.parametrize("key", ["cpu", "cpu + 0"])  # in an array, and in a hash
def test_maps_by_cpu_are_as_others(key: str) -> None:
    (first, *_) = sorted(os.sched_getaffinity(0))
    spin = f"taskset -c {first} {sys.executable} -c 'while True: pass'"
    traced = insitu.trace(_BY_CPU.format(key=key), command=spin)
    found = traced.wait().maps
    for name in ("@before", "@gone", "@again"):
        assert found[name]["value"].to_list() == [False], name
    assert found["@deleted"]["value"].to_list() == [True]
    assert found["@nothing"]["value"].to_list() == [0]
    runs = dict(found["@n"].select("key", "value").rows())
    assert runs[first] == 20
    assert dict(found["@c"].select("key", "value").rows()) == runs
    # Five makes it start again: 2, 3, 4, 5 and gone.
    assert dict(found["@t"].select("key", "value").rows()).get(first) in (None, (2 + 19 % 4, first))
