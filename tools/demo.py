"""`make demo`: profile a real program (the TypeScript compiler on our own web views) and leave pages to open."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "src/insitu/web"
OUT = ROOT / "demo"
INSITU = Path(sys.executable).with_name("insitu")


def insitu(*words: str) -> None:
    print(f"\n$ insitu {' '.join(words)}", flush=True)
    status = subprocess.run([INSITU, *words], cwd=ROOT).returncode
    if status:
        sys.exit(status)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    compiler = [
        "node",
        "--perf-basic-prof",
        "--interpreted-frames-native-stack",
        f"{WEB}/node_modules/typescript/bin/tsc",
    ]
    insitu("profile", "-F", "999", "-o", "demo/tsc.insitu", "--", *compiler, "--noEmit", "-p", str(WEB))
    _drop_jit_maps()
    insitu("report", "demo/tsc.insitu", "--limit", "12", "--no-tree")
    insitu("flame", "demo/tsc.insitu", "-o", "demo/tsc.html")
    insitu("heatmap", "demo/tsc.insitu", "-o", "demo/tsc-heatmap.html")
    insitu("callgraph", "demo/tsc.insitu", "-o", "demo/tsc.svg")
    insitu(
        "sql",
        "demo/tsc.insitu",
        "select kind, count(*) as leaf_samples from sample join stack on stack.id = stack"
        " join frame on frame.id = frame group by kind order by 2 desc",
    )
    print(f"\nOpen in a browser: {OUT / 'tsc.html'} (flame graph), {OUT / 'tsc-heatmap.html'} (heat map)")


def _drop_jit_maps() -> None:
    """Node wrote its map of jitted code for profilers to read; the session now holds what was in it."""
    import insitu as library

    for pid in library.open(OUT / "tsc.insitu")["thread"]["pid"].unique():
        Path(f"/tmp/perf-{pid}.map").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
