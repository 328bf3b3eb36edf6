"""The kernel's version as C code compares it."""

from __future__ import annotations

import os
import re

__all__ = ["kernel_version", "running_version"]


def kernel_version(major: int, minor: int, patch: int) -> int:
    """KERNEL_VERSION() of linux/version.h."""
    return (major << 16) + (minor << 8) + min(patch, 255)


def running_version() -> int:
    """LINUX_VERSION_CODE of the running kernel; 0 when its release has another form than 6.12.3."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", os.uname().release)
    return kernel_version(int(match[1]), int(match[2]), int(match[3] or 0)) if match else 0
