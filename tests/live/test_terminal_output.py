"""`insitu trace` and `profile` of a program whose names would drive a terminal; the same bytes in a pipe."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.terminal import INSITU, assert_harmless, on_terminal, shown_text

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

COMM = "\x1b]0;t\x07\x9b1m\r\n\t"  # 13 bytes of 15
FILE = "/x\x1b[2J\x1b]0;owned\x07\x9b\u202e\u2066\u200f\r\n\t\udcff\udc9b"
_PROGRAM = r"""
#include <fcntl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
__attribute__((noinline)) void evil(const char *file) { open(file, 0); __asm__ volatile(""); }
int main(int argc, char **argv)
{
    prctl(PR_SET_NAME, argv[1]);
    evil(argv[2]);
    for (struct timespec t = {0}; t.tv_sec < 1 && t.tv_nsec < 300000000;)
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    execv(argv[3], (char *[]){argv[1], argv[2], 0});
}
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of a program that names itself COMM and opens FILE in a function of such a name."""
    path = tmp_path_factory.mktemp("target") / "p\x1b]0;path\x07\u202e\r\n"
    source = path.parent / "it.c"
    source.write_text(_PROGRAM)
    subprocess.run(["gcc", "-O1", "-fno-omit-frame-pointer", "-o", path, source], check=True)
    subprocess.run(["objcopy", "--redefine-sym", "evil=evil\x1b]0;f\x07\x9b\n", path], check=True)
    return [str(path), COMM, FILE, "/bin/true"]


_OPEN = 'tracepoint:syscalls:sys_enter_openat /pid == cpid && str(args.filename, 3) == "/x"/'

VALUES = [
    'printf("%s\n", comm)',
    'printf("%-40s|\n", str(args.filename))',
    'printf("%s %s\n", comm, str(args.filename))',
    "print(comm)",
    "print(str(args.filename))",
    "print((comm, 1, str(args.filename)))",
    "print(buf(args.filename, 20))",
    'printf("%r\n", buf(args.filename, 20))',
    'printf("%c%c%c\n", 27, 0x9b, 127)',
    "print(curtask->comm)",
    "print(ustack)",
    "print(ustack(perf))",
    'printf("%s\n", ustack(3))',
    "@a = comm",
    "@b[comm] = count()",
    "@c[comm, str(args.filename)] = sum(2)",
    "@d[pid] = (comm, str(args.filename))",
    "@e[comm] = hist(3)",
    "@f[comm] = stats(3)",
    "@g[ustack, pid] = count()",
    'errorf("%s", str(args.filename))',
    'warnf("%s", comm)',
    'cat("/nowhere/%s", comm)',
    'cat("/proc/%d/comm", pid)',
    'cat("/proc/%d/cmdline", pid)',
]


@pytest.mark.parametrize("form", ["text", "json"])
def test_values_of_a_program_do_not_drive_the_terminal(form: str, target: list[str]) -> None:
    script = f"{_OPEN} {{ {'; '.join(VALUES)}; }}"
    done = on_terminal([*INSITU, "trace", "-q", "-f", form, "--unsafe", "-e", script, "--", *target])
    assert_harmless(done.data)
    escapes = len(re.findall(r"\\x1b|\\u001b", shown_text(done.data)))
    assert done.status == 0 and escapes >= len(VALUES), done.data


def test_words_of_a_command_do_not_drive_the_terminal(target: list[str]) -> None:
    script = "tracepoint:syscalls:sys_enter_execve /pid == cpid/ { join(args.argv); }"
    done = on_terminal([*INSITU, "trace", "-q", "-e", script, "--", *target])
    assert_harmless(done.data)
    assert "\n\\x1b]0;t\\x07\\x9b1m\\r\\n\\t /x\\x1b[2J" in shown_text(done.data), done.data


def test_a_newline_of_a_value_begins_no_line_on_a_terminal(target: list[str]) -> None:
    done = on_terminal([*INSITU, "trace", "-q", "-e", f'{_OPEN} {{ printf("%s|\\n", comm); }}', "--", *target])
    assert shown_text(done.data).rstrip("\n") == "\\x1b]0;t\\x07\\x9b1m\\r\\n\\t|"


def test_the_scripts_own_text_is_printed_as_it_is() -> None:
    script = r'BEGIN { printf("\033[1mbold\033[0m\t%s\r\n", "x"); print("y"); exit(); }'
    done = on_terminal([*INSITU, "trace", "-q", "-e", script])
    assert done.data.startswith(b"\x1b[1mbold\x1b[0m\tx\r\r\ny\r\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_bytes_of_values_pass_through_a_pipe_but_are_replaced_in_json(
    form: str, target: list[str], tmp_path: Path
) -> None:
    script = f'{_OPEN} {{ printf("%s %s\\n", comm, str(args.filename)); }}'
    words = [*INSITU, "trace", "-q", "-f", form, "-e", script]
    expected = os.fsencode(f"{COMM} {FILE}")
    for more in ([], ["-o", tmp_path / "text"]):
        done = subprocess.run([*words, *more, "--", *target], stdout=subprocess.PIPE, timeout=300, check=True)
        written = (tmp_path / "text").read_bytes() if more else done.stdout
        if form == "json":
            line = json.loads(written.decode().splitlines()[0])
            assert line["data"] == expected.decode(errors="replace") + "\n"
        else:
            assert written.rstrip(b"\n") == expected


def test_lists_of_probes_do_not_drive_the_terminal(target: list[str], tmp_path: Path) -> None:
    plain = tmp_path / "it"
    plain.hardlink_to(target[0])
    for path in (str(plain), target[0]):
        done = on_terminal([*INSITU, "trace", "-l", f"uprobe:{path}:*"])
        assert_harmless(done.data)
    done = on_terminal([*INSITU, "trace", "-l", f"uprobe:{plain}:evil*"])
    assert shown_text(done.data) == f"uprobe:{plain}:evil\\x1b]0;f\\x07\\x9b\\n\n"


def test_a_profile_and_its_views_do_not_drive_the_terminal(target: list[str], tmp_path: Path) -> None:
    output = tmp_path / "\x1b]0;o\x07\u202e.insitu"
    commands = [
        ["profile", "-o", output, "--", *target],
        ["profile", "-o", output, "--", *target],  # says what it replaced
        ["report", output],
        ["report", output, "--reverse"],
        ["sql", output, "from thread"],
        ["sql", output, "from process"],
    ]
    for words in commands:
        done = on_terminal([*INSITU, *words])
        assert_harmless(done.data)
        assert done.status == 0 and b"Traceback" not in done.data, done.data
