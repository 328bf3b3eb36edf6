"""The configuration of a custom guest kernel: a small base, and a fragment for each feature asked for.

A fragment is a file of this package, ``fragments/NAME.config``, in the kernel's own .config syntax; adding a file
adds a feature. ``guest`` is merged into every kernel, ``btf`` where pahole is at hand.
"""

import difflib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from insitu.errors import InsituError

__all__ = ["Configuration", "configuration", "feature_names", "options_in", "refused_options"]

_FRAGMENTS: Final = files("insitu.lab.build") / "fragments"
_BASE: Final = "guest"
_TYPES: Final = "btf"


@dataclass(frozen=True)
class Configuration:
    """What a kernel is asked to be. ``options`` are without the CONFIG_ prefix; ``n`` is an option switched off."""

    features: tuple[str, ...]
    options: dict[str, str]

    @property
    def label(self) -> str:
        """What follows the version in the kernel's name: ``kgdb-irqsoff``; ``guest`` without features."""
        return "-".join(self.features) or _BASE

    @property
    def text(self) -> str:
        """The options as a .config file, for KCONFIG_ALLCONFIG (Documentation/kbuild/kconfig.rst)."""
        return "".join(f"CONFIG_{option}={value}\n" for option, value in sorted(self.options.items()))

    def key(self, source_version: str) -> str:
        """Names the kernel that this configuration makes of a source package's version."""
        return hashlib.sha256(f"{source_version}\n{self.text}".encode()).hexdigest()[:16]


def feature_names() -> list[str]:
    """What `--with` takes, sorted."""
    names = (entry.name.removesuffix(".config") for entry in _FRAGMENTS.iterdir() if entry.name.endswith(".config"))
    return sorted(name for name in names if name not in (_BASE, _TYPES))


def configuration(features: Iterable[str], types: bool) -> Configuration:
    """The configuration of a kernel with ``features``, in any order; with ``types``, it carries its types as BTF.

    Raises InsituError for a feature that there is not, offering the nearest name.
    """
    known = feature_names()
    wanted = sorted(set(features))
    for name in wanted:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            raise InsituError(
                f"no kernel feature {name!r}; there are {', '.join(known)}",
                remedy=f"did you mean {nearest[0]}?" if nearest else "",
                status=2,
            )
    options: dict[str, str] = {}
    for fragment in (_BASE, *[_TYPES] * types, *wanted):
        options |= options_in((_FRAGMENTS / f"{fragment}.config").read_text())
    options["LOCALVERSION"] = '"' + "".join(f"-{word}" for word in ("insitu", *wanted)) + '"'
    return Configuration(tuple(wanted), options)


def options_in(text: str) -> dict[str, str]:
    """The options that a .config file sets, without the CONFIG_ prefix; what it does not set is left out."""
    return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.MULTILINE))


def refused_options(asked: Configuration, config: str, source: Path) -> list[str]:
    """The options, as ``NAME=VALUE``, that Kconfig resolved otherwise than asked, given the .config it wrote.

    An option of the base that this version of the kernel does not have at all is none of them: the base serves
    several versions. A feature's own option is, as without it the feature would silently be missing.
    """
    actual = options_in(config)
    refused = {name for name, value in asked.options.items() if actual.get(name, "n") != value}
    base = options_in((_FRAGMENTS / f"{_BASE}.config").read_text())
    from_base = {name for name in refused if base.get(name) == asked.options[name]}
    refused -= from_base - _declared(source, from_base)
    return [f"{name}={asked.options[name]}" for name in sorted(refused)]


def _declared(source: Path, names: set[str]) -> set[str]:
    """Those of ``names`` that some Kconfig file below ``source`` declares."""
    found: set[str] = set()
    if names:
        declaration = re.compile(r"^\s*(?:menu)?config (\w+)\s*$", re.MULTILINE)
        for path in source.rglob("Kconfig*"):
            if path.is_file():
                found |= names.intersection(declaration.findall(path.read_text(errors="replace")))
    return found
