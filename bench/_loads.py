"""Programs that are measured: compiled from C, and what measures itself within them."""

import subprocess
from pathlib import Path

__all__ = ["CPU_TIME", "compiled"]

CPU_TIME = """
#include <stdio.h>
#include <time.h>
static double cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}
/* Write the seconds of CPU time since then to a file. */
static int tell(const char *file, double since)
{
    double took = cpu_s() - since;
    FILE *out = fopen(file, "w");
    fprintf(out, "%f\\n", took);
    return fclose(out);
}
"""
"""C: ``double since = cpu_s(); ...; return tell(file, since);``."""


def compiled(source: str, program: Path, *flags: str) -> Path:
    """Compile C to a program; returns its path."""
    command = ["gcc", *(flags or ("-O2",)), "-x", "c", "-o", str(program), "-"]
    subprocess.run(command, input=source, text=True, check=True)
    return program
