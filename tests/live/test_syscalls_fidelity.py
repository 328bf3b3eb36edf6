"""The lines of system calls equal strace's: of programs as people use them, and of a program that makes each call.

What differs from run to run is masked, and what differs from strace on purpose: docs/syscalls.md lists that.
"""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.live.syscall_peer import Threads, bpf_threads, compare, compiled_program, our_threads

from insitu.syscalls.argument import TextOptions

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

GROUPS = (
    "files", "directories", "vectors", "attributes", "mounts", "memory", "processes", "signals", "times", "polls",
)  # fmt: skip
FREE_BLOCKS = (r"f_(bfree|bavail|ffree)=\d+", r"f_\1=N")
RANDOM = (r'getrandom\("[^"]*"', 'getrandom("..."')
OF_A_RUN = (
    FREE_BLOCKS,
    RANDOM,
    (r"^(brk\(0x\w+\)) = 0x\w+", r"\1"),
    (r'f_handle="[^"]*"', "f_handle=H"),
    (r"\b(st_ino|stx_ino|d_ino|d_off)=\d+", r"\1=N"),
    (r"\b(st_[amc]time(?:_nsec)?|stx_[abcm]time)=(?:\d+|\{[^}]*\})( /\* \S+ \*/)?", r"\1=T"),
    (r"^(clock_gettime|gettimeofday|timerfd_gettime|adjtimex|clock_adjtime|sysinfo|getcpu|kcmp)\(.*", r"\1"),
    (r"^(getppid|times|time)\((.*)\) = \d+.*", r"\1"),
    (r"\{ru_utime=.*?\}, (?:ru_\w+=\w+(?:, )?|\.\.\.|ru_stime=\{[^}]*\}, )+\}", "{rusage}"),
    (r"left \{[^}]*\}", "left T"),
    (r"^(ppoll\(\[\{fd=-1\}\], 1, )\{[^}]*\}", r"\1T"),
)
NEWER = (
    # constants of kernels after strace 6.1's
    ("MEMBARRIER_CMD_GET_REGISTRATIONS", "0x200"),
)
QUIRKS = (
    # strace cuts a result's comment at 1024 characters
    (r"(= 36 \(\[).*", r"\1"),
    # -X: strace shows parts of some values apart, or none of 0
    (r"0x2000(?: /\* AT_STATX_FORCE_SYNC \*/)?\|0x100(?: /\* AT_SYMLINK_NOFOLLOW \*/)?", "FLAGS"),
    (r"0x2100(?: /\* AT_STATX_FORCE_SYNC\|AT_SYMLINK_NOFOLLOW \*/)?", "FLAGS"),
    (r"0x4000(?: /\* AT_STATX_DONT_SYNC \*/)?\|0x10\b", "FLAGS"),
    (r"0x4010(?: /\* AT_STATX_DONT_SYNC\|0x10 \*/)?", "FLAGS"),
    (r'^(statx\(-\d+, (?:"[^"]*"|NULL)), 0?,', r"\1, 0,"),
    (r"0x100 /\* 0x100 /\* MFD_\?\?\? \*/ \*/", "0x100 /* MFD_??? */"),
    (r"0170644 /\* 0170644 \*/", "0170644"),
    (r"0xc0ed0000(?: /\* MS_MGC_VAL \*/)?\|0x2000(?: /\* MS_MOVE \*/)?", "FLAGS"),
    (r"0xc0ed2000(?: /\* MS_MGC_VAL\|MS_MOVE \*/)?", "FLAGS"),
)


RACES = (
    # When a child ends depends on the moment.
    (r"^(rt_sigreturn|futex)\(.*", ""),
    (r"^wait4\(.*", "wait4"),
    (r"parent_tid=\[\d+\]", "parent_tid=T"),
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Compiles a program of the folder once, and returns its path."""
    directory = tmp_path_factory.mktemp("programs")

    return functools.cache(functools.partial(compiled_program, directory))


def emptied(directory: Path) -> Callable[[], None]:
    """Returns what makes an empty directory of it."""

    def empty() -> None:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()

    return empty


def assert_every_call_equals_strace(
    compiled: Callable[..., str], tmp_path: Path, group: str, text: TextOptions, *options: str
) -> None:
    work = tmp_path / "work"
    found = compare(
        [compiled("every_call"), str(work), group],
        tmp_path / "strace.txt",
        prepare=emptied(work),
        masks=[*OF_A_RUN, *NEWER, *(QUIRKS if "-X" in options else ())],
        threads=1,
        text=text,
        options=options,
    )
    assert not found, found


@pytest.mark.parametrize("group", GROUPS)
def test_each_call_has_straces_line(compiled: Callable[..., str], tmp_path: Path, group: str) -> None:
    assert_every_call_equals_strace(compiled, tmp_path, group, TextOptions())


OF_BPF = (
    # What reaches into a page that cannot be read is not read at all.
    (r"^(execve\(\"/nonexistent\", )(?:\[[^]]*\]|0x\w+)(.*ENOENT.*)", r"\1ARGUMENTS\2"),
    (r"^(writev\(\d+, ).*, 5\) = -1 EFAULT.*", r"\1VECTOR"),
    (r"^poll\(.*, (?:1073741824|5), 0\) = -1 (EINVAL|EFAULT).*", r"poll \1"),
    # Of a directory no more than 4096 bytes are read.
    (r"^(getdents64\(\d+, 0x\w+) /\* \d+ entries \*/(.*) = \d{4,}$", r"\1\2"),
    (r"^(getdents64\(\d+, 0x\w+, .*) = \d{4,}$", r"\1"),
)


@pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")
@pytest.mark.parametrize("group", GROUPS)
def test_each_call_has_straces_line_by_the_bpf_engine(
    compiled: Callable[..., str], tmp_path: Path, group: str
) -> None:
    work = tmp_path / "work"
    found = compare(
        [compiled("every_call"), str(work), group],
        tmp_path / "strace.txt",
        prepare=emptied(work),
        masks=[*OF_A_RUN, *NEWER, *OF_BPF],
        threads=1,
        run=bpf_threads,
    )
    assert not found, found


@pytest.mark.parametrize("group", GROUPS)
def test_each_call_has_straces_line_with_whole_structures(
    compiled: Callable[..., str], tmp_path: Path, group: str
) -> None:
    assert_every_call_equals_strace(
        compiled, tmp_path, group, TextOptions(verbose=True, string_limit=45), "-v", "-s", "45"
    )


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("constants", ["raw", "verbose"])
def test_each_call_has_straces_line_with_numbers_for_constants(
    compiled: Callable[..., str], tmp_path: Path, group: str, constants: str
) -> None:
    assert_every_call_equals_strace(compiled, tmp_path, group, TextOptions(constants=constants), "-X", constants)


@pytest.mark.parametrize("group", ["files", "vectors", "attributes", "processes"])
@pytest.mark.parametrize(("option", "in_hex"), [("-x", "non-ascii"), ("-xx", "all")])
def test_each_call_has_straces_line_with_strings_in_hexadecimal(
    compiled: Callable[..., str], tmp_path: Path, group: str, option: str, in_hex: str
) -> None:
    assert_every_call_equals_strace(compiled, tmp_path, group, TextOptions(strings_in_hex=in_hex), option)


# Programs as people use them, by both engines

Engine = Callable[[Sequence[str], TextOptions], Threads]


@pytest.fixture(params=[our_threads, bpf_threads], ids=["ptrace", "bpf"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """What returns the lines of a command."""
    if request.param is bpf_threads and os.geteuid() != 0:
        pytest.skip("BPF needs root")
    found: Engine = request.param
    return found


def assert_lines_equal_straces(
    command: list[str],
    tmp_path: Path,
    *masks: tuple[str, str],
    prepare: Callable[[], object] = lambda: None,
    run: Engine,
) -> None:
    """Both run without address space randomization: what the allocator asks of the kernel depends on it."""
    found = compare(
        ["setarch", "-R", *command],
        tmp_path / "strace.txt",
        prepare=prepare,
        masks=[*OF_A_RUN, *NEWER, *(OF_BPF if run is bpf_threads else ()), *masks],
        run=run,
    )
    assert not found, found


def program(name: str) -> str:
    """Returns the path of a program; skips the test where there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small directory tree, always the same."""
    root = tmp_path / "tree"
    for each in ("one", "two/three"):
        (root / each).mkdir(parents=True)
    for at in range(5):
        (root / f"file{at}").write_text(f"line {at}\n" * at)
    (root / "two/link").symlink_to("../file1")
    return root


def test_ls(engine: Engine, tree: Path, tmp_path: Path) -> None:
    assert_lines_equal_straces([program("ls"), "-l", str(tree)], tmp_path, run=engine)


def test_cat(engine: Engine, tree: Path, tmp_path: Path) -> None:
    assert_lines_equal_straces([program("cat"), str(tree / "file3")], tmp_path, run=engine)


def test_commands_one_after_the_other(engine: Engine, tree: Path, tmp_path: Path) -> None:
    assert_lines_equal_straces(["sh", "-c", f"cat {tree}/file4; wc -l {tree}/file3; :"], tmp_path, *RACES, run=engine)


def test_a_pipeline(engine: Engine, tree: Path, tmp_path: Path) -> None:
    assert_lines_equal_straces(["sh", "-c", f"cat {tree}/file4 | wc -l"], tmp_path, *RACES, run=engine)


def test_python(engine: Engine, tmp_path: Path) -> None:
    assert_lines_equal_straces([sys.executable, "-S", "-E", "-c", "print('hello')"], tmp_path, run=engine)


def test_git_status(engine: Engine, tree: Path, tmp_path: Path) -> None:
    git = program("git")
    subprocess.run([git, "init", "-q", str(tree)], check=True)
    subprocess.run([git, "-C", str(tree), "add", "."], check=True)
    assert_lines_equal_straces([git, "--no-optional-locks", "-C", str(tree), "status"], tmp_path, run=engine)


def test_find(engine: Engine, tree: Path, tmp_path: Path) -> None:
    assert_lines_equal_straces([program("find"), str(tree), "-name", "*link*"], tmp_path, run=engine)


def test_tar(engine: Engine, tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    assert_lines_equal_straces(
        [program("tar"), "cf", str(archive), "-C", str(tree), "."],
        tmp_path,
        prepare=lambda: archive.unlink(missing_ok=True),
        run=engine,
    )


def test_sqlite(engine: Engine, tmp_path: Path) -> None:
    database = tmp_path / "data.db"
    assert_lines_equal_straces(
        [program("sqlite3"), str(database), "create table t(a); insert into t values (1); select * from t;"],
        tmp_path,
        (r'((?:pwrite64|read)\(\d+, ")[^"]*"', r'\1..."'),  # a journal has random numbers
        prepare=lambda: [each.unlink() for each in tmp_path.glob("data.db*")],
        run=engine,
    )


def test_gcc(engine: Engine, tmp_path: Path) -> None:
    source = tmp_path / "program.c"
    source.write_text("int main(void) { return 0; }\n")
    assert_lines_equal_straces(
        [program("gcc"), "-S", "-o", str(tmp_path / "program.s"), str(source)],
        tmp_path,
        (r"/tmp/cc\w{6}", "/tmp/ccXXXXXX"),
        prepare=lambda: (tmp_path / "program.s").unlink(missing_ok=True),
        run=engine,
    )


def test_a_program_with_threads(engine: Engine, compiled: Callable[..., str], tmp_path: Path) -> None:
    assert_lines_equal_straces([compiled("threads", "-pthread")], tmp_path, *RACES, run=engine)


def test_a_rust_program(engine: Engine, tmp_path: Path) -> None:
    rustc = program("rustc")
    source = tmp_path / "program.rs"
    source.write_text('fn main() { println!("{}", std::fs::read_to_string("/etc/hostname").unwrap().len()); }\n')
    binary = tmp_path / "program"
    subprocess.run([rustc, "-o", binary, source], check=True, capture_output=True)
    assert_lines_equal_straces([str(binary)], tmp_path, run=engine)


@pytest.fixture
def server(tree: Path) -> Iterator[str]:
    """A server on the loopback interface that this test has started; its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def date_time_string(self, timestamp: float | None = None) -> str:
            return "Thu, 01 Jan 1970 00:00:00 GMT"

    handler = functools.partial(Quiet, directory=str(tree))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}/file3"
        http_server.shutdown()
        thread.join()


def test_curl(engine: Engine, server: str, tmp_path: Path) -> None:
    assert_lines_equal_straces(
        [program("curl"), "-s", "-o", os.devnull, "--noproxy", "*", server],
        tmp_path,
        (r"sin_port=htons\(\d+\)", "sin_port=P"),
        # How often it asks before the answer is there depends on the moment.
        (r"^(poll|getsockopt|recvfrom|rt_sigaction\(SIGPIPE)\(?.*", ""),
        *RACES,
        run=engine,
    )


def test_ps(engine: Engine, tmp_path: Path) -> None:
    """Of one process, as those of the machine come and go."""
    assert_lines_equal_straces(
        [program("ps"), "-q", "1"], tmp_path, (r'(read\(\d+, ")[^"]*"(?:\.\.\.)?(.*) = \d+$', r'\1..."\2'), run=engine
    )
