"""LLVM for the BPF target, called directly in the library that llvmlite's wheel carries.

llvmlite's own modules declare several hundred functions, and import an IR builder, a JIT and what unpacks archives:
four times what loading the library takes, at every start that compiles. The functions below are all that is used;
their names (behind ``LLVMPY_``) and arguments are those of llvmlite/binding/*.py, version 0.50.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from functools import cache

from insitu.errors import InsituError

__all__ = ["Module"]

_LIBRARY = "binding/libllvmlite.so"
_TRIPLE, _CPU = b"bpf", b"v3"  # v3: 32-bit operations and jumps, which kernels from 5.3 on take
_LEVEL = 2  # as in clang -O2

_POINTER, _INT, _TEXT, _OUT = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)
# Function -> its result, its arguments. An _OUT argument receives a text, which DisposeString frees.
_FUNCTIONS = {
    "InitializeAllTargetInfos": (None,),
    "InitializeAllTargets": (None,),
    "InitializeAllTargetMCs": (None,),
    "InitializeAllAsmPrinters": (None,),
    "GetTargetFromTriple": (_POINTER, _TEXT, _OUT),
    # target, triple, CPU, features, level, relocation model, code model, print, JIT, ABI
    "CreateTargetMachine": (_POINTER, _POINTER, _TEXT, _TEXT, _TEXT, _INT, _TEXT, _TEXT, _INT, _INT, _TEXT),
    "GetGlobalContext": (_POINTER,),
    "ParseAssembly": (_POINTER, _POINTER, _TEXT, _OUT),
    "DisposeModule": (None, _POINTER),
    "PrintModuleToString": (None, _POINTER, _OUT),
    "CreatePipelineTuningOptions": (_POINTER,),
    "CreatePassBuilder": (_POINTER, _POINTER, _POINTER),
    "DisposePassBuilder": (None, _POINTER),
    "DisposePipelineTuningOptions": (None, _POINTER),
    "buildPerModuleDefaultPipeline": (_POINTER, _POINTER, _INT),
    "CreateNewModulePassManager": (_POINTER,),
    "module_AddSROAPass": (None, _POINTER),
    "module_AddInstCombinePass": (None, _POINTER),
    "module_AddSimplifyCFGPass": (None, _POINTER),
    "module_AddDCEPass": (None, _POINTER),
    "RunNewModulePassManager": (None, _POINTER, _POINTER, _POINTER),
    "DisposeNewModulePassManger": (None, _POINTER),
    "TargetMachineEmitToMemory": (_POINTER, _POINTER, _POINTER, _INT, _OUT),
    "GetBufferStart": (_POINTER, _POINTER),
    "GetBufferSize": (ctypes.c_size_t, _POINTER),
    "DisposeMemoryBuffer": (None, _POINTER),
    "DisposeString": (None, _POINTER),
}


class Module:
    """IR, parsed for the BPF target. Lives on in LLVM's memory until close()."""

    def __init__(self, text: str) -> None:
        """:raises InsituError: for what LLVM cannot parse."""
        self._library, self._machine = _target()
        message = _Message(self._library)
        context = self._library.LLVMPY_GetGlobalContext()
        self._module = self._library.LLVMPY_ParseAssembly(
            context, text.encode("utf-8", "surrogateescape"), message.out
        )
        reason = message.text()
        if reason:
            raise InsituError(f"LLVM cannot compile this program: {_first_line(reason)}")

    def __enter__(self) -> Module:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Free it. Idempotent."""
        if self._module:
            self._library.LLVMPY_DisposeModule(self._module)
            self._module = None

    def __str__(self) -> str:
        """The IR as text."""
        message = _Message(self._library)
        self._library.LLVMPY_PrintModuleToString(self._module, message.out)
        return message.text()

    def optimize(self, *, in_linear_time: bool) -> None:
        """Run LLVM's pipeline of -O2 or, in linear time, those of its passes which do most of the good."""
        library = self._library
        tuning = library.LLVMPY_CreatePipelineTuningOptions()
        builder = library.LLVMPY_CreatePassBuilder(self._machine, tuning)
        if in_linear_time:
            passes = library.LLVMPY_CreateNewModulePassManager()
            library.LLVMPY_module_AddSROAPass(passes)
            library.LLVMPY_module_AddInstCombinePass(passes)
            library.LLVMPY_module_AddSimplifyCFGPass(passes)
            library.LLVMPY_module_AddDCEPass(passes)
        else:
            passes = library.LLVMPY_buildPerModuleDefaultPipeline(builder, _LEVEL)
        library.LLVMPY_RunNewModulePassManager(passes, self._module, builder)
        library.LLVMPY_DisposeNewModulePassManger(passes)
        library.LLVMPY_DisposePassBuilder(builder)
        library.LLVMPY_DisposePipelineTuningOptions(tuning)

    def emit(self, *, assembly: bool = False) -> bytes:
        """The ELF object, or the assembly, of the module. :raises InsituError: for what BPF cannot do."""
        message = _Message(self._library)
        buffer = self._library.LLVMPY_TargetMachineEmitToMemory(
            self._machine, self._module, int(not assembly), message.out
        )
        reason = message.text()
        if not buffer:
            raise InsituError(f"LLVM cannot compile this program: {_first_line(reason)}")
        start, size = self._library.LLVMPY_GetBufferStart(buffer), self._library.LLVMPY_GetBufferSize(buffer)
        data = ctypes.string_at(start, size)
        self._library.LLVMPY_DisposeMemoryBuffer(buffer)
        return data


class _Message:
    """A text that a call leaves behind."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._pointer = ctypes.c_void_p()
        self.out = ctypes.byref(self._pointer)

    def text(self) -> str:
        """The text, which is freed; empty when there is none."""
        if not self._pointer:
            return ""
        data = ctypes.string_at(self._pointer.value or 0)
        self._library.LLVMPY_DisposeString(self._pointer)
        self._pointer.value = None
        return data.decode(errors="replace")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


@cache
def _target() -> tuple[ctypes.CDLL, int]:
    """The library, and its machine for BPF."""
    package = importlib.util.find_spec("llvmlite")
    if package is None or not package.submodule_search_locations:
        raise InsituError("llvmlite is not installed", remedy="pip install insitu brings it")
    try:
        library = ctypes.CDLL(os.path.join(package.submodule_search_locations[0], _LIBRARY))  # noqa: PTH118
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(library, f"LLVMPY_{name}")
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise InsituError(
            f"cannot use llvmlite: {error}", remedy="reinstall insitu, with the llvmlite it asks for"
        ) from None
    for name in (
        "InitializeAllTargetInfos",
        "InitializeAllTargets",
        "InitializeAllTargetMCs",
        "InitializeAllAsmPrinters",
    ):
        getattr(library, f"LLVMPY_{name}")()
    message = _Message(library)
    target = library.LLVMPY_GetTargetFromTriple(_TRIPLE, message.out)
    if not target:
        raise InsituError(f"LLVM has no BPF target: {message.text()}")
    machine: int = library.LLVMPY_CreateTargetMachine(
        target, _TRIPLE, _CPU, b"", _LEVEL, b"default", b"jitdefault", 0, 0, b""
    )
    return library, machine
