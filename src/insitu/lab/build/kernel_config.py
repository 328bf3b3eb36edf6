"""The configuration of a custom guest kernel: a small base, and a fragment for each feature.

A fragment is a file of this package, ``fragments/NAME.config``, in the kernel's own .config syntax; adding a file
adds a feature. ``guest`` is merged into every kernel, ``btf`` if pahole is installed.
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
    """The requested features and options. ``options`` have no CONFIG_ prefix; ``n`` means off."""

    features: tuple[str, ...]
    options: dict[str, str]

    @property
    def label(self) -> str:
        """The part of the kernel's name after the version: ``irqsoff-kgdb``; ``guest`` without features."""
        return "-".join(self.features) or _BASE

    @property
    def text(self) -> str:
        """The options as a .config file, for KCONFIG_ALLCONFIG (Documentation/kbuild/kconfig.rst)."""
        return "".join(f"CONFIG_{option}={value}\n" for option, value in sorted(self.options.items()))

    def key(self, source_version: str) -> str:
        """A hash of this configuration and a source package's version: the identity of the built kernel."""
        return hashlib.sha256(f"{source_version}\n{self.text}".encode()).hexdigest()[:16]


def feature_names() -> list[str]:
    """The features that `--with` accepts, sorted."""
    names = (entry.name.removesuffix(".config") for entry in _FRAGMENTS.iterdir() if entry.name.endswith(".config"))
    return sorted(name for name in names if name not in (_BASE, _TYPES))


def configuration(features: Iterable[str], types: bool) -> Configuration:
    """The configuration of a kernel with ``features``, in any order; with ``types``, it has BTF.

    Raises InsituError for an unknown feature; its remedy is the nearest name.
    """
    known = feature_names()
    wanted = sorted(set(features))
    for name in wanted:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            raise InsituError(
                f"no kernel feature {name!r}; available: {', '.join(known)}",
                remedy=f"did you mean {nearest[0]}?" if nearest else "",
                status=2,
            )
    options: dict[str, str] = {}
    for fragment in (_BASE, *[_TYPES] * types, *wanted):
        options |= options_in((_FRAGMENTS / f"{fragment}.config").read_text())
    options["LOCALVERSION"] = '"' + "".join(f"-{word}" for word in ("insitu", *wanted)) + '"'
    return Configuration(tuple(wanted), options)


def options_in(text: str) -> dict[str, str]:
    """The options that a .config file sets, without the CONFIG_ prefix."""
    return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.MULTILINE))


def refused_options(asked: Configuration, config: str, source: Path) -> list[str]:
    """The options, as ``NAME=VALUE``, whose value in ``config``, the .config Kconfig wrote, is not the requested one.

    Options of the base that this version of the kernel does not have are left out, as the base is for several
    versions. A feature's own options are not: without them the feature would silently be missing.
    """
    actual = options_in(config)
    refused = {name for name, value in asked.options.items() if actual.get(name, "n") != value}
    base = options_in((_FRAGMENTS / f"{_BASE}.config").read_text())
    from_base = {name for name in refused if base.get(name) == asked.options[name]}
    refused -= from_base - _declared(source, from_base)
    return [f"{name}={asked.options[name]}" for name in sorted(refused)]


def _declared(source: Path, names: set[str]) -> set[str]:
    """Which of ``names`` the Kconfig files below ``source`` declare."""
    found: set[str] = set()
    if names:
        declaration = re.compile(r"^\s*(?:menu)?config (\w+)\s*$", re.MULTILINE)
        for path in source.rglob("Kconfig*"):
            if path.is_file():
                found |= names.intersection(declaration.findall(path.read_text(errors="replace")))
    return found
