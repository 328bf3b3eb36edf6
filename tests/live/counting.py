"""Hand-assembled BPF programs that count their runs, and a target program whose events are known in number."""

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from insitu.errors import InsituError
from insitu.kernel import bpf
from insitu.kernel.bpf_abi import MapType
from insitu.kernel.bpf_map import Map
from insitu.probe.providers.base import ProgramKind

NAME = f"count{os.getpid()}"  # distinguishes our programs from those of another run of these tests
_PID_TGID, _LOOKUP, _COOKIE = 14, 1, 174  # helpers' numbers, include/uapi/linux/bpf.h
_R0, _R1, _R2, _R6, _R10 = 0, 1, 2, 6, 10


def instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """struct bpf_insn."""
    return struct.pack("<BBhi", code, target | source << 4, offset, immediate)


class Counter:
    """Counts runs in the process ``tgid`` (None: anywhere) for each attach cookie (always 0 without ``cookies``).

    With ``where`` = (offset, bytes, value) only runs whose context holds that value there count.
    """

    def __init__(
        self,
        kind: ProgramKind,
        *,
        tgid: int | None = None,
        cookies: bool = False,
        where: tuple[int, int, int] | None = None,
        unequal: bool = False,
    ) -> None:
        self.map = Map(MapType.ARRAY, 4, 8, 16, name="counts")
        key = (
            instruction(0xBF, _R1, _R6) + instruction(0x85, immediate=_COOKIE) + instruction(0x63, _R10, _R0, -4)
            if cookies
            else instruction(0x62, _R10, offset=-4)
        )
        count = (
            key
            + instruction(0x18, _R1, 1, immediate=self.map.fd)
            + instruction(0)
            + instruction(0xBF, _R2, _R10)
            + instruction(0x07, _R2, immediate=-4)
            + instruction(0x85, immediate=_LOOKUP)
            + instruction(0x15, _R0, offset=2)  # not found: skip the next two
            + instruction(0xB7, _R1, immediate=1)
            + instruction(0xDB, _R0, _R1)  # atomic add
        )
        if where is not None:
            offset, size, value = where
            load = {1: 0x71, 2: 0x69, 4: 0x61, 8: 0x79}[size]
            skip = 0x15 if unequal else 0x55
            test = instruction(skip, _R0, offset=len(count) // 8, immediate=value)
            count = instruction(load, _R0, _R6, offset) + test + count
        if tgid is not None:
            test = instruction(0x55, _R0, offset=len(count) // 8, immediate=tgid)
            count = instruction(0x85, immediate=_PID_TGID) + instruction(0x77, _R0, immediate=32) + test + count
        code = instruction(0xBF, _R6, _R1) + count + instruction(0xB7, _R0) + instruction(0x95)
        try:
            self.fd, _ = bpf.load_program(
                code,
                kind.type,
                name=NAME,
                attach_type=kind.attach_type,
                attach_btf_id=kind.attach_btf_id,
                attach_btf_fd=kind.attach_btf_fd,
            )
        except InsituError:
            self.map.close()
            raise

    def count(self, cookie: int = 0) -> int:
        """Runs so far."""
        value = self.map.lookup(struct.pack("<I", cookie))
        assert value is not None
        return int.from_bytes(value, "little")

    def close(self) -> None:
        os.close(self.fd)
        self.map.close()


SOURCE = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern "C" {
volatile long watched;
unsigned short gated_semaphore __attribute__((section(".probes")));

__attribute__((noinline)) int work_one(int n) { asm volatile("" ::: "memory"); return n + 1; }
__attribute__((noinline)) int work_two(int n) { asm volatile("" ::: "memory"); return n + 2; }
}
namespace ns {
struct Klass { static int method(int n); };
__attribute__((noinline)) int Klass::method(int n) { asm volatile("" ::: "memory"); return n + 3; }
}

/* What the macros of sys/sdt.h expand to: a nop, and a note that says where it is. */
#define NOTE(name, semaphore, operands) \
    "990: nop\n.pushsection .note.stapsdt,\"?\",\"note\"\n.balign 4\n.4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n992: .balign 4\n993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte " semaphore "\n" \
    ".asciz \"demo\"\n.asciz \"" name "\"\n.asciz \"" operands "\"\n994: .balign 4\n.popsection\n" \
    ".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
    ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n" \
    ".popsection\n.endif\n"

static void *sleeper(void *unused) { pause(); return 0; }

static long faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

static int act(const char *what, int times) {
    int sum = 0;
    if (!strcmp(what, "fault")) {
        long before = faults();
        int access = PROT_READ | PROT_WRITE, kind = MAP_PRIVATE | MAP_ANONYMOUS;
        volatile char *area = (char *)mmap(0, times * 4096L, access, kind, -1, 0);
        madvise((void *)area, times * 4096L, MADV_NOHUGEPAGE);
        for (int i = 0; i < times; i++) area[i * 4096L] = 1;
        return faults() - before;
    }
    if (!strcmp(what, "spin")) {
        struct timespec now;
        do {
            for (int i = 0; i < 100000; i++) asm volatile("");
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        } while (now.tv_sec * 1000 + now.tv_nsec / 1000000 < times);
        return now.tv_sec * 1000 + now.tv_nsec / 1000000;
    }
    for (int i = 0; i < times; i++) {
        if (!strcmp(what, "getppid")) syscall(SYS_getppid);
        if (!strcmp(what, "close")) close(54321);
        if (!strcmp(what, "work")) sum += work_one(i) + work_two(i);
        if (!strcmp(what, "method")) sum += ns::Klass::method(i);
        if (!strcmp(what, "write")) watched = i;
        if (!strcmp(what, "usdt")) asm volatile(NOTE("plain", "0", "-4@%%edi 8@$77") :: "D"(7));
        if (!strcmp(what, "gated") && *(volatile unsigned short *)&gated_semaphore) {
            asm volatile(NOTE("gated", "gated_semaphore", "") ::);
            sum++;
        }
        if (!strcmp(what, "thread")) { pthread_t thread; pthread_create(&thread, 0, sleeper, 0); sum++; }
    }
    return sum;
}

int main(void) {
    char what[64];
    int times;
    printf("%#lx\n", (long)&watched);
    fflush(stdout);
    while (scanf("%63s %d", what, &times) == 2) {
        printf("%d\n", act(what, times));
        fflush(stdout);
    }
    return 0;
}
"""


def compile_target(directory: Path) -> Path:
    """Build SOURCE: the program's path."""
    (directory / "target.cc").write_text(SOURCE)
    command = ["g++", "-O1", "-g", "-pthread", "-o", "target", "target.cc"]
    subprocess.run(command, cwd=directory, check=True)
    return directory / "target"


class Target:
    """The running program; act() makes it provoke events and answers what it says of them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.watched = int(self._line(), 0)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def act(self, what: str, times: int) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {times}\n")
        self._process.stdin.flush()
        return int(self._line())


@contextmanager
def running(*command: str | Path) -> Iterator[Target]:
    """Start the target program, by a command that becomes it; it ends with the block."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Target(process)
        finally:
            process.kill()
