"""`make demo`: profile a real program (the TypeScript compiler on our own web views) and leave pages to open."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "src/insitu/web"
OUT = ROOT / "demo"
LEAVES_BY_KIND = """select kind, count(*) as samples
from sample join stack_frame using (stack) where position = 0 group by kind order by samples desc"""
INSITU = Path(sys.executable).with_name("insitu")


def insitu(*words: str) -> None:
    print(f"\n$ insitu {' '.join(words)}", flush=True)
    status = subprocess.run([INSITU, *words], cwd=OUT).returncode
    if status:
        sys.exit(status)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    compiler = os.path.relpath(WEB / "node_modules/typescript/bin/tsc", OUT)
    node = ["node", "--perf-basic-prof", "--interpreted-frames-native-stack"]
    project = os.path.relpath(WEB, OUT)
    insitu("profile", "-F", "999", "-o", "tsc.insitu", "--", *node, compiler, "--noEmit", "-p", project)
    _drop_what_node_left()
    insitu("report", "tsc.insitu", "--limit", "12", "--no-tree")
    insitu("flame", "tsc.insitu", "-o", "tsc.html")
    insitu("heatmap", "tsc.insitu", "-o", "tsc-heatmap.html")
    insitu("callgraph", "tsc.insitu", "-o", "tsc.svg")
    insitu("sql", "tsc.insitu", LEAVES_BY_KIND)
    print(f"\nOpen in a browser: {OUT / 'tsc.html'} (flame graph), {OUT / 'tsc-heatmap.html'} (heat map)")


def _drop_what_node_left() -> None:
    """Its map of jitted code, written for profilers to read (the session now holds what was in it), and a log."""
    import insitu as library

    with library.open(OUT / "tsc.insitu") as session:
        pids = session["process"]["pid"].to_list()
    for pid in pids:
        Path(f"/tmp/perf-{pid}.map").unlink(missing_ok=True)
    for log in OUT.glob("isolate-*-v8.log"):
        log.unlink()


if __name__ == "__main__":
    main()
