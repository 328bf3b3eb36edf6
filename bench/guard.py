"""Programs under the guard allocator, beside valgrind's memcheck and AddressSanitizer: time and memory.

The ratios are to the program by itself. AddressSanitizer needs the program built for it, so that system programs
have no figure there.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from insitu.debug.guard_program import Settings, environment

_RUNS = 3

# Words of a text counted in a hash table of chains, then sorted: a block a word, and many reads of them.
_WORDS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct word { struct word *next; unsigned count; char text[]; };
static struct word *table[4096];
static int by_count(const void *a, const void *b) {
    const struct word *x = *(struct word *const *)a, *y = *(struct word *const *)b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count) : strcmp(x->text, y->text);
}
int main(void) {
    unsigned long random = 1, words = 0;
    for (int turn = 0; turn < 600000; turn++) {
        random = random * 6364136223846793005ul + 1442695040888963407ul;
        char text[24];
        int size = snprintf(text, sizeof text, "word%lu", (random >> 40) % 20000), hash = 0;
        for (char *at = text; *at; at++) hash = hash * 31 + *at;
        struct word **link = &table[hash & 4095];
        while (*link && strcmp((*link)->text, text)) link = &(*link)->next;
        if (!*link) {
            *link = calloc(1, sizeof **link + size + 1);
            strcpy((*link)->text, text);
            words++;
        }
        (*link)->count++;
    }
    struct word **all = malloc(words * sizeof *all);
    unsigned long at = 0;
    for (int bucket = 0; bucket < 4096; bucket++)
        for (struct word *each = table[bucket]; each; each = each->next) all[at++] = each;
    qsort(all, words, sizeof *all, by_count);
    for (unsigned long i = 0; i < 5; i++) printf("%u %s\n", all[i]->count, all[i]->text);
}
"""

# Nothing but allocations: the worst case.
_CHURN = r"""
#include <stdlib.h>
int main(void) {
    enum { LIVE = 1000 };
    static char *blocks[LIVE];
    unsigned long random = 1;
    for (int turn = 0; turn < 200000; turn++) {
        random = random * 6364136223846793005ul + 1442695040888963407ul;
        unsigned long at = (random >> 33) % LIVE;
        free(blocks[at]);
        blocks[at] = malloc(16 + (random >> 50) % 500);
        blocks[at][0] = 1;
    }
}
"""

# Nearly no allocation: what the checks of each access cost.
_COMPUTE = r"""
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    enum { SIZE = 700 };
    double *a = malloc(sizeof(double) * SIZE * SIZE), *b = malloc(sizeof(double) * SIZE * SIZE);
    double *c = calloc(SIZE * SIZE, sizeof(double));
    for (int i = 0; i < SIZE * SIZE; i++) a[i] = i % 7, b[i] = i % 11;
    for (int i = 0; i < SIZE; i++)
        for (int k = 0; k < SIZE; k++)
            for (int j = 0; j < SIZE; j++) c[i * SIZE + j] += a[i * SIZE + k] * b[k * SIZE + j];
    printf("%f\n", c[SIZE]);
}
"""


# Starts a program and prints its CPU time in microseconds and its largest resident size in KiB: what this program
# would see of its children is at least its own size.
_MEASURE = r"""
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **words) {
    (void)count;
    int status, output = dup(1);
    pid_t child = fork();
    if (!child) {
        freopen("/dev/null", "w", stdout);
        freopen("/dev/null", "w", stderr);
        close(output);
        execvp(words[1], words + 1);
        _exit(127);
    }
    struct rusage usage;
    wait4(child, &status, 0, &usage);
    long seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec;
    printf("%ld %ld\n", 1000000 * seconds + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec, usage.ru_maxrss);
    return status != 0;
}
"""


class _Cost(NamedTuple):
    cpu_s: float
    mib: float


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "measure.c"
        source.write_text(_MEASURE)
        subprocess.run(["gcc", "-O2", "-w", "-o", folder / "measure", source], check=True)
        programs = {"allocations only": _CHURN, "words in a hash table": _WORDS, "matrices": _COMPUTE}
        for what, text in programs.items():
            source, plain, checked = folder / "p.c", folder / "plain", folder / "asan"
            source.write_text(text)
            subprocess.run(["gcc", "-O2", "-g", "-o", plain, source], check=True)
            subprocess.run(["gcc", "-O2", "-g", "-fsanitize=address", "-o", checked, source], check=True)
            _row(what, [str(plain)], [str(checked)], folder)
        code = "import json; print(len(json.dumps([{str(i): [i] * 5} for i in range(20000)])))"
        _row("python3, PYTHONMALLOC=malloc", [sys.executable, "-c", code], [], folder)
        source = folder / "p.c"
        source.write_text(_WORDS)
        _row("gcc -O2 -c", ["gcc", "-O2", "-c", "-o", "/dev/null", str(source)], [], folder)


def _row(what: str, plain: Sequence[str], checked: Sequence[str], folder: Path) -> None:
    """Run the program in all ways, in turns, and print the medians and their ratios to the program by itself."""
    base = {**os.environ, "PYTHONMALLOC": "malloc"}
    ways: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {
        "alone": (plain, base),
        "insitu guard": (plain, {**base, **_guarded(folder / "all")}),
        "insitu guard --sample 1000": (plain, {**base, **_guarded(folder / "sample", sample=1000)}),
        "insitu guard --mprotect": (plain, {**base, **_guarded(folder / "mprotect", mprotect=1)}),
    }
    if shutil.which("valgrind"):
        words = ["valgrind", "-q", "--leak-check=no", "--trace-children=yes", *plain]
        ways["valgrind"] = (words, base)
    if checked:
        ways["AddressSanitizer"] = (checked, {**base, "ASAN_OPTIONS": "detect_leaks=0"})
    costs: dict[str, list[_Cost]] = {way: [] for way in ways}
    _once(*ways["alone"], folder)  # its files are in memory, the processor at its speed
    for _ in range(_RUNS):
        for way, (command, variables) in ways.items():
            costs[way].append(_once(command, variables, folder))
    medians = {
        way: (statistics.median(c.cpu_s for c in each), statistics.median(c.mib for c in each))
        for way, each in costs.items()
    }
    seconds, mib = medians.pop("alone")
    print(f"{what}: {seconds:.2f} s of CPU time, {mib:.0f} MiB by itself", flush=True)
    for way, (its_seconds, its_mib) in medians.items():
        ratios = f"{its_seconds / seconds:6.1f} times the CPU time, {its_mib / mib:5.1f} times the memory"
        print(f"  {ratios}  {way} ({its_seconds:.2f} s, {its_mib:.0f} MiB)", flush=True)


def _guarded(folder: Path, **settings: int) -> Mapping[str, str]:
    folder.mkdir(exist_ok=True)
    return environment(Settings(**settings), folder, [], "")


def _once(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> _Cost:
    """CPU time of the command and all that it starts, and the largest resident size of any of them."""
    words = ["env", *(f"{name}={value}" for name, value in variables.items() if os.environ.get(name) != value)]
    ran = subprocess.run([folder / "measure", *words, *command], capture_output=True, text=True, check=True)
    microseconds, kib = map(int, ran.stdout.split())
    return _Cost(microseconds / 1e6, kib / 1024)
