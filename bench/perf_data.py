"""perf.data to folded stacks and to the finished flame graph, against perf script with its output thrown away."""

import os
import subprocess
import tempfile
from pathlib import Path

from bench._measure import INSITU, compare

_NODE = """
function parse(s){let i=0;function value(){if(s[i]=='['){i++;const a=[];while(s[i]!=']'){a.push(value());
if(s[i]==',')i++;}i++;return a;}let n=0;while(s[i]>='0'&&s[i]<='9'){n=n*10+(+s[i]);i++;}return n;}return value();}
function text(d){if(d==0)return ''+Math.floor(Math.random()*1000);const a=[];for(let k=0;k<3;k++)a.push(text(d-1));
return '['+a.join(',')+']';}
function sum(t){if(typeof t==='number')return t;let x=0;for(const y of t)x+=sum(y);return x;}
const end=Date.now()+Number(process.argv[2]);let x=0;const fs=require('fs');
while(Date.now()<end){x+=sum(parse(text(8)));const m=new Map();
for(let i=0;i<1000;i++)m.set('k'+i,JSON.stringify({i}));fs.writeFileSync('out',[...m.values()].join('\\n'));}
"""
_PYTHON = """
import json, time
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
end = time.time() + 10
while time.time() < end:
    fib(17)
    json.dumps([{"a": [i] * 3} for i in range(2000)], indent=1)
    json.loads(json.dumps(list(range(1000))))
"""


def main() -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed insitu is compiled
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as directory:
        here = Path(directory)
        (here / "work.js").write_text(_NODE)
        (here / "work.py").write_text(_PYTHON)
        record = ["perf", "record", "-q", "-o"]
        node = ["node", "--perf-basic-prof", "work.js"]
        _run([*record, "fp.data", "-F", "20000", "-g", "--", *node, "3500"], here)
        _run([*record, "long.data", "-F", "20000", "-g", "--", *node, "12500"], here)
        _run([*record, "dwarf.data", "-F", "1999", "--call-graph", "dwarf", "--", "python3", "work.py"], here)
        recorded = {
            "fp.data": "frame pointers (node, 20 kHz)",
            "long.data": "frame pointers (node, 20 kHz, 12 s)",
            "dwarf.data": "DWARF stacks (python3)",
        }
        for name, what in recorded.items():
            path = str(here / name)
            samples = _run([INSITU, "sql", path, "select count(*) from sample"], here).split()[-1]
            script = ["perf", "script", "-i", path]
            print(f"{what}: {samples} samples, {(here / name).stat().st_size >> 20} MiB")
            # The first run fills our cache of line tables; perf has a cache of its own (~/.debug).
            _run([INSITU, "report", "--folded", path], here)
            compare("  folded stacks", [INSITU, "report", "--folded", path], script)
            compare("  flame graph page", [INSITU, "flame", path, "-o", str(here / "x.html")], script)


def _run(command: list[str], directory: Path) -> str:
    return subprocess.run(command, cwd=directory, check=True, stdout=subprocess.PIPE, text=True).stdout
