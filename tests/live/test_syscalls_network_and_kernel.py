"""The lines of calls of sockets, and of calls whose arguments depend on another one, equal strace's."""

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.live.syscall_peer import bpf_threads, compare, compiled_program

import insitu
from insitu.convert.sources import finish
from insitu.record.run import Request, record
from insitu.record.sources.syscalls import SyscallsSource
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.engine_options import EngineOptions

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

NETWORK = ("addresses", "kinds", "stream", "messages", "options", "routes")
KERNEL = (
    "fcntls", "prctls", "futexes", "clones", "ipcs", "aios", "keys", "traces", "events", "bpfs", "programs",
    "terminals", "ioctls", "others",
)  # fmt: skip
GROUPS = (*(("network", group) for group in NETWORK), *(("kernel", group) for group in KERNEL))
OF_A_RUN = (
    (r"^(getrandom|getppid|brk)\(.*", r"\1"),
    (r"sin_port=htons\(\d{5}\)", "sin_port=P"),
    (r"\b(nl_pid|nlmsg_pid|shm_cpid|shm_lpid|msg_lspid|msg_lrpid)=\d+", r"\1=N"),
    (r"\{pid=\d+, uid=", "{pid=N, uid="),
    (r"\b([rt]x_\w+)=\d+", r"\1=N"),
    (r"\b(shm_[adc]time|msg_[src]time)=\d+", r"\1=T"),
    (r"^((?:shmat|shmctl|shmget|semget|semop|semtimedop|semctl|msgget|msgsnd|msgrcv|msgctl)\()\d+", r"\1ID"),
    (r"^((?:shmget|semget|msgget)\(.*) = \d+", r"\1 = ID"),
    (r"\b\d{7,10}\b(?=[,)]| =|$)", "KEY"),
    (r"\(left \{[^}]*\}\)", "(left T)"),
    (r"^(syslog\(.*) = \d+", r"\1 = N"),
    (r"^(getpid\(\)) = \d+", r"\1"),
    (r"(nla_type=IFLA_AF_SPEC\}, ).*", r"\1"),
    (r"nla_type=NDA_CACHEINFO\}, \{[^}]*\}", "cacheinfo"),
    (r"(TCP_INFO, ).*(, \[)", r"\1info\2"),
    (r"(cmsg_data=\[)\d+, 0\]", r"\1N, 0]"),
)
NEWER = (
    # names of kernels after strace 6.1's
    (r"0x40b /\* F_\?\?\? \*/, @?\w+", "F_GET_RW_HINT, [RWH_WRITE_LIFE_NOT_SET]"),
    (r"(IORING_FEAT_LINKED_FILE)\|[^,]*", r"\1"),
    (r"CS5\|0x20000000", "CS5|ADDRB"),
    (r"KEXEC_FILE_DEBUG", "0x8"),
    (r"KEXEC_CRASH_HOTPLUG_SUPPORT", "0x8 /* KEXEC_??? */"),
    (r"MEMBARRIER_CMD_GET_REGISTRATIONS", "0x200"),
)
NOT_DECODED = (
    # docs/syscalls.md, "What differs from strace"
    (r", info=(?:\{type=.*?\}|0x\w+)\}\}", ", info=I}}"),
    (r"(FF\d|CS\d)\|,", r"\1,"),
    (r"(BTRFS_IOC_SUBVOL_CREATE, ).*?\) =", r"\1) ="),
)
MASKS = (*OF_A_RUN, *NEWER, *NOT_DECODED)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Compiles a program of the folder once, and returns its path."""
    directory = tmp_path_factory.mktemp("programs")

    return functools.cache(functools.partial(compiled_program, directory))


def difference(
    compiled: Callable[[str], str], tmp_path: Path, name: str, group: str, text: TextOptions, *options: str
) -> str:
    """Returns where our lines and strace's differ."""
    return compare(
        [compiled(name), group],
        tmp_path / "strace.txt",
        masks=MASKS,
        threads=1,
        text=text,
        options=options,
        attempts=2,
    )


@pytest.mark.parametrize(("name", "group"), GROUPS)
def test_each_call_has_straces_line(compiled: Callable[[str], str], tmp_path: Path, name: str, group: str) -> None:
    found = difference(compiled, tmp_path, name, group, TextOptions())
    assert not found, found


@pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")
def test_netlink_messages_have_straces_lines_by_the_bpf_engine_too(
    compiled: Callable[[str], str], tmp_path: Path
) -> None:
    first = (r"^write\(-1, .*", "")  # BPF reads no page that nobody has touched
    command = [compiled("network"), "routes"]
    found = compare(command, tmp_path / "strace.txt", masks=[*MASKS, first], threads=1, run=bpf_threads)
    assert not found, found
    session = tmp_path / "run.insitu"
    assert not record(Request(command=command), [SyscallsSource(EngineOptions())], session).lost
    finish(session)
    with insitu.open(session) as opened:
        joined = "syscall join span on span_id = span.id"
        ((text,),) = opened.sql(
            f"select arguments from {joined} where name = 'recvmsg' order by ts_ns limit 1"
        ).rows()
    assert "nlmsg_type=RTM_NEWLINK" in text and '[{nla_len=7, nla_type=IFLA_IFNAME}, "lo"]' in text


@pytest.mark.parametrize(("name", "group"), GROUPS)
def test_each_call_has_straces_line_with_whole_structures(
    compiled: Callable[[str], str], tmp_path: Path, name: str, group: str
) -> None:
    found = difference(compiled, tmp_path, name, group, TextOptions(verbose=True, string_limit=45), "-v", "-s", "45")
    assert not found, found
