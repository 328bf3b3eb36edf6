"""What code generation leaves for the loader to fill in: descriptors of maps, and constants of the run."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Marker", "Patch"]


class Marker(IntEnum):
    """The source register of a ld_imm64: what the loader replaces its immediate by.

    1 and 2 are the kernel's own (include/uapi/linux/bpf.h: BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE), the immediate
    being our number of the map; PATCH is ours and never reaches the kernel.
    """

    MAP = 1
    MAP_VALUE = 2
    PATCH = 13


class Patch(IntEnum):
    """Constants that are known only when a program is loaded or attached."""

    START_NS = 1
    CHILD_PID = 2
    PROBE = 3
    CLOCK_OFFSET_NS = 4  # from CLOCK_BOOTTIME to the wall clock
    TAI_OFFSET_NS = 5  # from CLOCK_BOOTTIME to CLOCK_TAI
    ONLY_PID = 6  # the process that probes are restricted to
