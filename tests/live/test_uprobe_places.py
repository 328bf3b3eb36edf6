"""Where uprobes may be: at addresses and source lines, in archives and files of machine code; what stacks show."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from insitu.probe.providers.support.archives import stored_entry

from .tracing import known_program, run_trace

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_INLINES = """volatile int sink;
__attribute__((noinline)) void tip(int n) { sink = n; }
__attribute__((noinline)) void leaf(int n) { tip(n); sink++; }
static inline __attribute__((always_inline)) void middle(int n)
{
    leaf(n + 1);
    sink++;
}
__attribute__((noinline)) void outer(int n)
{
    middle(n);
    sink++;
    middle(n);
}
int main(void) { outer(3); sink++; return 0; }
"""


@pytest.fixture(scope="module")
def inlines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A program with debug information and an inlined function, and its source."""
    directory = tmp_path_factory.mktemp("inlines")
    source, program = directory / "inlines.c", directory / "inlines"
    source.write_text(_INLINES)
    flags = ["-g", "-O1", "-fno-omit-frame-pointer", "-Wl,--build-id"]
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    return program, source


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _symbols(program: Path) -> dict[str, int]:
    lines = [line.split() for line in _output("nm", program).splitlines()]
    return {words[2]: int(words[0], 16) for words in lines if len(words) == 3}


# Stacks


def test_stacks_have_the_lines_and_inlined_functions_of_debug_information(inlines: tuple[Path, Path]) -> None:
    program, source = inlines
    script = f"uprobe:{program}:tip {{ print(ustack(2)); print(ustack(perf, 2)); exit(); }}"
    plain, perf = run_trace("-e", script, "-c", str(program)).stdout.split("\n\n")[:2]
    # At the entry of tip(), before it has a frame of its own, its caller leaf() is not found.
    assert re.sub(r"\+\d+", "+N", plain).split() == [
        f"tip+N@{source}:2",
        "[inlined]",
        f"middle@{source}:6",
        f"outer+N@{source}:11",
    ]
    shown = [line.split(maxsplit=1)[1] for line in re.sub(r"\+\d+", "+N", perf).strip().splitlines()]
    assert shown == [f"tip+N ({program})", "middle (inlined)", f"outer+N ({program})"]
    without = run_trace("-e", script, "-c", str(program), env={"BPFTRACE_SHOW_DEBUG_INFO": "0"}).stdout
    assert "@" not in without and "[inlined]" not in without


def test_stacks_by_build_id_have_offsets_in_files(inlines: tuple[Path, Path]) -> None:
    program, _ = inlines
    script = f"uprobe:{program}:tip {{ print(ustack(build_id, 1)); @[ustack(build_id, 1)] = count(); }}"
    output = run_trace("-e", script, "-c", str(program)).stdout
    (build_id,) = re.findall(r"Build ID: (\w+)", _output("readelf", "-n", program))
    # The first segment of such a program is linked at 0: its symbols' values are offsets in the file.
    frame = f"{build_id} + {_symbols(program)['tip']:#x}"
    assert output.split("\n\n")[0].strip() == frame
    assert output.rstrip().endswith(f"@[\n    {frame}\n]: 2")


def test_stacks_by_build_id_are_not_recorded(inlines: tuple[Path, Path], tmp_path: Path) -> None:
    script = f"uprobe:{inlines[0]}:tip {{ @[ustack(build_id)] = count(); }}"
    refused = run_trace("-e", script, "-o", str(tmp_path / "x.insitu"), "-c", str(inlines[0]), status=1).stderr
    assert "ustack(build_id) is only printed" in refused


# Addresses


def test_an_address_is_probed_where_an_instruction_of_a_function_begins(tmp_path: Path) -> None:
    program = known_program(tmp_path)
    start = _symbols(program)["inner"]
    listed = _output("objdump", "-d", "--no-show-raw-insn", program).partition("<inner>:\n")[2].splitlines()
    second = int(listed[1].partition(":")[0], 16)
    script = f"uprobe:{program}:{start:#x}, uprobe:{program}:{second} {{ print((func, probe)); }}"
    output = run_trace("-e", script, "-c", str(program)).stdout.split("\n")
    assert output[:2] == [f"(inner, uprobe:{program}:{start:#x})", f"(inner, uprobe:{program}:{second})"]
    for kind, address, message in (
        ("uprobe", _symbols(program)["number"], "is not in a function"),
        ("uprobe", second + 1, "no instruction begins at"),
        ("uretprobe", second, "is not the beginning of a function"),
    ):
        refused = run_trace("-e", f"{kind}:{program}:{address:#x} {{ }}", status=1).stderr
        assert message in refused


# Source lines


def test_a_source_line_is_probed_wherever_it_was_inlined(inlines: tuple[Path, Path]) -> None:
    program, source = inlines
    at = f"uprobe:{program}@{source.name}"
    script = (
        f'{at}:6 {{ printf("%s %s\\n", func, probe); }} {at}:13 {{ print("second call"); }} '
        f'uprobe:{program}@{source}:15 {{ print("main"); }}'
    )
    output = run_trace("-e", script, "-c", str(program)).stdout.split("\n")
    call = f"outer {at}:6"
    # The call of line 13 has no code but that of what is inlined there, at whose first line it is.
    assert output[:4] in (["main", call, "second call", call], ["main", call, call, "second call"])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("inlines.c:4", "has no code of inlines.c:4"),
        ("other.c:1", "has no code of a source file other.c"),
        ("inlines.c:6:3", "columns are not supported"),
    ],
)
def test_a_line_without_code_is_an_error(inlines: tuple[Path, Path], where: str, message: str) -> None:
    assert message in run_trace("-e", f"uprobe:{inlines[0]}@{where} {{ }}", status=1).stderr


def test_debug_files_are_found_where_debuginfo_says(inlines: tuple[Path, Path], tmp_path: Path) -> None:
    program, source = inlines
    stripped, elsewhere = tmp_path / "stripped", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["objcopy", "--only-keep-debug", program, elsewhere / "stripped.debug"], check=True)
    subprocess.run(["objcopy", "--strip-all", program, stripped], check=True)
    script = f"uprobe:{stripped}@{source.name}:2 {{ print(func); exit(); }}"
    for directory in ("/nonexistent:elsewhere", str(elsewhere)):
        found = run_trace("--debuginfo", directory, "-e", script, "-c", str(stripped)).stdout
        assert found.split()[0] == "tip"
    assert "has no debug information" in run_trace("-e", script, status=1).stderr


# Code that is in no ELF file of its own

_CALL = """
import ctypes, sys
path, offset = sys.argv[1], int(sys.argv[2])
mmap = ctypes.CDLL(None).mmap
mmap.restype = ctypes.c_void_p
mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
with open(path, "rb") as file:
    at = mmap(None, 8192, 5, 2, file.fileno(), offset & ~4095)  # PROT_READ | PROT_EXEC, MAP_PRIVATE
assert ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(at + offset % 4096)(41) == 42
"""


def _calling(tmp_path: Path, path: Path, offset: int) -> str:
    (tmp_path / "call.py").write_text(_CALL)
    return f"{sys.executable} {tmp_path / 'call.py'} {path} {offset}"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("library")
    (directory / "it.c").write_text("long more(long n) { return n + 1; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", directory / "it.so", directory / "it.c"], check=True)
    return directory / "it.so"


def test_functions_of_a_library_in_an_archive_are_probed(library: Path, tmp_path: Path) -> None:
    archive = tmp_path / "app.apk"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("before", b"x" * 5000)
        packed.write(library, "lib/it.so")
        packed.writestr("small", b"x" * 5000, zipfile.ZIP_DEFLATED)
    _, begin = stored_entry(str(archive), "lib/it.so")
    assert archive.read_bytes()[begin : begin + library.stat().st_size] == library.read_bytes()
    place = f"{archive}!/lib/it.so"
    script = f"uprobe:{place}:more {{ print((probe, arg0)); }} uretprobe:{place}:mor* {{ print(retval); }}"
    command = _calling(tmp_path, archive, begin + _symbols(library)["more"])
    assert run_trace("-e", script, "-c", command).stdout.split("\n")[:2] == [f"(uprobe:{place}:more, 41)", "42"]
    for inner, message in (("small", "is compressed"), ("nothing", "there is no nothing")):
        assert message in run_trace("-e", f"uprobe:{archive}!/{inner}:more {{ }}", status=1).stderr


def test_a_file_of_machine_code_is_probed_if_that_is_allowed(library: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat.bin"
    start = _symbols(library)["more"]
    flat.write_bytes(bytes(64) + library.read_bytes()[start : start + 64] + bytes(8192))
    script = f"uprobe:{flat}:64 {{ print((probe, arg0)); }}"
    shown = run_trace("--unsafe", "-e", script, "-c", _calling(tmp_path, flat, 64)).stdout
    assert shown.split("\n")[0] == f"(uprobe:{flat}:64, 41)"
    assert "not an ELF file" in run_trace("-e", script, status=1).stderr


def test_probes_that_the_filter_does_not_match_are_not_attached(library: Path, tmp_path: Path) -> None:
    program = known_program(tmp_path)
    script = f"BEGIN {{ print(0); }} uprobe:{program}:* {{ print(func); }} uprobe:{program}:eight {{ print(8); }}"
    filtered = run_trace("--probe-filter", "it:(inn|out)er$", "-e", script, "-c", str(program)).stdout
    assert filtered.split() == ["0", "outer", "inner"]
    assert "leaves no probe" in run_trace("--probe-filter", "x{9}", "-e", "interval:s:1 { }", status=2).stderr
