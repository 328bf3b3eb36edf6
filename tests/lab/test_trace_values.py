"""The language on kernels that have kprobes and fentry: kernel structs as values, long loops, functions."""

import errno
import os
import shlex
import sys
from pathlib import Path

from insitu.lab import Guest

_READS = """
import errno
import os
descriptor = os.open("{path}", os.O_RDWR | os.O_APPEND)
os.read(descriptor, 4321)
"""
_SCRIPT = """
BEGIN {
    $t = *curtask; $q = &$t; @load = $t.se.load; @m[1] = 2; @m[2] = 3; $name = "before";
    for ($kv : @m) { $name = comm; @same[$kv.0] = $t.tgid == pid; }
    print(($t.tgid == pid, $q->tgid == pid, (&$t.tgid)[0] == pid));
    print(($name == comm, *(&$name) == comm, (&@m)->max_entries));
}
kprobe:vfs_read /pid == cpid && arg2 == 4321/ {
    $file = *(struct file *)arg0; $path = &((struct file *)arg0)->f_path; $name = $path->dentry->d_name;
    print(($file.f_flags & 3, $file.f_flags & O_APPEND, $file.f_path.dentry == $path->dentry, str($name.name)));
}
fentry:vfs_read /pid == cpid && args.count == 4321/ {
    $all = args; @path[$all.file->f_path] = count(); print(($all.count, $all.file->f_path.dentry->d_name.len));
}
END { print((@load.weight, len(@path))); clear(@load); clear(@path); clear(@m); }
"""


def test_kernel_structs_are_copied_whole_and_distinguished(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "a_file_of_ours").write_bytes(bytes(5000))
    (tmp_path / "script.bt").write_text(_SCRIPT)
    (tmp_path / "reads.py").write_text(_READS.format(path=tmp_path / "a_file_of_ours"))
    command = shlex.join([sys.executable, str(tmp_path / "reads.py")])
    trace = [sys.executable, "-m", "insitu", "trace", "-q", "-c", command, str(tmp_path / "script.bt")]
    done = guest.run(trace, env={**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"})
    assert done.status == 0, done.stderr
    lines = [line for line in done.stdout.decode().splitlines() if line]
    assert sorted(lines) == sorted(
        [
            "(true, true, true)",
            "(true, true, 4096)",
            f"({os.O_RDWR}, {os.O_APPEND}, true, a_file_of_ours)",
            f"(4321, {len('a_file_of_ours')})",
            "(1048576, 1)",  # NICE_0_LOAD of kernel/sched/sched.h
            "@same[1]: true",
            "@same[2]: true",
        ]
    )


_LOOPS = """
fn triangle($n : int64) : int64 { $s = 0; for $i : 0..$n { $s += $i; } return $s; }
fn first_above($limit : int64) : int64 { for ($kv : @m) { if ($kv.1 > $limit) { return $kv.0; } } return -1; }
kprobe:vfs_read /pid == cpid && arg2 == 4321/ {
    $s = 0; $i = 0;
    for $j : 0..1000000 { $s += $j; }
    while ($i < 100000) { $i++; if ($i % 2) { continue; } if ($i > 50000) { break; } }
    @m[7] = 70; @m[8] = 80;
    print(($s, $i, triangle(1000), first_above(75), first_above(100)));
    for ($kv : @m) { @rounds++; return; }
    @never = 1;
}
END { print(@rounds); clear(@rounds); clear(@m); }
"""


def test_long_loops_and_functions_run_in_a_kprobe(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))
    (tmp_path / "script.bt").write_text(_LOOPS)
    (tmp_path / "reads.py").write_text(_READS.format(path=tmp_path / "file"))
    command = shlex.join([sys.executable, str(tmp_path / "reads.py")])
    trace = [sys.executable, "-m", "insitu", "trace", "-q", "-c", command, str(tmp_path / "script.bt")]
    done = guest.run(trace)
    assert done.status == 0, done.stderr
    lines = [line for line in done.stdout.decode().splitlines() if line]
    assert lines == [f"({sum(range(1_000_000))}, 50002, {sum(range(1000))}, 8, -1)", "@rounds: 1"]


_NARROW = """
import ctypes, fcntl, os
descriptor = os.open("{path}", os.O_RDWR)
assert ctypes.CDLL(None, use_errno=True).fallocate(descriptor, -5, ctypes.c_long(0), ctypes.c_long(10)) < 0
os.write(1, b"errno %d\\n" % ctypes.get_errno())  # at once: the script's output goes there, too
fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NOATIME)
"""
_NARROW_SCRIPT = """
kprobe:vfs_fallocate /pid == cpid/ {
    printf("kprobe %d %d %d\\n", args.mode, args.mode < 0, args.mode == -5); @[args.mode] = sum(args.mode);
}
fentry:vfs_fallocate /pid == cpid/ { printf("fentry %d %d\\n", args.mode, args.mode < 0); }
fexit:vfs_fallocate /pid == cpid/ { printf("fexit %d %d\\n", args.mode, retval); }
kretprobe:vfs_fallocate /pid == cpid/ { printf("kretprobe %d %d\\n", retval, retval < 0); }
kretprobe:inode_owner_or_capable /pid == cpid/ { print(retval); @owner = retval; }
"""


def test_narrow_arguments_and_results_have_the_values_that_c_gives_them(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))
    (tmp_path / "script.bt").write_text(_NARROW_SCRIPT)
    (tmp_path / "calls.py").write_text(_NARROW.format(path=tmp_path / "file"))
    command = shlex.join([sys.executable, str(tmp_path / "calls.py")])
    done = guest.run([sys.executable, "-m", "insitu", "trace", "-q", "-c", command, str(tmp_path / "script.bt")])
    assert done.status == 0, done.stderr
    lines = done.stdout.decode().split("\n")
    assert f"errno {errno.EOPNOTSUPP}" in lines
    expected = ["kprobe -5 1 1", "fentry -5 1", f"fexit -5 -{errno.EOPNOTSUPP}", f"kretprobe -{errno.EOPNOTSUPP} 1"]
    assert set(expected) <= set(lines)
    assert {"true", "@[-5]: -5", "@owner: true"} <= set(lines)


def test_probes_of_one_location_fire_in_the_scripts_order(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))
    (tmp_path / "reads.py").write_text(_READS.format(path=tmp_path / "file"))
    kinds = {"kprobe": "arg2", "kprobe:vmlinux": "arg2", "fentry": "args.count", "fexit": "args.count"}
    script = "".join(
        f'{kind}:vfs_read /pid == cpid && {count} == 4321/ {{ print("{kind} {number}"); }}\n'
        for number in range(3)
        for kind, count in kinds.items()
    )
    script += "".join(
        f'kretprobe:vfs_read /pid == cpid && retval == 4321/ {{ print("kretprobe {number}"); }}\n'
        for number in range(3)
    )
    (tmp_path / "script.bt").write_text(script)
    command = shlex.join([sys.executable, str(tmp_path / "reads.py")])
    done = guest.run([sys.executable, "-m", "insitu", "trace", "-q", "-c", command, str(tmp_path / "script.bt")])
    assert done.status == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    for kind in kinds:
        assert [line for line in lines if line.startswith(f"{kind} ")] == [f"{kind} {number}" for number in range(3)]


_WRITTEN = r'''
import ctypes, os
from pathlib import Path
import insitu

libc = ctypes.CDLL(None)
text, number = ctypes.create_string_buffer(b"before", 16), ctypes.c_long(1)
address = next(line.split()[0] for line in Path("/proc/kallsyms").open() if line.split()[2] == "__x64_sys_getppid")
script = f"""
kprobe:0x{address} /pid == {os.getpid()}/ {{
    $n = (uint64)77;
    print((probe, write_user({ctypes.addressof(text)}, "after", 6), write_user({ctypes.addressof(number)}, &$n, 8)));
    print((write_user(0, "x", 1) < 0, is_err(curtask), is_err(-14)));
    print(container_of(&curtask->comm, struct task_struct, comm)->tgid == pid);
    print(str_concat(leader_comm, str_concat("/", comm)) == str_concat(comm, str_concat("/", leader_comm)));
    exit();
}}
"""
with insitu.trace(script, unsafe=True) as trace:
    # Compiling has forked: pages can only be written to without a fault after the first write here.
    text.value, number.value = b"before", 1
    os.getppid()
    print(list(trace.events()) == [(f"kprobe:0x{address}", 0, 0), (True, False, True), True, True])
print(text.value, number.value)
'''


def test_memory_of_a_process_is_written_from_a_probe_at_an_address(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "written.py").write_text(_WRITTEN)
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
    done = guest.run([sys.executable, str(tmp_path / "written.py")], env=environment)
    assert done.stdout.decode().splitlines() == ["True", "b'after' 77"], done.stderr.decode()
