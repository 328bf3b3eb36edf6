"""Generates src/insitu/inspect/sysctl/documentation from a kernel's source tree.

    apt-get download linux-source-6.12
    dpkg-deb -x linux-source-6.12_*.deb . && tar -xf usr/src/linux-source-6.12.tar.xz
    python tools/sysctl_documentation.py linux-source-6.12 "6.12.117-1 (Debian linux-source-6.12)"

Input: Documentation/admin-guide/sysctl/*.rst, a section for each sysctl or for a few together. The text stays as it
is, and so does its license (GPL-2.0-only), which the file's first lines say.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

OUTPUT = Path(__file__).parent.parent / "src/insitu/inspect/sysctl/documentation"
HEAD = """\
# Documentation/admin-guide/sysctl/*.rst of Linux {version}, by tools/sysctl_documentation.py.
# SPDX-License-Identifier: GPL-2.0-only
# (as the kernel's documentation; the rest of insitu has a license of its own)
"""
DIRECTORIES = ("abi", "fs", "kernel", "net", "sunrpc", "user", "vm")
_ARCHITECTURES = ("arm64", "riscv")
_UNDERLINE = re.compile(r"([=\-~^])\1{2,}")
_NAMES = re.compile(r"[a-z][\w.\-]*(?:(?:, | & | and |/)[a-z][\w.\-]*)*")


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Each title with the text below it, up to the next title."""
    lines = text.split("\n")
    starts = [at for at in range(1, len(lines)) if _UNDERLINE.fullmatch(lines[at].rstrip()) and lines[at - 1].strip()]
    for at, following in zip(starts, [*starts[1:], len(lines) + 1], strict=True):
        body = lines[at + 1 : following - 1]
        while body and (not body[-1].strip() or _UNDERLINE.fullmatch(body[-1].strip())):
            body.pop()
        yield lines[at - 1].strip(), "\n".join(body).strip("\n")


def entries(directory: str, text: str) -> Iterator[tuple[str, str]]:
    """The name and the text of each sysctl."""
    prefix = directory
    for title, body in sections(text):
        if found := re.search(r"/proc/sys/([\w/]+)", title):
            prefix = found[1].strip("/").replace("/", ".")
        elif re.match(r"\d+\. ", title):
            prefix = ""  # of a part whose directory is not said
        elif prefix and body and title not in _ARCHITECTURES and _NAMES.fullmatch(title.rstrip(":")):
            for name in re.split(r", | & | and |/", title.rstrip(":")):
                yield f"{prefix}.{name}", body


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("version")
    args = parser.parse_args()
    parts, last = [HEAD.format(version=args.version)], ""
    for directory in DIRECTORIES:
        text = (args.tree / f"Documentation/admin-guide/sysctl/{directory}.rst").read_text()
        for name, body in entries(directory, text):
            # Sysctls that are described together have the text once.
            parts.append(f"@{name}\n" + ("" if body == last else f"{body}\n"))
            last = body
    OUTPUT.write_text("".join(parts))


if __name__ == "__main__":
    main()
