"""The cases of docs/cases about memory: their very programs and commands show what their pages say."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import insitu

if os.geteuid() != 0:
    pytest.skip("needs root, for physical pages", allow_module_level=True)

_PAGES = Path(__file__).parents[2] / "docs/cases"
_INSITU = [sys.executable, "-m", "insitu"]


def _compiled(page: str, name: str, directory: Path) -> Path:
    """The program of a page, compiled as it says."""
    text = (_PAGES / f"{page}.md").read_text()
    (directory / f"{name}.c").write_text(re.findall(r"```c\n(.*?)```", text, re.DOTALL)[0])
    [flags] = re.findall(rf"^\$ gcc (.*)-o {name} ", text, re.MULTILINE)
    subprocess.run(["gcc", *flags.split(), "-o", name, f"{name}.c"], cwd=directory, check=True)
    return directory / name


def test_pages_are_those_that_the_program_counts_itself(tmp_path: Path) -> None:
    program = _compiled("memory-page-by-page", "pages", tmp_path)
    seen = []
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        pages = process.stdout.readline().strip()
        for _ in range(4):
            read, written = map(int, re.findall(r"\d+", process.stdout.readline()))
            command = [*_INSITU, "proc", "--json", "--pages", pages, str(process.pid)]
            document: Any = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
            counts: Counter[str | None] = Counter()
            for run in document["pages"]:
                counts[run["state"]] += run["pages"]
            assert +counts == +Counter(
                {"page of zeros": read, "private, anonymous": written, None: 64 - read - written}
            )
            seen.append((read, written))
            process.stdin.write("\n")
            process.stdin.flush()
    text = (_PAGES / "memory-page-by-page.md").read_text()
    shown = re.findall(r"^64 pages: (.*)$", text, re.MULTILINE)
    assert len(shown) == len(seen) == 4
    for line, (read, written) in zip(shown, seen, strict=True):
        assert (f"{read} page of zeros" in line) == (read > 0)
        assert (f"{written} private, anonymous" in line) == (written > 0)


def test_who_made_the_page_read_only_is_in_the_trace_before_the_signal(tmp_path: Path) -> None:
    program = _compiled("write-to-a-sealed-page", "settings", tmp_path)
    command = [*_INSITU, "syscalls", "-k", "-e", "mprotect", "--", "./settings"]
    text = subprocess.run(command, input="\n", cwd=tmp_path, capture_output=True, text=True, check=False).stderr
    before, signal, _ = text.partition("--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_ACCERR, si_addr=0x")
    assert signal
    address = int(text[len(before) + len(signal) :].split("}")[0], 16)
    page, stack = re.findall(r"^mprotect\((\w+), 4096, PROT_READ\) = 0\n((?: > .*\n)+)", before, re.MULTILINE)[-1]
    assert address == int(page, 16) + 6
    assert re.findall(r"settings\((\w+)\+", stack)[:2] == ["seal", "main"]
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        sealed = process.stdout.readline().strip()
        command = [*_INSITU, "proc", "--at", sealed, str(process.pid)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        process.kill()
    assert "was written, and has been made read-only since (mprotect): a write is SIGSEGV" in text


def test_the_calls_are_found_in_a_session_by_address(tmp_path: Path) -> None:
    _compiled("write-to-a-sealed-page", "settings", tmp_path)
    run = tmp_path / "run.insitu"
    command = [*_INSITU, "syscalls", "-q", "-o", run, "-k", "-e", "mprotect", "--", "./settings"]
    done = subprocess.run(command, input="\n", cwd=tmp_path, capture_output=True, text=True, check=False)
    sealed = done.stdout.strip()
    (query,) = re.findall(r"```sql\n(.*?)```", (_PAGES / "write-to-a-sealed-page.md").read_text(), re.DOTALL)
    with insitu.open(run) as session:
        rows = session.sql(re.sub(r"0x\w+", sealed[:-3], query)).rows()
    assert [row[1:] for row in rows if row[1] == "mprotect"] == [("mprotect", f"{sealed}, 4096, PROT_READ")]
