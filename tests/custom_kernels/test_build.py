"""Kernels built from the distribution's source: only `make test-custom-kernels` runs these."""

import pytest

from insitu.lab import guest
from insitu.lab.build import build


@pytest.mark.timeout(5400)
@pytest.mark.parametrize(
    ("feature", "question", "answer"),
    [
        ("irqsoff", "cat /sys/kernel/tracing/available_tracers", b"irqsoff"),
        ("lockdep", "cat /proc/lockdep_stats", b"lock-classes"),
        ("kasan", "cat /proc/kallsyms", b"kasan_report"),
        ("gcov", "ls /sys/kernel/debug/gcov", b"reset"),
        ("kgdb", "cat /sys/module/kgdboc/parameters/kgdboc", b"ttyS1"),
    ],
)
def test_a_built_kernel_boots_and_has_the_feature(feature: str, question: str, answer: bytes) -> None:
    kernel = build("6.1", [feature])
    with guest(kernel=kernel.name, kgdb=feature == "kgdb", boot_timeout=120) as running:
        assert answer in running.run(["sh", "-c", question]).stdout
