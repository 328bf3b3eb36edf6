"""The compiler's settings, from the environment, a script's config block and the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from insitu.errors import InsituError, nearest

__all__ = ["Options", "UnknownOptionError"]

_NUMBERS = {
    "max_strlen": (1, 64 << 10),
    "max_map_keys": (1, 1 << 24),
    "max_probes": (1, 1 << 20),
    "max_cat_bytes": (1, 1 << 30),
    "perf_rb_pages": (1, 1 << 16),
}
_CHOICES = {
    "stack_mode": ("bpftrace", "perf", "raw"),
    "missing_probes": ("error", "warn", "ignore"),
    "output_version": ("0.17", "0.24"),
}
_SWITCHES = ("print_maps_on_exit", "assign_in_place", "direct_reads", "cpp_demangle", "show_debug_info")
_TEXTS = ("str_trunc_trailer",)
# bpftrace's other settings have no effect here. Accepted, so that scripts run unchanged.
_WITHOUT_MEANING = (
    "btf",
    "cache_user_symbols",
    "lazy_symbolication",
    "license",
    "log_size",
    "max_ast_nodes",
    "max_bpf_progs",
    "max_type_res_iterations",
    "on_stack_limit",
    "symbol_source",
    "unstable_addr",
    "unstable_import",
    "unstable_macro",
    "unstable_map_decl",
    "unstable_tseries",
    "use_blazesym",
    "verify_llvm_ir",
)
_OLD_MAX_STRLEN = 256
_OLDER_NAMES = {"strlen": "max_strlen", "map_keys_max": "max_map_keys", "cat_bytes_max": "max_cat_bytes"}
_TRUE, _FALSE = ("1", "true"), ("0", "false")


class UnknownOptionError(InsituError):
    """An option that a script does not have. ``hint`` says what may have been meant instead."""

    def __init__(self, name: str, known: Iterable[str], hint: str = "") -> None:
        names = ", ".join(f"--{each}" for each in sorted(known)) or "none"
        hint = nearest(f"--{name}", [f"--{each}" for each in known]) or hint
        super().__init__(f"the script has no option --{name}{hint}", remedy=f"it has {names}", status=2)
        self.name, self.known = name, known


class Options(Struct):
    """``parameters`` are the script's positional ones, ``named`` those given as ``--name=value``."""

    parameters: list[str] = field(default_factory=list)
    unsafe: bool = False
    warns: bool = False  # when helpers fail and keys are missing
    hides_warnings: bool = False  # also of numbers that are divided by zero
    trials: str = ""  # the kind of probes on request that is run: test, bench
    one_process: bool = False  # probes are restricted to a process that is known at load time
    named: dict[str, str] = field(default_factory=dict)
    max_strlen: int = 1024
    max_map_keys: int = 4096
    max_probes: int = 1024
    max_cat_bytes: int = 10240
    perf_rb_pages: int = 64
    stack_mode: str = "bpftrace"
    missing_probes: str = ""  # not set: an error for a probe's only attach point, else a warning
    print_maps_on_exit: bool = True
    assign_in_place: bool = False  # values of maps; no key may be deleted while another CPU assigns to it
    direct_reads: bool = False  # follow args, curtask and user_regs by loads that the verifier checks
    cpp_demangle: bool = True
    show_debug_info: bool = True
    str_trunc_trailer: str = ""
    output_version: str = "0.17"  # the version of bpftrace whose form text and JSON have
    # What emit() does: "record" a row of a table, "print" it instead of what printf() prints, or nothing ("drop").
    events: str = "record"
    # What traced() is true for: "" all; "parameter" $1; "process" cpid; "command" cpid from its exec on, and its
    # descendants; "tree" cpid or $1, and its descendants.
    target: str = ""
    max_literal: int = 1024
    max_unroll: int = 100
    include_folders: list[str] = field(default_factory=list)  # -I
    includes: list[str] = field(default_factory=list)  # --include
    from_environment: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)  # settings that were given

    @classmethod
    def given(cls, words: Iterable[str], *, unsafe: bool = False) -> Options:
        """From what follows a script's name: ``--name=value`` is an option of the script, the rest are positional."""
        options = cls(unsafe=unsafe)
        for word in words:
            if word.startswith("--") and len(word) > 2:
                name, _, value = word[2:].partition("=")
                options.named[name] = value
            else:
                options.parameters.append(word)
        return options

    def settings(self) -> dict[str, bool | int | bytes]:
        """The settings that have an effect, by name."""
        numbers = {name: int(getattr(self, name)) for name in _NUMBERS}
        texts = {name: str(getattr(self, name)).encode() for name in (*_CHOICES, *_TEXTS, "events")}
        switches = {name: bool(getattr(self, name)) for name in _SWITCHES}
        texts["missing_probes"] = texts["missing_probes"] or b"error"
        found: dict[str, bool | int | bytes] = {**numbers, **texts, **switches}
        return {name: found[name] for name in sorted(found)}

    def check_named(self, known: Iterable[str]) -> None:
        """:raises UnknownOptionError: when an option was given that the script does not ask for."""
        for name in self.named:
            if name not in known:
                raise UnknownOptionError(name, known)

    def apply_environment(self, environment: Mapping[str, str] | None = None) -> None:
        """Take over BPFTRACE_MAX_STRLEN and the like (older names included); they win over a script's config."""
        variables = os.environ if environment is None else environment
        for name, text in variables.items():
            setting = _setting(name)
            if name.startswith("BPFTRACE_") and _has_meaning(setting):
                self._set(setting, text, name)
                self.from_environment.append(setting)

    def apply_config(self, config: Mapping[str, str | int]) -> None:
        """Take over a script's ``config = { ... }``.

        :raises InsituError: for an unknown setting or a value out of range.
        """
        for name, value in config.items():
            setting = _setting(name)
            if _has_meaning(setting):
                if setting not in self.from_environment:
                    self._set(setting, value, name)
            elif setting not in _WITHOUT_MEANING:
                known = (*_NUMBERS, *_CHOICES, *_SWITCHES, *_TEXTS, *_WITHOUT_MEANING)
                hint = nearest(setting, known)
                raise InsituError(f"unknown setting {name!r} in config{hint}", remedy=_REMEDY if not hint else "")

    def fit_kernel(self, *, long_keys: bool) -> None:
        """Take shorter strings by default where keys of maps are short: two of them fit into one."""
        if not long_keys and "max_strlen" not in self.chosen:
            self.max_strlen = min(self.max_strlen, _OLD_MAX_STRLEN)

    def _set(self, setting: str, value: str | int, name: str) -> None:
        self.chosen.append(setting)
        if setting in _CHOICES:
            choices = _CHOICES[setting]
            if value not in choices:
                raise InsituError(f"{name} is {' or '.join((', '.join(choices[:-1]), choices[-1]))}, not {value!r}")
            setattr(self, setting, str(value))
        elif setting in _SWITCHES:
            text = str(value).lower()
            if text not in (*_TRUE, *_FALSE):
                raise InsituError(f"{name} must be true or false, not {value!r}")
            setattr(self, setting, text in _TRUE)
        elif setting in _TEXTS:
            setattr(self, setting, str(value))
        else:
            setattr(self, setting, _number(setting, value, name))


_REMEDY = f"known settings: {', '.join(sorted((*_NUMBERS, *_CHOICES, *_SWITCHES, *_TEXTS)))}"


def _setting(name: str) -> str:
    """``BPFTRACE_STACK_MODE``, ``STACK_MODE`` and ``stack_mode`` are one; so are settings that were renamed."""
    short = name.lower().removeprefix("bpftrace_")
    return _OLDER_NAMES.get(short, short)


def _has_meaning(setting: str) -> bool:
    return setting in _NUMBERS or setting in _CHOICES or setting in _SWITCHES or setting in _TEXTS


def _number(setting: str, value: str | int, name: str) -> int:
    low, high = _NUMBERS[setting]
    try:
        number = int(str(value), 0)
    except ValueError:
        raise InsituError(f"{name} needs a number, not {value!r}") from None
    if not low <= number <= high:
        raise InsituError(f"{name} must be {low} to {high}, not {number}")
    return number
