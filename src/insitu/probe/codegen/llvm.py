"""LLVM for the BPF target, through llvmlite's binding."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from insitu.errors import InsituError
from insitu.probe.codegen.contained import EndedError, contained

__all__ = ["Module"]

_TRIPLE, _CPU = "bpf", "v3"  # v3: 32-bit operations and jumps, which kernels from 5.3 on take
_LEVEL = 2  # as in clang -O2


class Module:
    """IR, parsed for the BPF target. It takes LLVM's memory until close()."""

    def __init__(self, text: str) -> None:
        """:raises InsituError: for what LLVM cannot parse."""
        binding, self._machine = _target()
        try:
            # The binding passes text on as Latin-1: LLVM gets the bytes of UTF-8 this way.
            self._module = binding.parse_assembly(text.encode("utf-8", "surrogateescape").decode("latin-1"))
            self._module.verify()
        except RuntimeError as error:
            raise _cannot_compile(str(error)) from None

    def __enter__(self) -> Module:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Free it. Idempotent."""
        self._module.close()

    def __str__(self) -> str:
        """The IR as text."""
        return _utf8(str(self._module))

    def optimize(self, *, in_linear_time: bool) -> None:
        """Run LLVM's pipeline of -O2 or, in linear time, those of its passes which do most of the good."""
        binding, _ = _target()
        builder = binding.create_pass_builder(
            self._machine, binding.create_pipeline_tuning_options(speed_level=_LEVEL)
        )
        if in_linear_time:
            passes = binding.create_new_module_pass_manager()
            passes.add_sroa_pass()
            passes.add_instruction_combine_pass()
            passes.add_simplify_cfg_pass()
            passes.add_dead_code_elimination_pass()
        else:
            passes = builder.getModulePassManager()
        passes.run(self._module, builder)
        passes.close()
        builder.close()

    def object_code(self) -> bytes:
        """The module as an ELF object. :raises InsituError: for what BPF cannot do."""
        return _emitted(lambda: bytes(self._machine.emit_object(self._module)))

    def assembly(self) -> str:
        """The module as assembly. :raises InsituError: for what BPF cannot do."""
        assembly = _emitted(lambda: str(self._machine.emit_assembly(self._module)).encode("latin-1"))
        return assembly.decode(errors="replace")


def _emitted(step: Callable[[], bytes]) -> bytes:
    try:
        return contained(step)
    except EndedError as error:
        raise _cannot_compile(str(error)) from None


def _utf8(text: str) -> str:
    """A text of the binding's, which decodes Latin-1."""
    return text.encode("latin-1").decode(errors="replace")


_STACK = "Looks like the BPF stack limit is exceeded"
# What LLVM's messages begin with: their kind, and of a function without debug information its name and type.
_PREFIX = re.compile(r"(?:LLVM (?:ERROR|IR parsing error):?|error:)\s*|.*?: in function .*?\): ")


def _cannot_compile(text: str) -> InsituError:
    """The error for what LLVM has said."""
    lines = [line for line in text.splitlines() if line.strip()]
    reason = next((line for line in lines if _PREFIX.match(line)), lines[0] if lines else "no reason given")
    if _STACK in reason:
        reason, remedy = (
            "a function needs more than the 512 bytes of stack that BPF has",
            "split it into several probes",
        )
        return InsituError(f"cannot compile this program: {reason}", remedy=remedy)
    while match := _PREFIX.match(reason):
        reason = reason[match.end() :]
    return InsituError(f"LLVM cannot compile this program: {reason.strip()}")


@cache
def _target() -> tuple[Any, Any]:
    """The binding, and its target machine for BPF."""
    try:
        from llvmlite import binding
    except (ImportError, OSError) as error:
        raise InsituError(f"cannot use llvmlite: {error}", remedy="pip install --force-reinstall llvmlite") from None
    # A loop's result is not computed by a formula instead: its 128-bit product would be a call that BPF has not.
    binding.set_option("insitu", "--replexitval=never")
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        target = binding.Target.from_triple(_TRIPLE)
    except RuntimeError as error:
        raise InsituError(f"LLVM has no BPF target: {error}") from None
    return binding, target.create_target_machine(cpu=_CPU, opt=_LEVEL)
