"""What the environment, a script's config block and the command line set for the compiler."""

from __future__ import annotations

import os
from collections.abc import Mapping

from insitu.dataclass import dataclass, field
from insitu.errors import InsituError

__all__ = ["Options"]

_KNOWN = {
    "max_strlen": (1, 1024),
    "max_map_keys": (1, 1 << 24),
    "max_probes": (1, 1 << 20),
    "perf_rb_pages": (1, 1 << 16),
}
# bpftrace's own settings that need no action here: accepted so that scripts run unchanged.
_IGNORED = frozenset(
    [
        "btf",
        "cache_user_symbols",
        "cpp_demangle",
        "lazy_symbolication",
        "license",
        "log_size",
        "map_keys_max",
        "max_ast_nodes",
        "max_bpf_progs",
        "max_cat_bytes",
        "missing_probes",
        "no_cpp_demangle",
        "on_stack_limit",
        "show_debug_info",
        "str_trunc_trailer",
        "strlen",
        "symbol_source",
        "unstable_map_decl",
        "use_blazesym",
    ]
)


@dataclass
class Options:
    """``parameters`` are the script's positional ones."""

    parameters: list[str] = field(default_factory=list)
    unsafe: bool = False
    max_strlen: int = 64
    max_map_keys: int = 4096
    max_probes: int = 1024
    perf_rb_pages: int = 64
    stack_mode: str = "bpftrace"
    print_maps_on_exit: bool = True
    max_literal: int = 1024
    max_unroll: int = 100

    def apply_environment(self, environment: Mapping[str, str] | None = None) -> None:
        """Take over BPFTRACE_MAX_STRLEN and the like (older names included)."""
        variables = os.environ if environment is None else environment
        aliases = {"BPFTRACE_STRLEN": "max_strlen", "BPFTRACE_MAP_KEYS_MAX": "max_map_keys"}
        for name, text in variables.items():
            if name.startswith("BPFTRACE_"):
                setting = aliases.get(name, name.removeprefix("BPFTRACE_").lower())
                if setting in _KNOWN or setting in ("stack_mode", "print_maps_on_exit"):
                    self._set(setting, text, name)

    def apply_config(self, config: Mapping[str, str | int]) -> None:
        """Take over a script's ``config = { ... }``.

        :raises InsituError: for an unknown setting or a value out of range.
        """
        for name, value in config.items():
            short = name.lower().removeprefix("bpftrace_")
            if short in _KNOWN or short in ("stack_mode", "print_maps_on_exit"):
                self._set(short, value, name)
            elif short not in _IGNORED:
                raise InsituError(
                    f"unknown setting {name!r} in config", remedy=f"known are {', '.join(sorted(_KNOWN))}"
                )

    def _set(self, setting: str, value: str | int, name: str) -> None:
        if setting == "stack_mode":
            if value not in ("bpftrace", "perf", "raw"):
                raise InsituError(f"{name} is bpftrace, perf or raw, not {value!r}")
            self.stack_mode = str(value)
            return
        if setting == "print_maps_on_exit":
            self.print_maps_on_exit = str(value).lower() not in ("0", "false")
            return
        low, high = _KNOWN[setting]
        try:
            number = int(str(value), 0)
        except ValueError:
            raise InsituError(f"{name} needs a number, not {value!r}") from None
        if not low <= number <= high:
            raise InsituError(f"{name} is {number}; it may be {low} to {high}")
        setattr(self, setting, number)
