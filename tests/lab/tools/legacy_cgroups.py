"""In a guest: insitu proc on a process in cgroups of version 1, which are mounted for that."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

_LIMITS = {
    "memory": {"memory.limit_in_bytes": "67108864"},
    "cpu,cpuacct": {"cpu.cfs_quota_us": "25000", "cpu.cfs_period_us": "50000"},
    "pids": {"pids.max": "7"},
}

with tempfile.TemporaryDirectory() as top, subprocess.Popen(["sleep", "1000"]) as process:
    made = []
    for controllers, limits in _LIMITS.items():
        mount = Path(top, controllers)
        mount.mkdir()
        subprocess.run(["mount", "-t", "cgroup", "-o", controllers, "none", mount], check=True)
        outer = mount / "outer"  # has the limits; the process is below it
        inner = outer / "inner"
        inner.mkdir(parents=True)
        for name, value in limits.items():
            (outer / name).write_text(value)
        (inner / "cgroup.procs").write_text(str(process.pid))
        made += [inner, outer]
    insitu = [sys.executable, "-m", "insitu", "proc"]
    found = {
        "top": top,
        "text": subprocess.check_output([*insitu, str(process.pid)], text=True),
        "json": json.loads(subprocess.check_output([*insitu, "--json", str(process.pid)])),
        "usage": int((made[0] / "memory.usage_in_bytes").read_text()),
    }
    process.kill()
    process.wait()
    for each in made:
        each.rmdir()
    for controllers in _LIMITS:
        subprocess.run(["umount", Path(top, controllers)], check=True)
print(json.dumps(found))
