"""Where kernel probes may be: at addresses, in modules by wildcard, in BPF programs; and their names as text."""

import json
import os
import sys
from pathlib import Path

from insitu.lab import Guest

# Finds out what the scripts need to know of the guest's kernel, and runs them.
_DRIVER = r"""
import json, re, subprocess, sys, time
trace = [sys.executable, "-m", "insitu", "trace", "-q"]
symbols = open("/proc/kallsyms").read()
start = int(re.search(r"^(\w+) [tT] vfs_read$", symbols, re.M)[1], 16)
function = re.search(r"^\w+ t (p9_virtio_\w+)\t\[9pnet_virtio\]", symbols, re.M)[1]
found = {}

def run(name, script, *words):
    done = subprocess.run([*trace, "-e", script, *words], capture_output=True, text=True)
    found[name] = [line for line in (done.stdout + done.stderr).splitlines() if line]

reads = ["-c", "cat /proc/self/comm"]
run("address", f"kprobe:{start:#x} /pid == cpid/ {{ print((func, probe)); exit(); }}", *reads)
run("nowhere", "kprobe:0x1234 { }")
run("module", f"kprobe:9pnet_vir*:{function} {{ print(probe); }}", "--dry-run")
run("no module", f"kprobe:nosuch*:{function} {{ }}")
run("names", '''kprobe:vfs_rea*,kprobe:vfs_open /pid == cpid/ {
    if (func == "vfs_read") { @read = probe; }
    if (strcontains(func, "open")) { @open = func; }
    @[func] = 1; @[ksym(0)] = 1;
}
END { clear(@); }''', *reads)
# A program with a long loop has a callback, and type information for it.
loop = "interval:ms:50 { for $i : 0..1000 { @x = $i; } }"
target = subprocess.Popen([*trace, "-e", loop], stdout=subprocess.DEVNULL)
listing = []
end = time.monotonic() + 300
while target.poll() is None and "probe_0" not in "".join(listing) and time.monotonic() < end:
    time.sleep(0.5)
    listed = subprocess.run([*trace, "-l", "fentry:bpf:probe_*"], capture_output=True, text=True)
    listing = listed.stdout.split()
found["listed"] = listing
run("programs", '''fentry:bpf:probe_0 { @entry++; if (@entry > 3) { exit(); } }
fexit:bpf:probe_0 { @exit++; }
END { printf("%d %d\\n", @entry > 3, @exit > 1); clear(@entry); clear(@exit); }''')
run("no program", "fentry:bpf:nosuch { }")
target.terminate()
target.wait()
print(json.dumps(found))
"""


def test_kernel_probes_at_addresses_in_modules_and_in_bpf_programs(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(_DRIVER)
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
    done = guest.run([sys.executable, str(tmp_path / "driver.py")], env=environment)
    assert done.status == 0, done.stderr
    found = json.loads(done.stdout)
    assert any(line.startswith("(vfs_read, kprobe:0x") for line in found["address"])
    assert "is not in a kernel function" in found["nowhere"][0]
    assert found["module"] == []
    assert "in a module nosuch*" in found["no module"][0]
    assert {"@read: kprobe:vfs_read", "@open: vfs_open"} <= set(found["names"])
    listed = {line.split(":")[3] for line in found["listed"]}
    assert "probe_0" in listed and any(name.startswith("probe_0_loop") for name in listed)
    assert found["programs"] == ["1 1"]
    assert "no loaded BPF program has such a function" in found["no program"][0]
