"""`insitu trace -lv` of the kernel's functions: against the C prototypes that gcc described as BTF."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from insitu.kernel import procfs
from insitu.kernel.tracefs import Tracefs
from insitu.probe.listing import list_probes
from insitu.probe.providers import fentry
from insitu.symbols import kernel_btf

# Each function with the lines below it: at its entry, and for its result.
PROTOTYPES = {
    "long vfs_read(struct file *file, char *buf, unsigned long count, long *pos)": (
        ["struct file * file", "char * buf", "long unsigned int count", "long int * pos"],
        "long int",
    ),
    "long vfs_write(struct file *file, const char *buf, unsigned long count, long *pos)": (
        ["struct file * file", "const char * buf", "long unsigned int count", "long int * pos"],
        "long int",
    ),
    "void nothing(void)": ([], ""),
    "int pointers(char *const *argv, const void *const data, volatile int **slots)": (
        ["char *const * argv", "const void *const data", "volatile int ** slots"],
        "int",
    ),
    "int around(int (*grid)[4], int (*compare)(const void *, const void *))": (
        ["int (*)[4] grid", "int (*)(const void *, const void *) compare"],
        "int",
    ),
    "enum colour mixed(enum colour colour, union word *word, sector_t sector, _Bool flag)": (
        ["enum colour colour", "union word * word", "sector_t sector", "_Bool flag"],
        "enum colour",
    ),
    "struct file *opened(const struct file *like)": (["const struct file * like"], "struct file *"),
    "sector_t same_parameter(struct file *file)": (["struct file * file"], "sector_t"),
}
# What a kprobe can read of these is less than what fentry can.
PARTLY = {
    "int printed(const char *format, ...)": (["const char * format"], ["const char * format"], "int"),
    "int by_value(int first, struct pair pair, int last)": (
        ["int first"],
        ["int first", "struct pair pair", "int last"],
        "int",
    ),
    "struct pair wide(__int128 number, int last)": ([], ["__int128 number", "int last"], "struct pair"),
    "int floating(double number, int last)": (["int last"], ["double number", "int last"], "int"),
}
_IN_NO_REGISTER = ("wide",)  # struct pair is returned in two
_DECLARATIONS = """
struct file { int flags; };
struct pair { long first, second; };
union word { int number; char letters[4]; };
enum colour { RED, GREEN };
typedef unsigned long sector_t;
"""


def _name(prototype: str) -> str:
    return prototype.partition("(")[0].split()[-1].lstrip("*")


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``vmlinux``: the types and functions of these prototypes, as BTF."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    directory = tmp_path_factory.mktemp("btf")
    functions = [f"{each} {{ __builtin_trap(); }}" for each in (*PROTOTYPES, *PARTLY)]
    (directory / "t.c").write_text(_DECLARATIONS + "\n".join(functions))
    subprocess.run(["gcc", "-gbtf", "-c", "t.c", "-o", "t.o"], cwd=directory, check=True)
    found = directory / "types"
    found.mkdir()
    subprocess.run(["objcopy", "--dump-section", f".BTF={found / 'vmlinux'}", "t.o"], cwd=directory, check=True)
    return found


@pytest.fixture
def listed(
    types: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str], list[str]]]:
    """The lines that are listed for a pattern, by a kernel that has these functions, and one without types."""
    traceable = [(_name(each), "") for each in (*PROTOTYPES, *PARTLY)] + [("untyped", "")]
    monkeypatch.setattr(kernel_btf, "_DIRECTORY", str(types))
    monkeypatch.setattr(procfs, "pmu_type", lambda name: 6)
    monkeypatch.setattr(fentry, "can_trace_functions", lambda context: True)
    monkeypatch.setattr(Tracefs, "open", classmethod(lambda cls: cls(-1)))
    monkeypatch.setattr(Tracefs, "functions", lambda self: traceable)
    kernel_btf.vmlinux.cache_clear()

    def lines(pattern: str) -> list[str]:
        assert list_probes(pattern, verbose=True, pid=None) == 0
        return capsys.readouterr().out.splitlines()

    yield lines
    kernel_btf.vmlinux.cache_clear()


def _expected(kind: str) -> dict[str, list[str]]:
    """Each function's lines below its name."""
    found: dict[str, list[str]] = {"untyped": []} if "kprobe" in kind or kind == "kretprobe" else {}
    every = {**{each: (entry, entry, result) for each, (entry, result) in PROTOTYPES.items()}, **PARTLY}
    for prototype, (in_registers, parameters, result) in every.items():
        name = _name(prototype)
        returned = [f"{result} retval"] if result else []
        found[name] = {
            "kprobe": in_registers,
            "kretprobe": [] if name in _IN_NO_REGISTER else returned,
            "fentry": parameters,
            "fexit": [*parameters, *returned],
        }[kind]
    return found


@pytest.mark.parametrize("kind", ["kprobe", "kretprobe", "fentry", "fexit"])
def test_all_functions_are_listed_with_the_arguments_of_their_prototypes(
    listed: Callable[[str], list[str]], kind: str
) -> None:
    prefix = f"{kind}:vmlinux:" if kind.startswith("f") else f"{kind}:"
    expected = []
    for name, lines in sorted(_expected(kind).items()):
        expected += [prefix + name, *(f"    {each}" for each in lines)]
    assert listed(f"{kind}:*") == expected


@pytest.mark.parametrize("kind", ["kprobe", "kretprobe", "fentry", "fexit"])
def test_a_function_is_listed_alone_as_among_all(listed: Callable[[str], list[str]], kind: str) -> None:
    for name, lines in _expected(kind).items():
        assert listed(f"{kind}:{name}")[1:] == [f"    {each}" for each in lines]
