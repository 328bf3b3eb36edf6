"""insitu calls --user beside uftrace and ltrace: what a traced call costs the program.

The program measures itself: nanoseconds of a call of its own function, and of one of libc's. The least of several
runs counts, as other programs only add to them. The kernel emulates a push that a function begins with,
as without optimisation, and single-steps most other instructions: in a virtual machine that costs most of all.
"""

import re
import subprocess
import tempfile
from pathlib import Path

from bench._loads import compiled
from bench._measure import INSITU

_RUNS = 5
_CALLS = "20000"
_PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
__attribute__((noinline, noipa)) int own(int x) { return x + 1; }
static double since(struct timespec from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - from.tv_sec) * 1e9 + now.tv_nsec - from.tv_nsec;
}
int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 1000, sum = 0;
    struct timespec from;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < count; i++) sum = own(sum);
    printf("own %.0f\\n", since(from) / count);
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < count; i++) sum += abs(i) + (getenv("x") != 0);
    printf("library %.0f\\n", since(from) / count);
    return sum == -1;
}
"""


def _least(words: list[str], what: str) -> float:
    found = []
    for _ in range(_RUNS):
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found += [float(number) for number in re.findall(rf"{what} (\d+)", done.stdout)]
    return min(found)


def main() -> None:
    """The function of the program, then the one of libc."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        plain, profiled, pushing = (str(directory / name) for name in ("plain", "profiled", "pushing"))
        for program, flags in ((plain, ["-O1"]), (profiled, ["-O1", "-pg"]), (pushing, ["-O0"])):
            compiled(_PROGRAM, Path(program), *flags)
        ours = [INSITU, "calls", "-q", "-o", str(directory / "run.insitu")]
        data = str(directory / "uftrace.data")
        forms = {
            "own": {
                "alone": [plain, _CALLS],
                "insitu": [*ours, "-f", "own", "--user", plain, _CALLS],
                "uftrace (compiled with -pg)": ["uftrace", "record", "-d", data, "-F", "own", profiled, _CALLS],
            },
            "own, which begins with a push": {
                "alone": [pushing, _CALLS],
                "insitu": [*ours, "-f", "own", "--user", pushing, _CALLS],
            },
            "library": {
                "alone": [plain, _CALLS],
                "insitu": [*ours, "--library", "-f", "getenv", "--user", plain, _CALLS],
                "ltrace": ["ltrace", "-o", str(directory / "ltrace"), "-e", "getenv", plain, _CALLS],
            },
        }
        for what, commands in forms.items():
            costs = {name: _least(words, what.split(",")[0]) for name, words in commands.items()}
            alone = costs.pop("alone")
            mine = costs["insitu"] - alone
            for name, cost in costs.items():
                ratio = "" if name == "insitu" else f"  [{(cost - alone) / mine:.2f} times insitu]"
                print(f"a call of {what}: alone {alone:.0f} ns, {name} adds {cost - alone:.0f} ns{ratio}", flush=True)


if __name__ == "__main__":
    main()
