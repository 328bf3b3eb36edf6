"""Constants and types of C headers, as gcc has them."""

from __future__ import annotations

import fnmatch
import functools
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from insitu.symbols.btf import Btf


def compiled(source: str, *options: str) -> str:
    """Returns the output of gcc. Raises CalledProcessError."""
    done = subprocess.run(["gcc", *options, "-xc", "-"], input=source, capture_output=True, text=True, check=True)
    return done.stdout


def matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


class Headers:
    """The constants of some headers: macros and enumerators, in the order of their definitions."""

    def __init__(self, headers: str) -> None:
        self.includes = "".join(f"#include <{each}>\n" for each in headers.split(","))
        text = compiled(self.includes, "-E", "-P", "-dD", "-D_GNU_SOURCE")
        names = dict.fromkeys(re.findall(r"^#define ([A-Za-z_]\w*) ", text, re.MULTILINE))
        for body in re.findall(r"\benum\b[^{};]*\{([^}]*)\}", re.sub(r"^#.*$", "", text, flags=re.MULTILINE)):
            names.update(dict.fromkeys(re.findall(r"(?:^|,)\s*([A-Za-z_]\w*)", body)))
        self.names = list(names)
        self._known: dict[str, int] = {}
        self._asked: set[str] = set()

    def matching(self, items: Sequence[str]) -> list[str]:
        """Returns the names that globs among the items of a set mean."""
        wanted = [item for item in items if "*" in item and not item.startswith("-")]
        left_out = [item[1:] for item in items if item.startswith("-")]
        return [name for name in self.names if matches(name, wanted) and not matches(name, left_out)]

    def constants(self, names: Iterable[str]) -> Mapping[str, int]:
        """Returns the values that are known, among them those of these names that are integer constants."""
        new = set(names) - self._asked
        self._known.update(self.values(sorted(new)))
        self._asked |= new
        return self._known

    def values(self, names: Iterable[str], option: str = "-m64") -> dict[str, int]:
        """Returns the values of those that are integer constants. Raises CalledProcessError if headers are broken."""
        left = list(dict.fromkeys(names))
        while left:
            lines = [
                f'printf("%llx {name}\\n", sizeof({name}) > 4 ? 0ULL + ({name}) : (unsigned)({name}));'
                for name in left
            ]
            with tempfile.TemporaryDirectory() as directory:
                program = Path(directory, "program")
                source = f"{self.includes}#include <stdio.h>\nint main(void) {{\n#line 1\n" + "\n".join(lines) + "\n}"
                done = subprocess.run(
                    ["gcc", option, "-w", "-D_GNU_SOURCE", "-fmax-errors=0", "-o", program, "-xc", "-"],
                    input=source, capture_output=True, text=True,
                )  # fmt: skip
                if not done.returncode:
                    output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
                    return {name: int(value, 16) for value, name in (line.split() for line in output.splitlines())}
            wrong = {int(line) for line in re.findall(r"^<stdin>:(\d+):\d+: error", done.stderr, re.MULTILINE)}
            if not wrong:
                raise subprocess.CalledProcessError(done.returncode, "gcc", None, f"{self.includes}{done.stderr}")
            left = [name for number, name in enumerate(left, 1) if number not in wrong]
        return {}


@functools.cache
def headers(names: str) -> Headers:
    return Headers(names)


def header_types(source: str, names: Sequence[str], option: str) -> Btf:
    """Returns the types that headers define, as a compiler with this option lays them out.

    Raises CalledProcessError.
    """
    includes = "".join(f"#include <{each}>\n" for each in source.split(","))
    variables = "".join(
        f"{'union' if name.endswith('|') else 'struct'} {name.rstrip('|')} *v{number}, w{number};\n"
        for number, name in enumerate(names)
    )
    with tempfile.TemporaryDirectory() as directory:
        made, types = Path(directory, "object"), Path(directory, "types")
        command = ["gcc", option, "-D_GNU_SOURCE", "-gbtf", "-c", "-xc", "-", "-o", str(made)]
        subprocess.run(command, input=includes + variables, text=True, check=True, capture_output=True)
        subprocess.run(["objcopy", "--dump-section", f".BTF={types}", made], check=True)
        return Btf(types.read_bytes(), source)
