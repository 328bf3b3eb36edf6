"""insitu calls --user on real programs: counts against what the programs, ltrace and gcc -pg count."""

import os
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from insitu.convert.open import open_session

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

PROGRAMS = Path(__file__).parent / "call_programs"
_FLAGS = {
    "nesting": ["gcc", "-g", "-O2", "-pthread"],
    "exceptions": ["g++", "-g", "-O1"],
    "values": ["g++", "-std=c++17", "-g", "-O1"],
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("calls")
    for name, command in _FLAGS.items():
        (source,) = PROGRAMS.glob(f"{name}.*")
        subprocess.run([*command, "-o", directory / name, source], check=True)
    return {name: str(directory / name) for name in _FLAGS}


def _run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "insitu", "calls", *words], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done


def _said(output: str) -> dict[str, int]:
    """What a program has counted itself."""
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", output)}


def _counted(table: str) -> dict[str, int]:
    """Calls by function of a table that -c prints."""
    rows = [line.split(None, 17) for line in table.splitlines() if re.match(r"\s+[\d.]+ ", line)]
    return {row[17]: int(row[5]) for row in rows}


def _lines(text: str) -> list[str]:
    """The calls as they were printed, without times and threads."""
    return [line[36:] for line in text.splitlines() if line.startswith("   ")]


def test_counts_are_those_that_the_program_counts_itself(program: dict[str, str]) -> None:
    done = _run("-c", "--user", program["nesting"], "50", status=7)
    counted, said = _counted(done.stderr), _said(done.stdout)
    said["leaf"] += 1  # in the child, whose memory is its own
    assert {name: counted[name] for name in said} == said
    assert counted["main"] == counted["child"] == 1


def test_longjmp_tail_calls_signals_threads_and_children_leave_the_nesting_right(program: dict[str, str]) -> None:
    done = _run("--user", program["nesting"], "1", status=7)
    nested = {line.strip() for line in _lines(done.stderr)}
    assert "} (unwound)  /* throws */" in nested
    assert "} = 1  /* jumps */" in nested
    assert "} = 1  /* tail */" in nested
    assert "} = 41  /* child */" in nested
    assert "} (did not return)  /* main */" in nested


def test_callers_are_those_of_the_source(program: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run.insitu"
    _run("-q", "-o", str(run), "--user", program["nesting"], "20", status=7)
    with open_session(run) as session:
        pairs = session.sql(
            "select p.name, c.name, count(*) from span c left join span p on c.parent = p.id group by all"
        ).rows()
        sums = session.sql(
            "select (select sum(self_ns) from span), (select sum(dur_ns) from span where parent is null)"
        ).rows()
    found = {(caller, name): count for caller, name, count in pairs}
    wanted = {("jumps", "throws"): 20, ("throws", "leaf"): 20, ("jumps", "leaf"): 20, ("tail", "leaf"): 20}
    wanted |= {("handler", "leaf"): 20, ("thread", "middle"): 40, ("middle", "leaf"): 40, ("child", "leaf"): 1}
    wanted |= {("main", name): 20 for name in ("jumps", "tail", "handler")} | {(None, "thread"): 2}
    assert {pair: found.get(pair, 0) for pair in wanted} == wanted
    ((own, roots),) = sums
    assert own == roots


def test_exceptions_pass_through_traced_functions(program: dict[str, str]) -> None:
    done = _run("--user", program["exceptions"], "3")
    assert done.stdout == "odd=1\n"
    lines = [line.strip() for line in _lines(done.stderr)]
    assert "shop::checked(1) (unwound)" in lines
    assert "shop::checked(2) = 1" in lines
    assert [line for line in lines if line.startswith("caught(")] == [f"caught({{}}, {each}) {{" for each in range(3)]


def test_values_of_all_kinds_are_those_of_the_source(program: dict[str, str]) -> None:
    words = ["-f", "shop::*", "-f", "sfun", "--user", program["values"]]
    lines = {re.sub("0x[0-9a-f]+", "0x", line.strip()) for line in _lines(_run(*words).stderr)}
    wanted = """
shop::byref(3, {x = 1, y = 2}) = 4
shop::byval({x = 1, y = 2}, {a = 1, b = 2, c = 3, name = "hello"}, 9) = 11
shop::line({from = {x = 1, y = 2}, to = {x = 3, y = 4}}, 5) = 6
shop::mix({d = <in xmm0>, i = 2}, <in xmm1>, <in xmm2>, 4) = <in xmm0>
shop::flag(true, blue, B, 'q') = false
shop::bits({a = 1, b = 2, c = -3}, {i = 7, f = 9.80908925e-45, c = "\\x07"}) = 1
shop::str("short", "a much longer string that is on the heap") = "shorta much longer string that is on the heap"
shop::vec([1, 2, 3], [2 elements]) = [1, 2, 3]
shop::cb(0x) = 3
shop::ret(4) = {x = 4, y = 5}
shop::big(5) = {a = 5, b = 5, c = 5, name = "abc"}
shop::many(1, 2, 3, 4, 5, 6, 7, "eight") = 7
shop::sv("view") = 4
shop::up(0x, 0x) = 1
shop::arr("abc", 0x) = 97
shop::rv("moved") = 5
shop::over(1) = 1
shop::over("one") = 111
shop::tw<int>(5) = 5
shop::tw<double>(<in xmm0>) = <in xmm0>
sfun(3) = 4
shop::Cart::add(0x, 2, "book") = 13
shop::Cart::name[abi:cxx11](0x) = "me"
"""
    assert set(wanted.strip().splitlines()) - lines == set()


def test_library_calls_are_those_that_ltrace_sees(program: dict[str, str]) -> None:
    if shutil.which("ltrace") is None:
        pytest.skip("no ltrace")
    words = [program["exceptions"], "6"]
    peer = subprocess.run(["ltrace", "-c", *words], capture_output=True, text=True, check=True)
    rows = [line.split() for line in peer.stderr.splitlines() if re.match(r"\s*\d+\.\d+ ", line)]
    theirs = {row[4]: int(row[3]) for row in rows if row[-1] != "total"}
    ours = _counted(_run("-c", "--library", "--user", *words).stderr)
    common = {"__cxa_begin_catch", "__cxa_end_catch", "printf", "strtol"} & set(theirs)
    assert len(common) == 4
    assert {name: ours.get(name) for name in common} == {name: theirs[name] for name in common}


def test_arguments_and_results_of_library_calls_are_shown_by_their_prototypes(program: dict[str, str]) -> None:
    lines = [line.strip() for line in _lines(_run("--library", "--user", program["nesting"], "1", status=7).stderr)]
    assert 'strtol("1", NULL, 10) = 1' in lines
    assert 'strlen("thread") = 6' in lines
    assert "exit(7) (did not return)" in lines


def test_static_functions_of_one_name_are_all_traced_with_their_own_types(tmp_path: Path) -> None:
    same = "static __attribute__((noinline, noipa)) int same"
    (tmp_path / "a.c").write_text(f'{same}(char *a) {{ return 1; }}\nint from_a(void) {{ return same("unread"); }}\n')
    (tmp_path / "b.c").write_text(
        f"{same}(long b, char c) {{ return 2; }}\nint from_b(void) {{ return same(-7, 'x'); }}\n"
    )
    (tmp_path / "main.c").write_text(
        "int from_a(void), from_b(void); int main(void) { return from_a() + from_b(); }\n"
    )
    subprocess.run(["gcc", "-g", "-O1", "-o", "same", "a.c", "b.c", "main.c"], cwd=tmp_path, check=True)
    done = _run("-f", "same", "--user", str(tmp_path / "same"), status=3)
    lines = [re.sub("0x[0-9a-f]+", "0x", line.strip()) for line in _lines(done.stderr)]
    # The first page of constants is not in memory, as nobody has read it: its text is not known.
    assert lines[0] in ("same(0x) = 1", 'same("unread") = 1')
    assert lines[1:] == ["same(-7, 'x') = 2"]


def test_arguments_of_library_calls_are_those_that_ltrace_shows(tmp_path: Path) -> None:
    if shutil.which("ltrace") is None:
        pytest.skip("no ltrace")
    source, program = tmp_path / "calls.c", tmp_path / "calls"
    source.write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
        'int main(void) { char buf[64]; int pipes[2]; pipe(pipes); write(pipes[1], "some", 4);'
        ' read(pipes[0], buf, 60); snprintf(buf, 64, "%d %ld %c", -5, 1L << 40, 113); puts(buf);'
        " free(malloc(123)); close(pipes[0]); return strlen(buf) == 0; }\n"
    )
    subprocess.run(["gcc", "-w", "-fno-builtin", "-O1", "-o", program, source], check=True)
    done = subprocess.run(["ltrace", program], capture_output=True, text=True, check=True)
    theirs = {re.sub(r"\s+=", " =", line).strip() for line in done.stderr.splitlines()}
    ours = {line.strip() for line in _lines(_run("--library", "--user", str(program)).stderr)}
    common = {line for line in theirs & ours if line.startswith(("read(", "snprintf(", "puts(", "close(", "strlen("))}
    assert len(common) == 5, (theirs, ours)


def test_calls_of_libraries_are_shown_within_functions(program: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run.insitu"
    _run("-q", "-o", str(run), "--with-library", "--user", program["nesting"], "1", status=7)
    with open_session(run) as session:
        found = session.sql(
            "select c.category, p.name, c.name from span c left join span p on c.parent = p.id"
            " where c.name in ('strtol', 'strlen', 'leaf', 'main') group by all"
        ).rows()
    assert ("library call", "main", "strtol") in found
    assert ("user function", "jumps", "leaf") in found
    assert {category for category, _, name in found if name == "strlen"} == {"library call"}


def test_library_calls_of_a_program_without_a_plt_are_seen_where_they_are_made(tmp_path: Path) -> None:
    program = tmp_path / "nesting"
    (source,) = PROGRAMS.glob("nesting.*")
    subprocess.run(["gcc", "-g", "-O2", "-pthread", "-fno-plt", "-o", program, source], check=True)
    done = _run("--library", "--user", str(program), "1", status=7)
    assert 'strtol("1", NULL, 10) = 1' in [line.strip() for line in _lines(done.stderr)]
    assert "has no PLT" in done.stderr


def test_a_statically_linked_program_runs_as_without(tmp_path: Path) -> None:
    program = tmp_path / "nesting"
    (source,) = PROGRAMS.glob("nesting.*")
    subprocess.run(["gcc", "-g", "-O2", "-pthread", "-static", "-o", program, source], check=True)
    done = _run("-c", "--limit", "0", "--user", str(program), "5", status=7)
    counted, said = _counted(done.stderr), _said(done.stdout)
    said["leaf"] += 1  # in the child
    assert {name: counted[name] for name in said} == said


def test_counts_are_those_of_gcc_pg(tmp_path: Path) -> None:
    source = tmp_path / "pg.c"
    source.write_text(
        "#define N __attribute__((noinline, noipa))\n"
        "N int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }\n"
        "N int twice(int n) { return fib(n) + fib(n - 1); }\n"
        "int main(void) { return twice(12) == 233 ? 0 : 1; }\n"
    )
    subprocess.run(["gcc", "-O1", "-pg", "-o", "profiled", source], check=True, cwd=tmp_path)
    subprocess.run(["./profiled"], check=True, cwd=tmp_path)
    text = subprocess.run(
        ["gprof", "-b", "-q", "profiled", "gmon.out"], check=True, cwd=tmp_path, capture_output=True, text=True
    ).stdout
    ((outer, recursive),) = re.findall(r"^\[\d+\].* (\d+)\+(\d+)\s+fib ", text, re.MULTILINE)
    subprocess.run(["gcc", "-O1", "-o", "plain", source], check=True, cwd=tmp_path)
    counted = _counted(_run("-c", "--user", str(tmp_path / "plain")).stderr)
    assert counted == {"fib": int(outer) + int(recursive), "twice": 1, "main": 1}


def test_a_running_process_is_traced_in_all_its_threads(tmp_path: Path) -> None:
    source, program = tmp_path / "serve.c", tmp_path / "serve"
    source.write_text(
        "#include <stdio.h>\n#include <string.h>\n"
        "__attribute__((noinline, noipa)) int answer(const char *line) { return (int)strlen(line); }\n"
        'int main(void) { char line[64]; while (fgets(line, 64, stdin)) printf("%d\\n", answer(line)),'
        " fflush(stdout); return 0; }\n"
    )
    subprocess.run(["gcc", "-g", "-O1", "-o", program, source], check=True)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdin is not None and served.stdout is not None
        run = tmp_path / "run.insitu"
        command = [sys.executable, "-m", "insitu", "calls", "-o", str(run), "-p", str(served.pid), "--user"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracing:
            records = run / "raw" / "calls" / "events.records"
            while not records.exists() or not records.stat().st_size:
                assert tracing.poll() is None
                served.stdin.write("before\n")  # until it is attached
                served.stdin.flush()
                served.stdout.readline()
            served.stdin.write("hello\n")
            served.stdin.close()
            tracing.communicate()
        assert tracing.returncode == 0
    with open_session(run) as session:
        (row,) = session.sql("select arguments, result from function_call where arguments like '%hello%'").rows()
    assert row == ('"hello\\n"', "6")


def test_the_file_that_runs_is_traced_though_another_has_its_name(tmp_path: Path) -> None:
    source, program = tmp_path / "serve.c", tmp_path / "serve"
    source.write_text(
        "#include <stdio.h>\n__attribute__((noinline, noipa)) int answer(int c) { return c; }\n"
        "int main(void) { int c; while ((c = getchar()) != EOF) putchar(answer(c)), fflush(stdout); return 0; }\n"
    )
    subprocess.run(["gcc", "-g", "-O1", "-o", program, source], check=True)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as served:
        assert served.stdin is not None and served.stdout is not None
        served.stdin.write(b"a")
        served.stdin.flush()
        assert served.stdout.read(1) == b"a"
        program.unlink()
        program.write_bytes(Path("/bin/true").read_bytes())
        command = [sys.executable, "-m", "insitu", "calls", "-q", "-p", str(served.pid), "--user"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracing:
            assert tracing.stderr is not None and tracing.stderr.readline().startswith("#")
            line = ""
            while "answer(" not in line:  # until it is attached
                served.stdin.write(b"b")
                served.stdin.flush()
                served.stdout.read(1)
                if select.select([tracing.stderr], [], [], 0.05)[0]:
                    line = tracing.stderr.readline()
                assert tracing.poll() is None
            served.stdin.close()
            tracing.communicate()
    assert "answer(98) = 98" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--user", "/bin/true", "-f", "no_such"], "no symbols"),
        (["--user", "/etc/passwd"], "passwd"),
        (["-c", "-g", "vfs_read", "/bin/true"], "-c is for functions of programs"),
        (["-e", "malloc", "--user", "/bin/true"], "-f FUNC chooses functions"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(words: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "insitu", "calls", *words], capture_output=True, text=True)
    assert done.returncode != 0
    assert message in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_that_no_function_was_called_is_said(program: dict[str, str]) -> None:
    done = _run("-f", "jumps", "--user", program["nesting"], "0", status=7)
    assert "no call of 1 function that" in done.stderr and "--library traces" in done.stderr
