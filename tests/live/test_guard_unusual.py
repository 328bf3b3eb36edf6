"""insitu guard of sound programs that do what is rare: their output and status are what they are without it."""

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAMS = Path(__file__).parent / "guard_unusual"
_GUARD = [sys.executable, "-m", "insitu", "guard"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("unusual")
    plugin = ["g++", "-O1", "-shared", "-fPIC", _PROGRAMS / "plugin.cc"]
    subprocess.run([*plugin, "-o", here / "plugin.so"], check=True)
    subprocess.run([*plugin, "-DATFORK", "-o", here / "libaf.so"], check=True)
    program = ["gcc", "-O0", "-w", _PROGRAMS / "unusual.c", "-ldl"]
    subprocess.run([*program, "-o", here / "unusual"], check=True)
    linked = [f"-L{here}", "-Wl,--no-as-needed", "-laf", f"-Wl,-rpath,{here}"]
    subprocess.run([*program, *linked, "-o", here / "with_library"], check=True)
    for name, options in (("nothrow", []), ("own", ["-DOWN"])):
        subprocess.run(["g++", "-O0", *options, _PROGRAMS / "nothrow.cc", "-o", here / name], check=True)
    return here


@pytest.mark.parametrize("mode", [(), ("--mprotect",)], ids=["guard pages", "mprotect"])
@pytest.mark.parametrize(
    "words",
    [
        *(
            ["unusual", how]
            for how in ("resethand", "forks", "steps", "limits", "nofiles", "ignored", "masks", "older")
        ),
        *(["unusual", how] for how in ("onstack", "barrier", "sizes")),
        ["with_library", "atfork"],
        ["unusual", "deepbind", "./plugin.so"],
        ["unusual", "plugin", "./plugin.so"],
        ["nothrow"],
        ["own"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_a_sound_program_does_what_it_does_alone(built: Path, words: list[str], mode: tuple[str, ...]) -> None:
    command = [f"./{words[0]}", *words[1:]]
    plain = subprocess.run(command, cwd=built, capture_output=True, text=True, timeout=120)
    done = subprocess.run([*_GUARD, *mode, "--", *command], cwd=built, capture_output=True, text=True, timeout=240)
    assert (done.stdout, done.returncode) == (plain.stdout, plain.returncode), done.stderr
    assert "no fault" in done.stderr


def test_a_limit_from_outside_leaves_the_program_its_memory(built: Path) -> None:
    script = 'ulimit -v 900000; exec python3 -c "import mmap; print(len(mmap.mmap(-1, 400 << 20)))"'
    done = subprocess.run([*_GUARD, "--", "bash", "-c", script], capture_output=True, text=True, timeout=240)
    assert (done.stdout, done.returncode) == (f"{400 << 20}\n", 0), done.stderr
