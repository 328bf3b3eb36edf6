"""Lines and local variables of a kernel with its debug information: `make test-custom-kernels`.

perf probe is the judge of what is visible where; the program that provokes an event says what the values are.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from insitu.lab import Guest
from insitu.lab.kernels.kernel import Kernel
from insitu.record.ftrace.user_code import SourceLine, UserCode
from insitu.symbols.data_symbols import find_symbol

from .conftest import shell

pytestmark = pytest.mark.timeout(5400)

_FUNCTIONS = (
    *("vfs_read", "vfs_write", "do_sys_openat2", "path_openat", "filename_lookup", "generic_file_read_iter"),
    *("try_to_wake_up", "wake_up_new_task", "copy_process", "do_exit", "do_wait", "ptrace_request"),
    *("__alloc_pages", "do_mmap", "handle_mm_fault", "shrink_node", "tcp_sendmsg_locked", "udp_sendmsg"),
    *("tcp_v4_rcv", "begin_new_exec"),
)
_SAMPLES = 4  # lines of each function whose variables are compared
# What ends an expression that is computed, and what begins one that only a debugger at a call can have: perf takes
# the first register of either for where the variable is.
_STACK_VALUE, _OF_CALLERS = 0x9F, (0xA0, 0xA3, 0xF2, 0xF3)
_PROVOKE = """
import os, socket
with open("/etc/hostname", "rb", buffering=0) as file:
    os.read(file.fileno(), 4321)
    print("inode", os.fstat(file.fileno()).st_ino)
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.bind(("127.0.0.1", 0))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
sender.sendto(b"x" * 77, peer.getsockname())
"""


@pytest.fixture(scope="module")
def code(latency_kernel: Kernel) -> UserCode:
    return UserCode(str(latency_kernel.debuginfo), is_kernel=True)


def _perf(code: UserCode, *words: str) -> str:
    command = ["unshare", "-m", "perf", "probe", "-k", code.path, *words]  # it mounts tracefs
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300).stdout


@pytest.mark.parametrize("function", _FUNCTIONS)
def test_lines_with_code_are_those_of_perf(code: UserCode, function: str) -> None:
    _, lines = code.lines(function)
    first = lines[0].number
    ours = {line.number - first for line in lines if line.address is not None}
    listed = re.findall(r"^ {2,6}(\d+)  ", _perf(code, "-L", function), re.MULTILINE)
    theirs = {int(number) for number in listed if int(number) < len(lines)}
    assert len(theirs) > 3
    for number in theirs - ours:
        # Several lines may begin at one instruction, which is then of the last of them: binutils' judgement, too.
        definition = re.search(r"^p:\S+ (\w+)\+(\d+)", _perf(code, "-D", f"{function}:{number}"), re.MULTILINE)
        assert definition is not None
        symbol = find_symbol(code.elf, definition[1])
        assert symbol is not None
        place = f"{symbol[0] + int(definition[2]):#x}"
        said = subprocess.run(["addr2line", "-i", "-e", code.path, place], capture_output=True, text=True, check=True)
        assert not re.search(rf":{first + number}\b", said.stdout), (number, place)


@pytest.mark.parametrize("function", _FUNCTIONS)
def test_variables_of_a_line_are_those_of_perf(code: UserCode, function: str) -> None:
    start = code.function(function)
    there = [
        line for line in code.lines(function)[1] if line.address is not None and code.around(line.address)[1] == start
    ]
    compared = 0
    for line in there[:: max(len(there) // _SAMPLES, 1)]:
        assert line.address is not None
        listed = _perf(code, "-V", f"{function}+{line.address - start}")
        if "Available" not in listed:
            continue
        theirs = set(re.findall(r"^\t\t.*\t(\w+)$", listed, re.MULTILINE))
        visible, expressions = set(), {}
        for depth in (0, 1, 2, 3, None):  # perf shows an outer variable beside an inner one of the same name
            scope = code.scope(line.address, depth)
            visible |= {each.name for each in scope.variables if code.is_visible(scope, each, line.address)}
            expressions |= {each.name: each.location for each in scope.variables if each.location}
        for name in theirs - visible:
            expression = expressions[name]
            assert expression[-1] == _STACK_VALUE or expression[0] in _OF_CALLERS, (line.number, name)
        for name in visible - theirs:  # constants, which perf does not show
            assert expressions[name][-1] == _STACK_VALUE, (line.number, name)
        compared += 1
    assert compared


def _line(code: UserCode, function: str, text: str) -> tuple[SourceLine, int]:
    """The first line of a function with this text, and its number in the function."""
    _, lines = code.lines(function)
    found = next(line for line in lines if text in line.text and line.address is not None)
    return found, found.number - lines[0].number


def test_local_variables_of_the_kernel_are_what_the_program_made_them(
    code: UserCode, latency_guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / "provoke.py").write_text(_PROVOKE)
    verified, _ = _line(code, "vfs_read", "rw_verify_area(READ")
    _, too_long = _line(code, "udp_sendmsg", "if (len > 0xFFFF)")
    reading = f"kprobe:fs/read_write.c:{verified.number} count file->f_path.dentry->d_name.name file->f_inode->i_ino"
    sending = f"kprobe:udp_sendmsg+{too_long} len ulen inet->recverr inet->recverr_rfc4884 sk->__sk_common.skc_family"
    command = f"{sys.executable} -m insitu events -q -x {code.path} --probe '{reading}' -F 'count == 4321'"
    shell(latency_guest, "ip link set lo up")
    shown = shell(latency_guest, f"{command} --probe '{sending}' -- {sys.executable} {tmp_path}/provoke.py")
    (inode,) = re.findall(r"^inode (\d+)$", shown, re.MULTILINE)
    assert f'count=4321 file_f_path_dentry_d_name_name="hostname" file_f_inode_i_ino={inode}' in shown
    assert "len=77 ulen=77 inet_recverr=1 inet_recverr_rfc4884=0 sk___sk_common_skc_family=2" in shown


def test_what_is_optimized_out_is_said_in_one_line_with_where_it_is_known(
    code: UserCode, latency_guest: Guest
) -> None:
    _, lines = code.lines("vfs_read")
    known = [
        line.number
        for line in lines
        if line.address is not None
        and any(each.name == "ret" and each.location for each in code.scope(line.address, 0).variables)
    ]
    _, early = _line(code, "vfs_read", "FMODE_CAN_READ")
    words = (
        f"{sys.executable} -m insitu events -x {code.path} --probe 'kprobe:vfs_read+{early} ret' -- true 2>&1 || true"
    )
    (said,) = shell(latency_guest, words).splitlines()
    assert "ret (ssize_t) is optimized out at read_write.c:" in said
    assert f"it is known at line {known[0]}" in said


def test_lines_are_listed_with_their_source(code: UserCode, latency_guest: Guest) -> None:
    line, number = _line(code, "vfs_read", "rw_verify_area(READ")
    listed = shell(latency_guest, f"{sys.executable} -m insitu events --lines vfs_read -x {code.path}")
    (row,) = [each for each in listed.splitlines() if each.split()[:2] == [f"+{number}", str(line.number)]]
    assert line.text.strip() in row
    assert row.rstrip().endswith("file, buf, count, pos")


def _trace(code: UserCode, options: str, script: str) -> str:
    """The command that runs a script of the probe language with the kernel's debug information at hand."""
    directory = Path(code.path).parent
    return f"{sys.executable} -m insitu trace --debuginfo {directory} {options} -e '{script}'"


def _binutils(code: UserCode, address: int) -> list[tuple[str, str]]:
    """Function and ``FILE:LINE`` of an address and of what is inlined there, innermost first."""
    command = ["addr2line", "-f", "-i", "-e", code.path, f"{address:#x}"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    places = [Path(each.partition(" (")[0]).name for each in words[1::2]]
    return list(zip(words[::2], places, strict=True))


def test_a_probe_at_a_line_fires_each_time_and_its_stack_has_the_lines_of_binutils(
    code: UserCode, latency_guest: Guest, tmp_path: Path
) -> None:
    line, _ = _line(code, "do_readv", "vfs_readv(")
    (tmp_path / "readv.py").write_text(
        'import os\nwith open("/etc/hostname", "rb", buffering=0) as file:\n'
        "    for _ in range(123):\n        os.readv(file.fileno(), [bytearray(1)])\n"
    )
    script = """kprobe@fs/read_write.c:LINE {
        @n = count();
        if (!@seen) {
            @seen = 1;
            printf("ip %llx %s %s\\n", reg("ip"), func, probe);
            print(kstack);
            print(kstack(raw));
        }
    }""".replace("LINE", str(line.number))
    shown = shell(latency_guest, _trace(code, f"-c '{sys.executable} {tmp_path}/readv.py'", script))
    assert re.search(r"^@n: 123$", shown, re.MULTILINE)
    found = re.search(rf"^ip ([0-9a-f]+) do_readv kprobe@fs/read_write\.c:{line.number}$", shown, re.MULTILINE)
    assert found is not None, shown
    at = int(found[1], 16) - 1  # behind the breakpoint
    assert (f"read_write.c:{line.number}") in [place for _, place in _binutils(code, at)]

    addresses = [int(each, 16) for each in re.findall(r"^\s*(ffffffff[0-9a-f]{8})$", shown, re.MULTILINE)]
    assert len(addresses) > 2
    expected = [each for number, address in enumerate(addresses) for each in _binutils(code, address - (number > 0))]
    frames = re.findall(r"^\s*(?:\[inlined\] )?(\w+)(?:\+\d+)?@\S*?([^/\s]+:\d+)$", shown, re.MULTILINE)
    # The table of lines that stacks are read with leaves out what was written in assembler.
    assert frames == [each for each in expected if not each[1].startswith("?") and ".S:" not in each[1]]
    assert ("do_readv", f"read_write.c:{line.number}") in frames


def test_a_line_of_an_inlined_function_is_probed_in_each_function(
    code: UserCode, latency_guest: Guest, tmp_path: Path
) -> None:
    text = Path(code.lines("do_readv")[0]).read_text().splitlines()
    number = 1 + next(at for at, each in enumerate(text) if "FMODE_STREAM ? NULL : &file->f_pos" in each)
    (tmp_path / "vectors.py").write_text(
        'import os\nwith open("/etc/hostname", "rb", buffering=0) as file, open("/dev/null", "wb", 0) as null:\n'
        "    for _ in range(31):\n        os.readv(file.fileno(), [bytearray(1)])\n"
        '    for _ in range(17):\n        os.writev(null.fileno(), [b"x"])\n'
    )
    script = f"k@read_write.c:{number} {{ @[func] = count(); }}"
    shown = shell(latency_guest, _trace(code, f"-c '{sys.executable} {tmp_path}/vectors.py'", script))
    counted = dict(re.findall(r"^@\[(\w+)\]: (\d+)$", shown, re.MULTILINE))
    assert counted["do_readv"] == "31"
    assert counted["do_writev"] == "17"
    assert int(counted["ksys_read"]) > 10  # python itself
    words = f"{sys.executable} -m insitu trace --debuginfo {Path(code.path).parent} -l k@read_write.c:{number}"
    assert set(shell(latency_guest, words).splitlines()) == {f"kprobe@read_write.c:{number}"}


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("kretprobe@fs/open.c:12", "kretprobe@fs/open.c:12: a return probe cannot be at a source line"),
        ("kprobe@fs/open.c:12:3", "columns are not supported"),
        ("kprobe@fs/open.c:1", "has no code of fs/open.c:1"),
        ("kprobe@init/main.c:START", "the kernel takes no probe"),
    ],
)
def test_a_line_that_cannot_be_probed_is_an_error_at_its_place(
    code: UserCode, latency_guest: Guest, point: str, message: str
) -> None:
    start, _ = _line(code, "start_kernel", "setup_arch(")
    script = f"{point.replace('START', str(start.number))} {{ }}"
    said = shell(latency_guest, _trace(code, "", script) + " 2>&1 || true")
    assert said.startswith("insitu: -e:1:1: error: ")
    assert message in said.splitlines()[0]
    assert "Traceback" not in said


def test_events_of_events_and_of_functions_are_made_without_debug_information(latency_guest: Guest) -> None:
    shown = shell(
        latency_guest,
        f"{sys.executable} -m insitu events -q --probe 'kprobe:vfs_write count' -F 'count == 5'"
        " --probe 'eprobe:sched:sched_process_exec pid' -- sh -c 'echo four > /dev/null; exec true'",
    )
    assert "count=5" in shown
    assert re.search(r"sched_process_exec.*pid=\d+", shown)


def test_dynamic_debug_messages_of_a_module_are_followed(latency_guest: Guest) -> None:
    control = "grep -c '=p' /proc/dynamic_debug/control || true"
    before = shell(latency_guest, control)
    words = f"{sys.executable} -m insitu dyndbg file lib/kobject_uevent.c func kobject_uevent_env +p --"
    shown = shell(latency_guest, f"{words} sh -c 'echo change > /sys/class/mem/null/uevent'")
    assert any("kobject_uevent_env: " in line and "'null'" in line for line in shown.splitlines())
    assert shell(latency_guest, control) == before
