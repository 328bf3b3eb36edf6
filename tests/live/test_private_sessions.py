"""What was recorded with privileges can be read by its owner alone, whatever the umask."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

INSITU = [sys.executable, "-m", "insitu"]
SCRIPT = 't:raw_syscalls:sys_enter /pid == cpid/ { emit("call", (id=args.id, stack=ustack)); @[ustack] = count(); }'


def loose(session: Path) -> dict[str, str]:
    """Files and directories that others may use."""
    assert (session / "session.json").is_file()
    found = [session, *session.rglob("*")]
    assert len(found) > 3
    return {str(path): oct(mode) for path in found if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077}


def run(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True, umask=0)


def test_a_profile_is_private_while_it_is_recorded_and_after(tmp_path: Path) -> None:
    output = tmp_path / "deep/run.insitu"
    look = f"import stat, pathlib; p = pathlib.Path({str(output)!r}); print([x for x in [p, *p.rglob('*')]"
    look += " if stat.S_IMODE(x.stat().st_mode) & 0o077])"
    recorder = [*INSITU, "profile", "--stacks", "dwarf", "-o", output, "--", sys.executable, "-c", look]
    done = subprocess.run(recorder, check=True, capture_output=True, umask=0, text=True)
    assert done.stdout == "[]\n"
    assert loose(output) == {}


def test_a_scripts_session_is_private(tmp_path: Path) -> None:
    run(*INSITU, "trace", "-o", tmp_path / "run.insitu", "-e", SCRIPT, "--", "/bin/true")
    assert loose(tmp_path / "run.insitu") == {}


def test_an_imported_session_is_private(tmp_path: Path) -> None:
    (tmp_path / "run.folded").write_text("a;b 1\na;c 2\n")
    run(*INSITU, "import", tmp_path / "run.folded", "-o", tmp_path / "run.insitu")
    assert loose(tmp_path / "run.insitu") == {}


def test_compiled_programs_and_line_tables_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "spin.c").write_text("int main(void) { for (volatile long i = 0; i < 200000000; i++); }")
    run("gcc", "-g", "-Wl,--build-id", tmp_path / "spin.c", "-o", tmp_path / "spin")
    run(*INSITU, "profile", "-o", tmp_path / "run.insitu", "--", tmp_path / "spin")
    run(*INSITU, "trace", "-e", 'begin { printf("x"); exit(); }')
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {path.parent.name for path in kept} >= {"symcache", "programs"}
    assert [path for path in kept if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
