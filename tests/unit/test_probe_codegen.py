"""From typed tree to instructions: the line table, what the loader fills in, limits."""

import struct

import pytest

from insitu.errors import InsituError
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.markers import Marker, Patch
from insitu.probe.layout import ARRAY, HASH, PERCPU_ARRAY, PERCPU_HASH
from insitu.probe.source import ScriptError

from .probe_scripts import compiled

_LD_IMM64 = 0x18


def _markers(code: bytes) -> list[tuple[int, int]]:
    """(source register, immediate) of every ld_imm64 that the loader has to fill in."""
    found = []
    for at in range(0, len(code), 8):
        opcode, registers, _, immediate = struct.unpack_from("<BBhi", code, at)
        if opcode == _LD_IMM64 and registers >> 4:
            found.append((registers >> 4, immediate))
    return found


def test_maps_are_of_the_kind_that_their_use_asks_for() -> None:
    layout = compiled("BEGIN { @a = 1; @b[1] = 1; @c = count(); @d[comm, 1] = hist(1); }").layout
    kinds = {m.name: (m.type, m.key_size) for m in layout.maps if m.is_script_map}
    assert kinds == {"@a": (ARRAY, 4), "@b": (HASH, 8), "@c": (PERCPU_ARRAY, 4), "@d": (PERCPU_HASH, 24)}


def test_code_holds_numbers_of_maps_and_constants_for_the_loader() -> None:
    program = compiled("BEGIN { @x[pid] = elapsed; @p = probe; }").programs[0]
    markers = _markers(program.code)
    assert (Marker.MAP, 0) in markers
    assert (Marker.PATCH, Patch.START_NS) in markers
    assert (Marker.PATCH, Patch.PROBE) in markers
    assert program.per_point


def test_every_instruction_has_a_line_of_the_script() -> None:
    program = compiled("BEGIN\n{\n  @a[1] = 1;\n\n  @b[2] = 2;\n}").programs[0]
    lines = {line for _, line, _ in program.lines}
    assert {3, 5} <= lines <= {0, 1, 3, 5}
    assert [at for at, _, _ in program.lines] == sorted(at for at, _, _ in program.lines)


def test_large_values_leave_the_stack() -> None:
    names = "".join(f"$s{n} = str({n}); @x[$s{n}] = 1; " for n in range(20))
    layout = compiled(f"BEGIN {{ {names} }}").layout
    scratch = next(m for m in layout.maps if m.name == "scratch")
    assert scratch.value_size >= 64 * 10


def test_a_loop_over_a_map_becomes_a_function_of_its_own() -> None:
    program = compiled("BEGIN { @x[1] = 2; $n = 0; for ($kv : @x) { $n += $kv.1; } @y = $n; }").programs[0]
    assert len(program.functions) == 2
    assert (4,) in {(source,) for source, _ in _markers(program.code)}  # BPF_PSEUDO_FUNC


def _calls(code: bytes) -> list[int]:
    """Numbers of the helpers that a program calls."""
    instructions = struct.iter_unpack("<BBhi", code)
    return [immediate for opcode, registers, _, immediate in instructions if opcode == 0x85 and not registers >> 4]


@pytest.mark.parametrize(
    ("loop", "is_callback"),
    [
        ("for ($i : 0..10) { @x[$i] = 1; }", False),
        ("for ($i : 0..1000) { @x[$i] = 1; }", True),
        ("for ($i : 0..@end) { @x[$i] = 1; }", True),
        ("$i = 0; while ($i < @end) { $i++; }", True),
    ],
)
def test_long_loops_are_callbacks_where_the_kernel_has_them(
    loop: str, is_callback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"BEGIN {{ @end = 5; {loop} }}"
    assert (Helper.LOOP in _calls(compiled(script).programs[0].code)) is is_callback
    monkeypatch.setattr("insitu.probe.codegen.loops.knows_helper", lambda number: False)
    assert Helper.LOOP not in _calls(compiled(script).programs[0].code)


@pytest.mark.parametrize(
    ("script", "fetches"),
    [("BEGIN { @x++; @y[1]--; }", False), ("BEGIN { $n = @x++; @y[1] = $n; }", True)],
)
def test_only_steps_whose_value_is_used_need_kernels_with_fetching_atomics(
    script: str, fetches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def atomics() -> set[int]:
        code = compiled(script).programs[0].code
        return {immediate for opcode, _, _, immediate in struct.iter_unpack("<BBhi", code) if opcode == 0xDB}

    add, fetch_add = 0, 1  # the immediates of BPF_ATOMIC, include/uapi/linux/bpf.h
    monkeypatch.setattr("insitu.probe.codegen.maps.knows_fetching_atomics", lambda: True)
    assert atomics() == {fetch_add if fetches else add}
    monkeypatch.setattr("insitu.probe.codegen.maps.knows_fetching_atomics", lambda: False)
    assert atomics() == {add}


@pytest.mark.parametrize(
    "loop", ["for ($i : 0..@n) { $s += $i; }", "$i = 0; while ($i < @n) { $s += $i; $i++; }"], ids=["range", "while"]
)
def test_a_sum_over_a_walked_loop_is_compiled(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insitu.probe.codegen.loops.knows_helper", lambda number: number != Helper.LOOP)
    assert compiled(f"BEGIN {{ @n = 5; $s = 0; {loop} print($s); }}").programs[0].code


@pytest.mark.parametrize("use", ["for ($kv : @x) { print($kv); }", "print(len(@x));"])
def test_without_walks_over_maps_the_script_is_told_which_kernel_has_them(
    use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insitu.probe.codegen.loops.knows_helper", lambda number: number != Helper.FOR_EACH_MAP_ELEM)
    with pytest.raises(ScriptError, match=r"a loop over a map needs Linux 5\.13|len\(\) of a map needs Linux 5\.13"):
        compiled(f"BEGIN {{ @x[1] = 2; {use} }}")


def test_loops_may_be_nested_as_deep_as_the_kernel_lets_functions_call() -> None:
    def nested(depth: int) -> str:
        body = "@n++;"
        for level in range(depth):
            body = f"for ($i{level} : 0..100) {{ {body} }}"
        return f"BEGIN {{ {body} }}"

    assert len(compiled(nested(7)).programs[0].functions) == 8
    with pytest.raises(ScriptError, match="loops may be nested 7 deep"):
        compiled(nested(8))


def test_a_script_of_5000_lines_compiles() -> None:
    lines = "".join(f"  $x = {n};\n" for n in range(5000))
    assert compiled("BEGIN {\n" + lines + "  @x = $x;\n}").programs[0].code


def test_what_llvm_cannot_compile_is_an_error_of_one_line() -> None:
    from insitu.probe.codegen.object import compile_ir

    with pytest.raises(InsituError, match="LLVM cannot compile") as caught:
        compile_ir("nonsense")
    assert "\n" not in str(caught.value)


_DECLARATIONS = """target triple = "bpf"
declare i64 @far(i64, i64, i64, i64, i64, i64)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("%r = sdiv i64 %a, %b", "signed division"),
        ("%w = zext i64 %a to i128 %m = mul i128 %w, %w %h = lshr i128 %m, 64 %r = trunc i128 %h to i64", "__multi3"),
        ("%f = uitofp i64 %a to double %g = fmul double %f, %f %r = fptoui double %g to i64", "built-in function"),
        (f"%r = call i64 @far({', '.join(['i64 %a'] * 6)})", "too many arguments"),
        ("%r = atomicrmw max ptr %p, i64 4 seq_cst", "Cannot select"),
        ("%o = atomicrmw add ptr %p, i8 4 seq_cst %r = zext i8 %o to i64", "atomic"),
        ("call void @llvm.memcpy.p0.p0.i64(ptr %p, ptr %q, i64 %a, i1 0) %r = add i64 %a, 1", "memcpy"),
        ("%s = alloca i64, i64 %a store volatile i64 %a, ptr %s %r = add i64 %a, 1", "dynamic stack"),
        (
            "%s = alloca [200 x i64] %e = getelementptr i64, ptr %s, i64 %a store volatile i64 %a, ptr %e "
            "%r = load volatile i64, ptr %s",
            "512 bytes of stack",
        ),
        ("br label %n n: %r = phi i64 [ 0, %n ]", "PHI node"),
    ],
)
def test_what_bpf_lacks_is_an_error_of_one_line_that_ends_nothing(
    body: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from insitu.probe.codegen.object import compile_ir

    head = 'define i64 @f(ptr %p, ptr %q, i64 %a, i64 %b) section "p0" {'
    with pytest.raises(InsituError, match="cannot compile this program: .*" + reason) as caught:
        compile_ir(f"{_DECLARATIONS}{head} {body} ret i64 %r }}")
    assert "\n" not in str(caught.value)
    assert "unknown" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert compiled("BEGIN { @x = 1; }").programs[0].code  # LLVM still works


def _kept_in(script: str) -> dict[str, int]:
    """How many maps of the kernel's a script's maps with keys are kept in, and the bytes of their values."""
    maps = compiled(script).layout.maps
    own = {number for number, each in enumerate(maps) if each.is_script_map}
    holders = {maps[number].within if maps[number].within >= 0 else number for number in own}
    return {maps[number].name: maps[number].value_size for number in holders}


@pytest.mark.parametrize(
    "script",
    [
        "BEGIN { @a[pid] = count(); @b[pid] = sum(2); }",
        "BEGIN { @a[pid, tid] = count(); @b[pid, tid] = sum(2); } END { print(@a); print(@b, 3); }",
        "macro low(x) { let $y = x & 1; $y ? 2 : 3 } BEGIN { @a[low(pid)] = count(); @b[low(pid)] = sum(2); }",
        "BEGIN { @a[1] = count(); @b[1] = sum(2); } END { if (pid) { @a[tid] = count(); @b[tid] = sum(1); } }",
        "BEGIN { @a[pid] = count(); @b[pid] = sum(2); } END { $n = (uint64)@a[1]; print((int64)@b[$n]); }",
        "BEGIN { @a[pid] = count(); @b[pid] = sum(2); } END { clear(@b); print(1); clear(@a); }",
    ],
)
def test_maps_that_are_always_added_to_together_are_one_map_of_the_kernel(script: str) -> None:
    assert _kept_in(script) == {"joint @a, @b": 8 + 16}


@pytest.mark.parametrize(
    "script",
    [
        "BEGIN { @a[pid] = count(); @b[tid] = sum(2); }",  # another key
        "BEGIN { @a[pid] = count(); @b[pid, 1] = sum(2); }",
        "BEGIN { @a[pid] = count(); if (pid) { @b[pid] = sum(2); } }",  # not always
        "BEGIN { @a[pid] = count(); @b[pid] = sum(2); } END { @a[pid] = count(); }",
        "BEGIN { @a[pid] = count(); @b[pid] = sum(2); } END { clear(@a); }",
        "BEGIN { @a[pid] = count(); @b[pid] = sum(2); } END { clear(@a); if (pid) { clear(@b); } }",
        "BEGIN { @a[pid] = count(); @b[pid] = sum(2); delete(@b[pid]); }",
        "BEGIN { @a[pid] = count(); @b[pid] = sum(2); } END /@b[1]/ { }",
        "BEGIN { @a[pid] = count(); @b[pid] = sum(2); for ($kv : @a) { print($kv); } }",
        "BEGIN { $i = 0; @a[$i++] = count(); @b[$i++] = sum(2); }",  # what changes something is done twice
        "BEGIN { @a[nsecs] = count(); @b[nsecs] = sum(2); }",
        "let @a = percpuhash(5); BEGIN { @a[pid] = count(); @b[pid] = sum(2); }",
        "BEGIN { @a[pid] = hist(1, 5); @b[pid] = hist(2, 5); }",  # larger than a value per CPU may be
    ],
)
def test_maps_that_may_have_other_keys_are_kept_apart(script: str) -> None:
    assert set(_kept_in(script)) == {"@a", "@b"}


@pytest.mark.parametrize(
    "script",
    [
        "BEGIN { @a[cpu] = 1; }",
        "BEGIN { @a[cpu] = (1, comm); with ($a : @a[cpu]) { $a.0 = 2; } delete(@a, cpu); } END { clear(@a); }",
        "BEGIN { @a[cpu] = 1; } END { print(@a); }",
        "BEGIN { @a[cpu]++; let $v; if (find(@a, cpu, $v)) { print($v); } }",
    ],
)
def test_maps_whose_only_keys_are_cpus_are_arrays(script: str) -> None:
    assert set(_kept_in(script)) == {"each CPU's @a"}


@pytest.mark.parametrize(
    "script",
    [
        "BEGIN { @a[cpu] = 1; @a[0] = 2; }",
        "BEGIN { @a[cpu] = 1; let $v; if (find(@a, 3, $v)) { print($v); } }",
        "BEGIN { @a[cpu] = 1; for ($kv : @a) { print($kv); } }",
        "BEGIN { @a[cpu] = 1; print(len(@a)); }",
        "BEGIN { @a[cpu] = count(); }",
        "BEGIN { @a[cpu + 1] = 1; }",
        "BEGIN { @a[cpu, 1] = 1; }",
        "let @a = hash(10); BEGIN { @a[cpu] = 1; }",
    ],
)
def test_maps_with_other_keys_than_cpus_are_hashes(script: str) -> None:
    assert set(_kept_in(script)) == {"@a"}


def test_computing_what_an_event_holds_is_left_out_where_it_is_dropped_but_not_what_it_changes() -> None:
    macro = "macro low(x) { let $y = x & 1; $y ? 2 : 3 } "
    alone = compiled("BEGIN { @n = 1; }", events="drop").programs[0].code
    dropped = 'BEGIN { @n = 1; emit("e", (a = low((int64)pid), b = pid)); }'
    assert compiled(macro + dropped, events="drop").programs[0].code == alone
    changes = 'BEGIN { @n = 1; $i = 1; emit("e", (a = $i++, b = @m++)); @n = $i; }'
    assert len(compiled(changes, events="drop").programs[0].code) > len(alone)
