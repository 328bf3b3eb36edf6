"""Values of a running program: structs, arrays, copies and addresses, against what C and bpftrace make of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import insitu
from insitu.probe.source import ScriptError

from .tracing import run_trace, values_at_begin

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_DEFINITIONS = """
struct inner { int a; unsigned b:3; unsigned c:5; };
enum color { RED, GREEN = 5, BLUE };
struct point { int x; char tag[8]; struct point *next; struct inner in; union { int small; long large; } either;
    int numbers[3]; struct inner inners[2]; bool on; enum color color; };
"""
_SOURCE = (
    "#include <stdbool.h>\n#include <stdio.h>\n"
    + _DEFINITIONS
    + r"""
static void show_inner(struct inner i) { printf("{ .a = %d, .b = %d, .c = %d }", i.a, i.b, i.c); }
static void show(struct point p)
{
    printf("{ .x = %d, .tag = %s, .next = %#lx, .in = ", p.x, p.tag, (long)p.next);
    show_inner(p.in);
    printf(", .either = { .small = %d, .large = %ld }, .numbers = [%d,%d,%d], .inners = [", p.either.small,
           p.either.large, p.numbers[0], p.numbers[1], p.numbers[2]);
    show_inner(p.inners[0]); printf(","); show_inner(p.inners[1]);
    printf("], .on = %s, .color = %s }\n", p.on ? "true" : "false", p.color == BLUE ? "BLUE" : "?");
}
__attribute__((noinline)) long work(struct point *p, long n) { asm volatile("" :: "r"(p) : "memory"); return n; }
int main(void)
{
    struct point p = {-7, "second", &p, {1, 2, 3}, {.large = 4}, {1, -2, 3}, {{1, 2, 3}, {-4, 5, 6}}, 1, BLUE};
    show(p);
    work(&p, 42);
    return 0;
}
"""
)


def _built(directory: Path, source: str, *options: str) -> Path:
    (directory / "program.c").write_text(source)
    subprocess.run(["gcc", "-O1", "-w", *options, "-o", "program", "program.c"], cwd=directory, check=True)
    return directory / "program"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without debug information: the script's definitions count."""
    return _built(tmp_path_factory.mktemp("plain"), _SOURCE)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With debug information."""
    return _built(tmp_path_factory.mktemp("described"), _SOURCE, "-g")


def _lines(program: Path, body: str, *, definitions: str = _DEFINITIONS) -> list[str]:
    """What a script prints that runs once, when ``work`` is called; the program's own output first."""
    script = f"{definitions} uprobe:{program}:work {{ {body} }}"
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-c", f"stdbuf -o0 {program}", "-e", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line]


# Printing


def test_a_struct_prints_as_the_program_itself_does(program: Path) -> None:
    by_the_program, *ours = _lines(
        program, "print(*(struct point *)arg0); $copy = *(struct point *)arg0; print($copy); print(($copy, 1).0);"
    )
    assert ours == [by_the_program] * 3


def test_types_and_enumerators_of_the_program_need_no_definition(described: Path) -> None:
    by_the_program, *ours = _lines(
        described,
        "print(*(struct point *)arg0); print(*args.p); print(((struct point *)arg0).inners[1].a); "
        "print(args.p->color == BLUE); print((enum color)5); print(sizeof(struct inner));",
        definitions="",
    )
    assert ours == [by_the_program, by_the_program, "-4", "true", "GREEN", "8"]


def test_all_arguments_are_one_value(described: Path) -> None:
    body = "print(args); $all = args; print($all.n); print($all.p->tag); @x[args] = 1; print(@x[args]); clear(@x);"
    by_the_program, *ours = _lines(described, body, definitions="")
    address = re.search(r"\.next = (0x\w+)", by_the_program)
    assert address is not None
    assert ours == [f"{{ .p = {address[1]}, .n = 42 }}", "42", "second", "1"]


_CHANGING = """
struct s { %s long value; };
__attribute__((noinline)) void work(struct s *s) { asm volatile("" :: "r"(s) : "memory"); }
int main(void) { struct s s = {.value = 5}; work(&s); return 0; }
"""


def test_a_changed_program_is_looked_at_anew(tmp_path: Path) -> None:
    for members in ("", "long before[3];"):
        built = _built(tmp_path, _CHANGING % members, "-g")
        assert _lines(built, "print(((struct s *)arg0)->value);", definitions="") == ["5"]


def _without_the_programs(output: bytes) -> list[bytes]:
    """Lines without the program's own, which shows an address that differs from run to run."""
    return [line for line in output.splitlines() if b".color" not in line]


@pytest.mark.skipif(shutil.which("bpftrace") is None, reason="needs bpftrace, the peer")
@pytest.mark.parametrize(
    "body",
    [
        "print(*(struct head *)arg0);",
        "@x = *(struct head *)arg0; @y[1] = *(struct head *)arg0; $c = *(struct head *)arg0; print($c.tag);",
        "$n = ((struct tail *)arg0)->numbers; print($n); print($n[1]); @a = $n; @b[1] = $n; @k[$n, 2] = 1;",
        "print(((struct tail *)arg0)->grid); @x[((struct tail *)arg0)->grid[1]] = 1;",
        "@ = (1, *(struct head *)arg0, ((struct tail *)arg0)->numbers);",
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_structs_and_arrays_print_as_bpftraces(program: Path, body: str, form: str) -> None:
    definitions = (
        "struct head { int x; char tag[8]; }; struct tail { char before[40]; int numbers[3]; char more[0]; "
        "int grid[2][2]; };"
    )
    script = f"{definitions} uprobe:{program}:work {{ {body} }}"
    words = ["-f", form, "-c", str(program), "-e", script]
    mounts = 'mount -t debugfs d /sys/kernel/debug; mount -t tracefs t /sys/kernel/tracing; exec bpftrace "$@"'
    peer = subprocess.run(["unshare", "-m", "sh", "-c", mounts, "sh", *words], capture_output=True, timeout=300)
    ours = subprocess.run([sys.executable, "-m", "insitu", "trace", *words], capture_output=True, timeout=300)
    assert ours.returncode == 0, ours.stderr
    # The number of attached probes has another form since 0.17.
    ours, theirs = (
        [line for line in _without_the_programs(done.stdout) if b"attached_probes" not in line]
        for done in (ours, peer)
    )
    assert ours == theirs


# Copies and addresses


_CASES = [
    (
        "$c = *$p; print(($c.x, $c.tag, $c.in.b, $c.in.c, $c.inners[1].a, $c.numbers[1]));",
        "(-7, second, 2, 3, -4, -2)",
    ),
    ("$i = $p->inners; print($i[1]); print($i[1].c);", "{ .a = -4, .b = 5, .c = 6 } 6"),
    ("@m[$p->in, 1] = $p->inners; $v = @m[$p->in, 1]; print($v[0].c); print(@m[$p->in, 1][1].a); clear(@m);", "3 -4"),
    ("@s = *$p; print(@s.in); print(@s.tag); print(@s.next->x); clear(@s);", "{ .a = 1, .b = 2, .c = 3 } second -7"),
    ('$t = (*$p, "x"); print($t.0.tag); print($t[1]); print($t.0.inners[1].c);', "second x 6"),
    ("$c = *$p; $d = $c; print($d.next->next->tag); print((*$c.next).x);", "second -7"),
    ("$n = $p->numbers; print($n == $p->numbers); print($n != $p->numbers);", "true false"),
    # Addresses
    ("$a = &$p->in; print($a->a); print(*(&$p->x)); print((uint64)&$p->x == arg0);", "1 -7 true"),
    ("$c = *$p; $q = &$c.inners[1]; print($q->a); print(*(&$c.x)); print(str(&$c.tag));", "-4 -7 second"),
    ("$n = 5; $q = &$n; print(*$q); $n = 6; print(*$q); print(*kptr($q));", "5 6 6"),
    ('$s = "text"; $q = &$s; print(*$q); print($q != 0);', "text true"),
    ("$i = &$p->inners[1]; print(($i - 1)->c); print($i - &$p->inners[0]); print(*$p->numbers);", "3 1 1"),
    ("@x = 1; print(((struct bpf_map *)&@x)->max_entries); clear(@x);", "1"),
    ("@x[1] = 1; print((&@x)->max_entries); clear(@x);", "4096"),
    # Casts
    (
        "print((uint8[8])258); print((uint16[])(uint32)65538); print((uint64)(uint8[8])258);",
        "[2,1,0,0,0,0,0,0] [2,1] 258",
    ),
    ("print((uint16)$p->tag[0]); print((int32)$p->numbers[1]); $t = (uint8[4])-1; print((int32)$t);", "115 -2 -1"),
    (
        'print(((bool)"a", (bool)"", (bool)7, (bool)0, (bool)$p, true)); print((int64)true);',
        "(true, false, true, false, true, true) 1",
    ),
    ('print((enum color)$p->color); print(GREEN); printf("%d %s\\n", GREEN, $p->color);', "BLUE GREEN 5 BLUE"),
    ("let $x: typeof($p->in) = $p->inners[1]; print($x.c); $q = (typeof($p))arg0; print($q->tag);", "6 second"),
    ("let $x: typeof($p->numbers[0]) = 4294967297; print($x); print((string)$p->tag == $p->tag);", "1 true"),
    # Tuples
    ("$k = (5, 6); @k[$k] = 7; print(@k[5, 6]); @k[1, 2] = 3; print(@k[(1, 2)]); clear(@k);", "7 3"),
    ('@n[(a=1, b=2)] = 3; print(@n[(b=2, a=1)]); print((a=1, b="x")); clear(@n);', "3 { .a = 1, .b = x }"),
    ('$t = (foo=1, bar="x"); $t = (bar="yy", foo=2); print($t); print($t.bar);', "{ .foo = 2, .bar = yy } yy"),
    ("$t = (1,); print($t); print($t[0]); print((1, (2, 3))[1].1);", "(1) 1 3"),
    ("$u = (uint8)200; $u += 100; print($u); $q = &$u; print(*$q);", "300 300"),
    # Comparing
    ('print(((1, "a") == (1, "a"), (1, "a") != (1, "a"), (1, "a") == (1, "b")));', "(true, false, false)"),
    ('$t = (1, (comm, 2)); print($t == (1, (comm, 2))); print($t == (1, ("x", 2)));', "true false"),
    (
        'print(($p->tag == "second", $p->tag == "secondhand", "second" == str($p->tag), $p->tag != "s"));',
        "(true, false, true, true)",
    ),
    ("print(buf($p->tag, 3) == buf($p->tag, 3)); print(buf($p->tag, 3) == buf($p->tag, 4));", "true false"),
]


@pytest.fixture(scope="module")
def answers(program: Path) -> list[str]:
    """What each case printed, all in one run: a probe of its own, whose maps have names of their own."""
    probes = []
    for number, (body, _) in enumerate(_CASES):
        own = re.sub(r"@([a-z])", rf"@case{number}_\1", body)
        probes.append(f'uprobe:{program}:work {{ printf("\\n#{number} "); $p = (struct point *)arg0; {own} }}')
    command = [
        sys.executable,
        "-m",
        "insitu",
        "trace",
        "-q",
        "-c",
        str(program),
        "-e",
        _DEFINITIONS + " ".join(probes),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ours = "\n".join(line for line in done.stdout.split("\n") if ".either" not in line)
    found = dict(re.findall(r"^#(\d+) (.*?)(?=\n#|\n\n|\Z)", ours, re.M | re.S))
    return [found[str(number)].strip().replace("\n", " ") for number in range(len(_CASES))]


@pytest.mark.parametrize("number", range(len(_CASES)), ids=[body for body, _ in _CASES])
def test_copies_addresses_and_casts_are_what_c_says(answers: list[str], number: int) -> None:
    assert answers[number] == _CASES[number][1]


def test_choices_and_blocks_have_values() -> None:
    one = "$n == 1"  # which the compiler does not know
    assert values_at_begin(
        f'{{ $n = nsecs > 0; if ({one}) {{ "yes" }} else {{ "no" }} }}',
        f"{{ $n = nsecs > 0; if {one} {{ $a = 2; $a * 3 }} else if (pid) {{ 5 }} else {{ 6 }} }}",
        "if (pid == 0) { (1, comm) } else { let $t = (2, comm); $t }",
        "pid ?: 7",
        "(pid - pid) ?: (pid == 0) ?: 9",
        "str(0) ?: comm",
        'comm ?: "nameless"',
        "curtask ?: curtask == 0",
        "{ let $b = 1; { $b + 1 } }",
    ) == ["yes", 6, (2, _own_name()), os.getpid(), 9, _own_name(), _own_name(), *values_at_begin("curtask"), 2]


def _own_name() -> str:
    return Path("/proc/self/comm").read_text().strip()


def test_what_is_evaluated_for_its_effect_only_may_have_any_type() -> None:
    script = """BEGIN { _ = @x++; _ = "text"; _ = (1, "a"); pid ? "a" : "b"; pid ?: 3; { print(1); "text" }
        if (pid) { "a" } else { print(2) } pid == 0 ? print(3) : print(4); _ = delete(@y, 1); @y[1] = 2;
        $v = if (pid) { print(5); 6 } else { exit(); 7 }; print($v); print(@x + 0); exit(); }"""
    assert list(insitu.trace(script).events()) == [1, 4, 5, 6, 1]


def test_loops_over_maps_share_large_variables() -> None:
    script = (
        'BEGIN { $t = *curtask; $s = "before"; $n = 0; @m[1] = *curtask; @m[2] = *curtask; '
        "for ($kv : @m) { $n += $kv.0; $s = $kv.1.comm; @same[$kv.1.tgid == $t.tgid] = 1; } "
        "print(($n, $s == comm, $t.tgid == pid)); clear(@m); } interval:ms:1 { exit(); }"
    )
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-e", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.split("\n")[0] == "(3, true, true)", done.stderr
    assert "@same[true]: 1\n" in done.stdout and "@same[false]" not in done.stdout


def test_loops_over_maps_of_aggregations_print_their_elements() -> None:
    fill = (
        '@h[1, "a"] = hist(5); @h[2, "b"] = hist(100); @h[2, "b"] = hist(100); @l[7] = lhist(3, 0, 10, 5); '
        "@s[3] = stats(4); @s[3] = stats(6); @c[1] = count(); @c[1] = count(); @a[1] = avg(10); @a[1] = avg(20); "
        "@low[1] = min(7); @low[1] = min(-3); @high[1] = max(7); @sum[1] = sum(40); @sum[1] = sum(2); "
    )
    loops = "".join(f"for ($kv : @{name}) {{ print($kv.1); }} " for name in ("h", "l", "s"))
    numbers = "".join(f"for ($kv : @{name}) {{ print($kv); }} " for name in ("c", "a", "low", "high", "sum"))
    casts = "print(((uint64)@c[1], (int64)@a[1], (int64)@low[1], (int32)@sum[1])); "
    text = f'BEGIN {{ {fill} {loops} print("--"); {numbers} {casts} print("--"); exit(); }}'
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-e", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    elements, plain, maps = done.stdout.split("--\n")
    # Printed one by one, they are what the end of the run prints.
    shown = sorted(line for line in elements.splitlines() if line)
    ends = [line for line in maps.splitlines() if line and not re.match(r"@(c|a|low|high|sum)\[", line)]
    assert shown == sorted(ends)
    assert "@s[3]: count 2, average 5, total 10" in shown
    assert "@h[2, b]: " in shown and any(re.match(r"\[64, 128\) +2 \|@+\|$", line) for line in shown)
    assert plain.splitlines() == ["(1, 2)", "(1, 15)", "(1, -3)", "(1, 7)", "(1, 42)", "(2, 15, -3, 42)"]


def test_large_kernel_structs_are_copied_whole() -> None:
    script = "BEGIN { $t = *curtask; @t = $t; print(($t.tgid == pid, $t.comm == comm, @t.tgid == pid)); clear(@t); }"
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-e", f"{script} interval:ms:1 {{ exit(); }}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[:1] == ["(true, true, true)"], done.stderr


def test_in_python_structs_are_dictionaries_and_columns_of_structs(program: Path) -> None:
    script = (
        f"{_DEFINITIONS} uprobe:{program}:work {{ $i = ((struct point *)arg0)->in; print($i); @m[$i] = $i; "
        'emit("e", (inner=$i, numbers=((struct point *)arg0)->numbers)); }'
    )
    with insitu.trace(script, command=str(program)) as trace:
        expected = {"a": 1, "b": 2, "c": 3}
        assert list(trace.events()) == [expected]
    with insitu.trace(script, command=str(program)) as trace:
        frame = trace.maps["@m"]
        assert frame["key"].to_list() == frame["value"].to_list() == [expected]
        assert trace.tables["e"].select("inner", "numbers").row(0) == (expected, [1, -2, 3])


def test_in_a_session_members_of_structs_can_be_asked_for(described: Path, tmp_path: Path) -> None:
    script = f'uprobe:{described}:work {{ emit("e", (point=*args.p, all=args, pair=(1, "x"))); }}'
    words = ["-q", "-o", str(tmp_path / "run.insitu"), "-c", str(described), "-e", script]
    subprocess.run([sys.executable, "-m", "insitu", "trace", *words], check=True, capture_output=True, timeout=300)
    query = 'select point.tag, point.inners[2].a as a, point."in".c as c, "all".n, point.color from event.e'
    command = [sys.executable, "-m", "insitu", "sql", str(tmp_path / "run.insitu"), "--format", "csv", query]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "second,-4,3,42,6"


_FULL_TYPES = """
struct full { char id[4]; char eight[8]; char part[6]; unsigned char mac[6]; signed char tiny[3]; char one[1];
    char pairs[2][3]; char large[70]; };
"""
_FULL_TEXT = "0123456789" * 7
_FULL_SOURCE = (
    _FULL_TYPES
    + f"""
__attribute__((noinline)) void take(struct full *p) {{ asm volatile("" :: "r"(p) : "memory"); }}
int main(void)
{{
    struct full f = {{"AAAA", "12345678", "ab\\0cd", {{1, 2, 3, 4, 5, 99}}, {{-1, 2, 3}}, {{'z'}},
        {{"abc", "de"}}, "{_FULL_TEXT}"}};
    take(&f);
}}
"""
)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose char arrays are full: they have no zero."""
    return _built(tmp_path_factory.mktemp("full"), _FULL_SOURCE, "-g")


def _at_take(full: Path, definitions: str, pointer: str, body: str) -> list[str]:
    script = f"{definitions} uprobe:{full}:take {{ $p = {pointer}; {body} }}"
    return [line for line in run_trace("-c", str(full), "-e", script).stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("definitions", "pointer"),
    [("", "args.p"), (_FULL_TYPES, "(struct full *)arg0")],
    ids=["described by DWARF", "defined in the script"],
)
def test_char_arrays_without_a_zero_keep_their_last_byte(full: Path, definitions: str, pointer: str) -> None:
    body = """
        printf("%s %s %s %s %s\\n", $p->id, $p->eight, $p->part, $p->one, $p->large);
        printf("%d %d %d\\n", strlen($p->id), strlen($p->eight), strlen($p->part));
        printf("%d %d %d", $p->id == "AAAA", $p->id == "AAA", $p->id == "AAAAA");
        printf(" %d %d %d\\n", $p->eight == "12345678", $p->eight == "123456789", $p->part == "ab");
        printf("%s %s %s\\n", str($p->id), str($p->mac), str($p->eight, 3));
        $copy = *$p; $eight = $copy.eight;
        printf("%s %s %s %s %d\\n", $copy.id, $eight, str($copy.id), str($eight, 3), $eight == $p->eight);
        print(*$p);
        @[$p->id, $p->eight] = $p->one;
        print(@);
        clear(@);
    """
    values = ".id = AAAA, .eight = 12345678, .part = ab, .mac = [1,2,3,4,5,99], .tiny = [-1,2,3], .one = z, "
    assert _at_take(full, definitions, pointer, body) == [
        f"AAAA 12345678 ab z {_FULL_TEXT}",
        "4 8 2",
        "1 0 0 1 0 1",
        "AAAA \x01\x02\x03\x04\x05c 12",
        "AAAA 12345678 AAAA 12 1",
        f"{{ {values}.pairs = [abc,de], .large = {_FULL_TEXT} }}",
        "@[AAAA, 12345678]: z",
    ]


def test_an_array_of_unsigned_char_is_the_same_type_from_dwarf_and_from_a_script(full: Path) -> None:
    definitions = _FULL_TYPES.replace("struct full", "struct own")
    body = "$q = (struct own *)arg0; @m = $p->mac; @m = $q->mac; print($p->mac == $q->mac); print(@m); clear(@m);"
    lines = _at_take(full, definitions, "args.p", body)
    assert lines[:2] == ["true", "@m: [1,2,3,4,5,99]"]


def test_full_char_arrays_are_whole_in_events(full: Path) -> None:
    script = f'uprobe:{full}:take {{ $c = *args.p; emit("x", (id=args.p->id, large=args.p->large, copy=$c.large)); }}'
    with insitu.trace(script, command=str(full)) as trace:
        table = trace.wait().tables["x"]
        assert table.select("id", "large", "copy").rows() == [("AAAA", _FULL_TEXT, _FULL_TEXT)]


_BY_NAME = """
    $a = (3, (a=1, b=2)); $b = (-50, (b=20, a=500)); $a = $b; print($a);
    $s = (x="abc", y=(n=1, t="a longer text")); $o = (y=(t="t", n=7), x="a much longer text"); $s = $o; print($s);
    $u = ("a", "a text of more bytes"); $u = ("another text of bytes", "b"); print($u);
    @m[(p=1, q=(r=2, s="x"))] = (k=1, l=2); @m[(q=(s="x", r=2), p=1)] = (l=20, k=10); print(@m); clear(@m);
    $w = cpu < 0 ? (a=1, b=(c=2, d=3)) : (b=(d=30, c=20), a=10); print($w);
    $p = &$b; $z = (0, (a=1, b=2)); $z = *$p; print($z.1.a);
    printf("%d%d", (a=1, b=2) == (b=2, a=1), (a=1, b=2) == (b=1, a=2));
    printf("%d%d", (1, (n=1, t="x")) == (1, (t="x", n=1)), (1, (n=1, t="x")) != (1, (t="xy", n=1)));
    exit();
"""


def test_named_tuples_are_assigned_and_compared_by_name_however_deep() -> None:
    assert [line for line in run_trace("-e", f"begin {{ {_BY_NAME} }}").stdout.splitlines() if line] == [
        "(-50, { .a = 500, .b = 20 })",
        "{ .x = a much longer text, .y = { .n = 7, .t = t } }",
        "(another text of bytes, b)",
        "@m[{ .p = 1, .q = { .r = 2, .s = x } }]: { .k = 10, .l = 20 }",
        "{ .a = 10, .b = { .c = 20, .d = 30 } }",
        "500",
        "1011",
    ]


_LAYOUTS = """
#include <stdio.h>
#include <stdint.h>
#include <string.h>
struct one { int8_t a; int64_t b; int8_t c; int64_t d; };
struct two { int8_t a; int16_t b; int32_t c; };
struct inner { int16_t a; char b[4]; };
struct three { int8_t a; int32_t b; struct inner c; uint8_t d; };
int main(void)
{
    struct three t;
    memset(&t, 0, sizeof t);
    t.a = -1; t.b = 7; t.c.a = 5; strcpy(t.c.b, "xyz"); t.d = 9;
    printf("%zu %zu %zu %zu\\n", sizeof(struct one), sizeof(struct two), sizeof t, (char *)&t.c.b - (char *)&t);
    for (unsigned i = 0; i < sizeof t; i++) printf("\\\\x%02x", ((unsigned char *)&t)[i]);
}
"""


def test_tuples_are_laid_out_as_cs_structs_where_they_have_an_address(tmp_path: Path) -> None:
    by_c = subprocess.run([_built(tmp_path, _LAYOUTS)], capture_output=True, text=True, check=True).stdout
    script = """begin {
        $t = ((int8)-1, (int32)7, (a=(int16)5, b="xyz"), (uint8)9);
        $one = ((int8)1, (int64)1, (int8)1, (int64)1);
        printf("%d %d ", sizeof($one), sizeof(((int8)1, (int16)1, (int32)1)));
        printf("%d %d\\n%rx\\n", sizeof($t), (uint64)&$t.2.b - (uint64)&$t, buf(&$t, sizeof($t)));
        $p = &$t;
        $copy = *$p;
        print($copy);
        print((*(int32 *)((uint64)$p + 4), *(&$t.1), *(&$t.2)));
        exit();
    }"""
    assert run_trace("-e", script).stdout.splitlines()[:4] == [
        *by_c.splitlines(),
        "(-1, 7, { .a = 5, .b = xyz }, 9)",
        "(7, 7, { .a = 5, .b = xyz })",
    ]


def test_comparisons_are_truth_values_and_count_as_zero_and_one() -> None:
    script = """begin {
        print((1 < 2, 1 == 2, !5, 1 && 0, "a" == "a", (1, 2) != (1, 2)));
        printf("%d %s\\n", 1 < 2, 2 < 1);
        @[1 == 1] = 2 > 3; print(@); clear(@);
        $f = 1 == 1; $f = -5; $n = 0; $n += (1 == 1); $s = 1 == 1; $s++; @m = 1 == 1; @m++; @m += (1 == 1);
        printf("%d %d %d %d %d %d %d\\n", $f, $n, $s, @m, (1 == 1) + 1, -(1 == 1), ~(1 == 1));
        print((1 == 1) < -1); print((1 == 1) * -3);
        clear(@m);
        exit();
    }"""
    assert [line for line in run_trace("-e", script).stdout.splitlines() if line][:6] == [
        "(true, false, false, false, true, false)",
        "1 false",
        "@[true]: false",
        "-5 1 2 3 2 -1 -2",
        "false",
        "-3",
    ]
    in_json = run_trace("-f", "json", "-e", "begin { print((1 < 2, !1)); @ = 3 == 3; exit(); }").stdout
    assert '{"type": "value", "data": [true,false]}' in in_json
    assert '{"type": "map", "data": {"@": true}}' in in_json


# Arguments and return values narrower than a register

# The functions are called as if they took and returned longs: the bits above their types' are not zeros.
_NARROW = r"""
#include <stdbool.h>
enum color { RED = -1, GREEN = 5, BLUE };
enum size { SMALL = 1, LARGE };
#define SEEN __attribute__((noipa))
SEEN void take(int a, bool b, enum color c, unsigned char d, short e, signed char f, unsigned short g, enum size h,
               int i, bool j, unsigned k) {}
SEEN int give_int(long n) { return n; }
SEEN bool give_bool(long n) { return n & 1; }
SEEN short give_short(long n) { return n; }
SEEN unsigned char give_byte(long n) { return n; }
SEEN enum color give_color(long n) { return n; }
void (*volatile call)(long, long, long, long, long, long, long, long, long, long, long) = (void *)take;
int main(void)
{
    long high = 0x7f7f7f7f00000000, full = 0x7f7f7f7f7f7f7f00;
    call(high | (unsigned)-10, full | 1, high | (unsigned)RED, full | 200, full << 8 | (unsigned short)-300,
         full | (unsigned char)-7, full << 8 | 65000, high | LARGE, high | (unsigned)-20, full, high | 4000000000);
    give_int(high | (unsigned)-10); give_bool(full | 1); give_short(full << 8 | (unsigned short)-300);
    give_byte(full | 200); give_color(high | BLUE);
    return 0;
}
"""


def test_narrow_arguments_have_the_values_that_c_gives_them(tmp_path: Path) -> None:
    program = _built(tmp_path, _NARROW, "-g")
    script = f"""uprobe:{program}:take {{
        print((args.a, args.b, args.c, args.d, args.e, args.f, args.g, args.h, args.i, args.j, args.k));
        print(args); printf("%d %d %d %d %d\\n", args.a < 0, args.a == -10, args.b == true, args.c == RED, !args.j);
        printf("%d %s %s %d\\n", args.a, args.c, args.h, args.e);
        @key[args.a, args.b, args.c] = args.e; @value = args.h; @sum[args.d] = sum(args.e); @min = min(args.f);
        @hist = hist(args.d); @lhist = lhist(args.f, -10, 10, 10);
    }}
    uretprobe:{program}:give_int {{ print(retval); printf("%d\\n", retval < 0); @int = retval; }}
    uretprobe:{program}:give_bool {{ print(retval); printf("%d\\n", retval == true); }}
    uretprobe:{program}:give_short {{ print(retval); @short[retval] = sum(retval); }}
    uretprobe:{program}:give_byte {{ print(retval); }}
    uretprobe:{program}:give_color {{ print(retval); printf("%d\\n", retval == BLUE); }}"""
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-c", str(program), "-e", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[:4] == [
        "(-10, true, RED, 200, -300, -7, 65000, LARGE, -20, false, 4000000000)",
        "{ .a = -10, .b = true, .c = RED, .d = 200, .e = -300, .f = -7, .g = 65000, .h = LARGE, .i = -20, "
        ".j = false, .k = 4000000000 }",
        "1 1 1 1 1",
        "-10 RED LARGE -300",
    ]
    assert lines[4:12] == ["-10", "1", "true", "1", "-300", "200", "BLUE", "1"]
    maps = "\n".join(lines[12:])
    assert re.search(r"^\[128, 256\) +1 \|", maps, re.MULTILINE)
    assert re.search(r"^\[-10, 0\) +1 \|", maps, re.MULTILINE)
    for line in ("@int: -10", "@key[-10, true, RED]: -300", "@min: -7", "@short[-300]: -300", "@sum[200]: -300"):
        assert line in lines
    assert "@value: LARGE" in lines


# Long strings


def test_long_strings_are_compared_measured_and_keys() -> None:
    text = "x" * 1000
    script = """config = { max_strlen = 1024 } BEGIN { @s = str($1); $s = @s; clear(@s); $t = str($1, 999);
        @key[$s, 1] = 7; printf("%d %d %d ", $s == $s, $s == $t, strlen($s)); print((@key[$s, 1], @key[$t, 1]));
        exit(); }"""
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-e", script, text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line] == ["1 0 1000 (7, 0)", f"@key[{text}, 1]: 7"]


def test_the_empty_tuple_is_a_value() -> None:
    found = values_at_begin("()", "(1, ())", "((), ())", "() == ()", "(1, ()) != (1, ())", "sizeof(())")
    assert found == [(), (1, ()), ((), ()), True, False, 0]
    done = run_trace("-e", "BEGIN { @x = (); $y = @x; print($y); @z[1, ()] = ((), 2); exit(); }")
    assert done.stdout.split() == ["()", "@x:", "()", "@z[1,", "()]:", "((),", "2)"]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("@x[()] = 1;", "an empty tuple cannot be a key"),
        ("$e = (); @x[$e] = count();", "an empty tuple cannot be a key"),
        ("print(has_key(@x, ())); @x[1] = 1;", "an empty tuple cannot be a key"),
        ("@x[(), ()] = 1;", "the key of @x has only empty tuples"),
        ("@x[1] = ();", "@x has keys: its value cannot be an empty tuple"),
        ("if (()) { }", "a condition needs a number"),
        ("$x = (); print($x.0);", "index out of range"),
        ("$x = (); $x = (1,);", "type mismatch"),
    ],
)
def test_what_an_empty_tuple_cannot_be_is_an_error(statement: str, message: str) -> None:
    with pytest.raises(ScriptError, match=re.escape(message)):
        insitu.trace(f"BEGIN {{ {statement} exit(); }}").wait()


def test_maps_of_tuples_in_tuples_can_be_recorded(tmp_path: Path) -> None:
    script = "BEGIN { @a[1] = (1, (2, 3)); @b[(4, (5, 6)), 7] = (n=8, t=((), 9)); @c[1] = (1, 2); exit(); }"
    run_trace("-o", str(tmp_path / "run.insitu"), "-e", script)
    with insitu.open(tmp_path / "run.insitu") as session:
        a, b, c = (session.sql(f"select * from map.{name}").rows() for name in "abc")
    assert a == [(1, {"0": 1, "1": [2, 3]})]
    assert b == [({"0": 4, "1": [5, 6]}, 7, {"n": 8, "t": {"0": "()", "1": 9}})]
    assert c == [(1, [1, 2])]


def test_maps_of_structs_with_an_empty_member_can_be_recorded(tmp_path: Path) -> None:
    script = "struct none {}; struct some { int a; struct none b; }; begin { @x[1] = *(struct some *)curtask; }"
    run_trace("-e", script, "-o", str(tmp_path / "it.insitu"))
    with insitu.open(tmp_path / "it.insitu") as session:
        assert session.sql("select key, value.b as b from map.x").rows() == [(1, None)]


_CXX = r"""
#include <cstdio>
#include <string>
struct P { int a; long b; };
struct Holder { P &ref; int x; int P::*member; };
class T {
public:
    long v;
    __attribute__((noinline)) long add(const std::string &k, long n, P &r, P &&m, Holder *h, int P::*p, int after)
    {
        std::printf("%#lx %#lx %ld %#lx %#lx %#lx %d\n", (long)this, (long)&k, n, (long)&r, (long)&m, (long)h, h->x);
        return v + r.b + r.*p + after;
    }
};
int main() { T t{5}; P p{7, 8}; Holder h{p, 3, &P::a}; return t.add("hello", 40, p, P{1, 2}, &h, &P::a, 9) != 29; }
"""


def test_references_of_cxx_are_pointers_and_end_no_list_of_arguments(tmp_path: Path) -> None:
    """Types that C does not have: what comes after a pointer to a member, whose size is not known, is left out."""
    (tmp_path / "p.cpp").write_text(_CXX)
    program = tmp_path / "p"
    subprocess.run(["g++", "-g", "-O1", "-o", program, tmp_path / "p.cpp"], check=True)
    names = [("this", "p"), ("k", "p"), ("n", "d"), ("r", "p"), ("m", "p"), ("h", "p")]
    form = " ".join("0x%lx" if kind == "p" else "%ld" for _, kind in names)
    values = ", ".join(f"(uint64)args.{name}" for name, _ in names)
    seen = f'printf("seen {form} %d %d\\n", {values}, args.h.x, ((struct P *)args.r).b)'
    lines = run_trace("-q", "-e", f"uprobe:{program}:*add* {{ {seen}; }}", "--", str(program)).stdout.split("\n")
    (said,) = (line for line in lines if line.startswith("0x"))
    assert f"seen {said} 8" in lines
    listed = run_trace("-lv", f"uprobe:{program}:*add*").stdout.split()
    assert "after" not in listed and listed[-1] == "h"


def test_functions_of_rust_have_arguments_by_either_name(tmp_path: Path) -> None:
    source = "#[inline(never)] fn count(a: i32, b: u64, text: &str) -> u64 { b + text.len() as u64 - a as u64 % 2 }\n"
    (tmp_path / "p.rs").write_text(source + 'fn main() { println!("{}", count(-7, 1 << 40, "abc")); }')
    subprocess.run(["rustc", "-g", "-o", tmp_path / "p", tmp_path / "p.rs"], check=True)
    for name in ("p::count", "*1p5count*"):
        script = f'uprobe:{tmp_path}/p:{name} {{ printf("%d %d\\n", args.a, args.b); }}'
        assert f"-7 {1 << 40}" in run_trace("-q", "-e", script, "--", str(tmp_path / "p")).stdout.split("\n")
