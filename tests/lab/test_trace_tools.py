"""The 38 tools that Debian's bpftrace package installs, compiled, loaded and attached on distribution kernels."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.lab import Guest
from insitu.lab import guest as boot

_TOOLS = sorted(Path("/usr/sbin").glob("*.bt"))
# What these tools attach to does not exist there, so bpftrace cannot attach them either: Debian 12's libpthread is
# empty, its functions are in libc; Linux 6.5 renamed swap_readpage().
_NOWHERE = {"6.1": {"threadsnoop.bt"}, "6.12": {"threadsnoop.bt", "swapin.bt"}}
_LOAD_ALL = """
import glob, json, sys
from insitu.probe.compile import compile_script
from insitu.probe.loader import load
from insitu.probe.options import Options
from insitu.probe.providers.base import Context
from insitu.probe.source import Source

results = {}
for path in sys.argv[1:]:
    source, context = Source(open(path).read(), path), Context()
    try:
        loaded = load(compile_script(source, Options(parameters=["1"]), context), source, {})
        results[path] = loaded.attach(None, context)
        loaded.close()
    except Exception as error:
        results[path] = str(error)
print(json.dumps(results))
"""
# QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}

if not _TOOLS:
    pytest.skip("needs Debian's bpftrace package, for its tools", allow_module_level=True)


@pytest.fixture(scope="module", params=["6.1", "6.12"])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with boot(kernel=request.param, memory="1G") as guest:
        guest.run(["sh", "-c", "modprobe xfs; modprobe md_mod"], timeout=60)
        yield guest


@pytest.mark.timeout(600)
def test_every_tool_compiles_loads_and_attaches(guest: Guest) -> None:
    command = [sys.executable, "-c", _LOAD_ALL, *map(str, _TOOLS)]
    done = guest.run(command, timeout=540, env=_ENVIRONMENT)
    results = json.loads(done.stdout.splitlines()[-1])
    failed = {Path(path).name: why for path, why in results.items() if not isinstance(why, int)}
    kernel = guest.run(["uname", "-r"], timeout=60).stdout.decode()
    expected = next(tools for release, tools in _NOWHERE.items() if kernel.startswith(f"{release}."))
    assert set(failed) == expected, failed
    assert all("there is no function" in why or "there is no kernel function" in why for why in failed.values())
    assert len(results) == len(_TOOLS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("kprobe:do_sys_openat2 /pid == cpid/ { @[func] = count(); }", "@[do_sys_openat2]: "),
        ("kretprobe:vfs_read /pid == cpid/ { @ = hist(retval); }", "@: \n"),
        ('fentry:vfs_open /pid == cpid/ { printf("%s\\n", str(args.path->dentry->d_name.name)); }', "hostname\n"),
        ("kprobe:vfs_* /pid == cpid/ { @[probe] = count(); }", "@[kprobe:vfs_open]: "),
    ],
)
def test_kernel_functions_are_seen(guest: Guest, script: str, expected: str) -> None:
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-c", "cat /etc/hostname", "-e", script]
    done = guest.run(command, timeout=240, env=_ENVIRONMENT)
    assert done.status == 0, done.stderr
    assert expected in done.stdout.decode()
