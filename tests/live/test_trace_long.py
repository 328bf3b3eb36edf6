"""Long programs, run: 5,000 lines, and bodies cut into many parts, against the same arithmetic done here."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from insitu import trace

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)


class _Writer:
    """Writes random statements, and does in Python what each of them does."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.number, self.text = 1, "start"
        self.counts: dict[int, int] = {}
        self.total = 0
        self.printed: list[str] = []

    def statements(self, lines: int) -> list[str]:
        return [self._statement() for _ in range(lines)]

    def _statement(self) -> str:
        n = self.random.randrange(1000)
        match self.random.randrange(10):
            case 0 | 1 | 2 | 3:
                if self.number % 7 == n % 7:
                    self.number += n
                return f"if ($number % 7 == {n % 7}) {{ $number += {n}; }}"
            case 4 | 5:
                if self.number > n * 100:
                    self.counts[n] = self.counts.get(n, 0) + 1
                return f"if ($number > {n * 100}) {{ @counts[{n}] = count(); }} else {{ $unused = {n}; }}"
            case 6:
                self.total += self.number
                return "@total += $number;"
            case 7:
                self.text = f"text {n}" if self.number % 2 else self.text
                return f'if ($number % 2) {{ $text = "text {n}"; }}'
            case 8:
                iterations = 40 + n % 20
                self.number += sum(range(iterations)) % 3
                return f"$s = 0; for ($i : 0..{iterations}) {{ $s += $i; }} $number += $s % 3;"
            case _:
                if n < 100:
                    self.printed.append(f"{self.number} {self.text}")
                    return 'printf("%d %s\\n", $number, $text);'
                self.number ^= n
                return f"$number = $number ^ {n};"


def _begin(writer: _Writer, lines: list[str]) -> str:
    return "\n  ".join(["BEGIN {", *lines]) + "\n}\n"


def test_a_program_of_5000_lines_gives_right_results(tmp_path: Path) -> None:
    writer = _Writer(1)
    script = "config = { max_map_keys = 2000 }\n"
    for lines in [3000, *[100] * 20]:
        writer.number, writer.text = 1, "start"
        script += _begin(writer, ['$number = 1; $text = "start"; $s = 0;', *writer.statements(lines)])
    script += "BEGIN { exit(); }\n"
    assert script.count("\n") > 5000
    (tmp_path / "long.bt").write_text(script)
    command = [sys.executable, "-m", "insitu", "trace", "-q", str(tmp_path / "long.bt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line and not line.startswith("@")] == writer.printed
    assert f"@total: {writer.total}" in lines
    assert {line for line in lines if line.startswith("@counts")} == {
        f"@counts[{n}]: {count}" for n, count in writer.counts.items()
    }


@pytest.mark.parametrize("seed", range(3))
def test_cut_programs_do_what_whole_ones_do(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insitu.probe.codegen.program._PART_LINES", 150)
    monkeypatch.setattr("insitu.probe.codegen.program.LARGE_IF", 40)
    monkeypatch.setattr("insitu.probe.codegen.splitting.LARGE_IF", 40)
    writer = _Writer(seed)
    head = '$number = 1; $text = "start"; $s = 0; $pair = (1, "x"); $unchanged = 77;'
    before = writer.statements(20)
    taken = writer.statements(25)
    behind = writer.statements(20)
    never = "".join(f"$number = {n}; @total = {n}; " for n in range(20))
    script = _begin(
        writer,
        [
            head,
            *before,
            f"if ($unchanged == 77) {{ if ($unchanged == 76) {{ {never} }} else {{ $both = 5;",
            *taken,
            f'$pair = (2, "y"); }} }} else {{ {never} }}',
            *behind,
            f"if ($unchanged == 78) {{ $joined = 1; {never} }} else {{ $joined = $number; @a = 1; @b = 2; @c = 3; }}",
            "@number = $number; @text = $text; @pair = $pair; @joined = $joined; @unchanged = $unchanged; exit();",
        ],
    )
    with trace(script, seconds=100) as run:
        values = {name: run.maps[name]["value"][0] for name in ("@number", "@text", "@joined", "@unchanged")}
        printed = run.text.splitlines()
        further = run._runtime.loaded.programs[0].compiled.further
    assert len(further) > 5
    assert printed == writer.printed
    assert values == {"@number": writer.number, "@text": writer.text, "@joined": writer.number, "@unchanged": 77}


_FORMS = {
    "range": "BEGIN { HEAD for ($j : 0..1) { BODY } TAIL }",
    "long range": "BEGIN { HEAD for ($j : 0..100) { BODY break; } TAIL }",
    "while": "BEGIN { HEAD $j = 0; while ($j < 1) { $j++; BODY } TAIL }",
    "map": "BEGIN { HEAD @m[1] = 1; for ($kv : @m) { BODY } TAIL }",
    "nested": "BEGIN { HEAD for ($j : 0..1) { for ($k : 0..50) { if ($k == 7) { BODY } } } TAIL }",
    "unroll": "BEGIN { HEAD unroll (1) { BODY } TAIL }",
    "function": "fn f() : void { HEAD BODY TAIL } BEGIN { f(); }",
    "function in a loop": "fn f() : void { HEAD BODY TAIL } BEGIN { for ($j : 0..1) { f(); } }",
}


@pytest.mark.parametrize("walked", [False, True], ids=["bpf_loop", "without bpf_loop"])
@pytest.mark.parametrize("form", _FORMS)
def test_split_bodies_of_loops_and_functions_do_what_whole_ones_do(
    form: str, walked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insitu.probe.codegen.splitting._LONG", 60)
    monkeypatch.setattr("insitu.probe.codegen.splitting._PART", 30)
    if walked:
        monkeypatch.setattr("insitu.probe.codegen.loops.knows_helper", lambda number: False)
    writer = _Writer(len(form))
    script = _FORMS[form]
    for name, lines in {
        "HEAD": ['$number = 1; $text = "start"; $s = 0;'],
        "BODY": writer.statements(40),
        "TAIL": ["@number = $number; @text = $text;"],
    }.items():
        script = script.replace(name, "\n".join(lines))
    with trace(script) as run:
        run.wait()
        assert run.text.splitlines() == writer.printed
        values = [run.maps[name]["value"][0] for name in ("@number", "@text")]
        assert len(run._runtime.loaded.programs[0].compiled.functions) > 5
    assert values == [writer.number, writer.text]


def test_jumps_out_of_parts_reach_their_loops_and_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insitu.probe.codegen.splitting._LONG", 4)
    monkeypatch.setattr("insitu.probe.codegen.splitting._PART", 2)
    script = """fn first($from : int64) : int64 {
            for ($i : $from..100) {
                if ($i % 2) { continue; } @seen[$i] = 1; if ($i > 7) { return $i; } @kept[$i] = 1;
            }
            return -1;
        }
        BEGIN {
            @a = first(3);
            $n = 0;
            for ($i : 0..5) { $n += 100; if ($i == 3) { break; } $n++; }
            @n = $n;
            while ($n) { $n--; for ($j : 0..3) { if ($j == 1) { break; } @inner++; } if ($n == 7) { return; } }
            @never = 1;
        }"""
    with trace(script) as run:
        run.wait()
        maps = {name: run.maps[name] for name in ("@a", "@n", "@seen", "@kept", "@inner")}
        assert not run.maps["@never"]["value"].sum()
    assert [maps[name]["value"][0] for name in ("@a", "@n", "@inner")] == [8, 403, 396]
    assert sorted(maps["@seen"]["key"]) == [4, 6, 8]
    assert sorted(maps["@kept"]["key"]) == [4, 6]


def test_500_statements_fit_into_a_loop_and_a_function() -> None:
    body = "".join(f"if ($n == {n} || pid == {n + 4_200_000}) {{ @c[{n}] = count(); }}\n" for n in range(500))
    script = f"fn f($n : int64) : void {{ {body} }} BEGIN {{ for ($n : 0..50) {{ {body} }} f(499); }}"
    with trace(script) as run:
        run.wait()
        assert sorted(run.maps["@c"]["key"]) == [*range(50), 499]
