"""import: which files are found, what is taken over from them, and where errors in them point."""

from pathlib import Path

import pytest

from insitu.probe import ast
from insitu.probe.bpftrace.script_parser import parse
from insitu.probe.options import Options
from insitu.probe.passes import Unit, run_passes
from insitu.probe.source import ScriptError, Source

from .probe_scripts import NoKernel


def _script(folder: Path, **files: str) -> Source:
    """The script "main", beside files that are called as the arguments are, "__" being a slash."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.bt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return Source(files["main"], str(folder / "main.bt"))


def _texts(program: ast.Program) -> list[bytes]:
    """The string literals of all probes, in their order."""
    return [node.value for node in ast.walk(program.probes) if isinstance(node, ast.StringLiteral)]


def test_everything_that_a_file_defines_is_taken_over(tmp_path: Path) -> None:
    source = _script(
        tmp_path,
        main='import "lib.bt"; BEGIN { @m = twice(MAGIC); @f = next(4); @s = sizeof(struct pair); @k = (word)300; }',
        lib="""#define MAGIC 21
            struct pair { int a; int b; };
            typedef unsigned char word;
            macro twice(x) { x + x }
            fn next($n : int64) : int64 { return $n + 1; }
            END { }""",
    )
    front = run_passes(Unit(source, Options(), NoKernel()))
    assert [str(probe.attach_points[0]) for probe in front.program.probes] == ["END", "BEGIN"]
    assert set(front.checker.maps) == {"@m", "@f", "@s", "@k"}


def test_a_directory_stands_for_its_files_and_names_are_relative_to_the_importer(tmp_path: Path) -> None:
    source = _script(
        tmp_path,
        main='import "lib"; BEGIN { print("main"); }',
        lib__b='BEGIN { print("b"); }',
        lib__a='import "deep/c.bt"; import "top.bt"; BEGIN { print("a"); }',
        top='BEGIN { print("top"); }',
        lib__deep='BEGIN { print("no directory"); }',
    )
    (tmp_path / "lib" / "deep").mkdir()
    (tmp_path / "lib" / "deep" / "c.bt").write_text('BEGIN { print("c"); }')
    assert _texts(parse(source)) == [b"c", b"top", b"a", b"b", b"no directory", b"main"]


def test_a_file_is_imported_once_even_in_a_circle(tmp_path: Path) -> None:
    source = _script(
        tmp_path,
        main='import "a.bt"; import "b.bt"; BEGIN { print("main"); }',
        a='import "b.bt"; BEGIN { print("a"); }',
        b='import "a.bt"; import "main.bt"; BEGIN { print("b"); }',
    )
    (tmp_path / "main.bt").write_text(source.text)
    assert _texts(parse(source)) == [b"b", b"a", b"main"]


@pytest.mark.parametrize(
    ("library", "place", "message"),
    [
        ("\n\nBEGIN { $x = }", "lib.bt:3:14", "unexpected '}'"),
        ("fn f() : int64 {\n  return $y; }", "lib.bt:2:10", "unknown variable $y"),
        ("BEGIN { @x = 1;\n @x = comm; }", "lib.bt:2:7", "type mismatch"),
        ("#if 1\nBEGIN { }", "lib.bt:1:1", "#if without #endif"),
        ("config = { max_strlen = 10 }", "lib.bt:1:1", "config is not allowed in an imported file"),
    ],
)
def test_an_error_names_the_imported_file_and_its_line(
    tmp_path: Path, library: str, place: str, message: str
) -> None:
    source = _script(tmp_path, main='// first\nimport "lib.bt";\nBEGIN { f(); }', lib=library)
    with pytest.raises(ScriptError) as caught:
        run_passes(Unit(source, Options(), NoKernel()))
    assert str(caught.value).startswith(f"{tmp_path / place}: {message}")
    assert caught.value.rendered.splitlines()[1] == library.splitlines()[int(place.split(":")[1]) - 1]


def test_errors_after_imports_still_point_into_the_script(tmp_path: Path) -> None:
    source = _script(tmp_path, main='import "lib.bt";\nBEGIN { $x }', lib="\n\n\nEND { }\n")
    with pytest.raises(ScriptError, match=r"main\.bt:2:9: unknown variable"):
        run_passes(Unit(source, Options(), NoKernel()))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing.bt", "no such file in "),
        ("empty", r"the directory holds no \.bt files"),
        ("code.bpf.c", r"only \.bt files, and directories of them"),
        ("large.bt", "it is larger than 1048576 bytes"),
        ("open.bt", "it is writable by others"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "code.bpf.c").write_text("int x;")
    (tmp_path / "large.bt").write_bytes(b" " * ((1 << 20) + 1))
    (tmp_path / "open.bt").write_text("END { }")
    (tmp_path / "open.bt").chmod(0o666)
    source = _script(tmp_path, main=f'import "{name}"; BEGIN {{ }}')
    (tmp_path / "main.bt").write_text(source.text)
    with pytest.raises(ScriptError, match=f"main.bt:1:8: cannot import '.*{why}") as caught:
        parse(source)
    assert "\n" not in str(caught.value)


def test_imports_stand_before_the_probes(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="imports must come before the first probe"):
        parse(_script(tmp_path, main='BEGIN { } import "lib.bt";', lib="END { }"))
