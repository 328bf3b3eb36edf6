"""Kernel modules that a guest's features need, in the order in which they must be loaded."""

import functools
import graphlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.kernels.kernel import Kernel
from insitu.lab.kernels.vmlinux import decompress

__all__ = ["FEATURES", "has_feature", "load_order", "module_bytes"]

FEATURES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "virtio": (("virtio_pci", "VIRTIO_PCI"),),
    "serial ports": (("virtio_console", "VIRTIO_CONSOLE"),),
    "9p": (("9pnet_virtio", "NET_9P_VIRTIO"), ("9p", "9P_FS")),
    "virtiofs": (("virtiofs", "VIRTIO_FS"),),
    "overlay": (("overlay", "OVERLAY_FS"),),
    "network": (("virtio_net", "VIRTIO_NET"),),
    "disk": (("virtio_blk", "VIRTIO_BLK"),),
    "firmware configuration": (("qemu_fw_cfg", "FW_CFG_SYSFS"),),
}
"""What a guest may need -> the modules that provide it, each with the configuration option that builds it in."""

_WANTED: Final = frozenset(module for modules in FEATURES.values() for module, _option in modules)


@functools.lru_cache(maxsize=8)
def _dependencies(modules: Path) -> dict[str, tuple[str, ...]]:
    """Module name -> its file and the files it depends on, as modules.dep lists them (nearest first)."""
    index = modules / "modules.dep"
    if not index.exists():
        return _dependencies_in_tree(modules)
    table = {}
    for line in _lines(index):
        path, _, needs = line.partition(":")
        table[_module_name(path)] = (path, *needs.split())
    return table


def _dependencies_in_tree(modules: Path) -> dict[str, tuple[str, ...]]:
    """The same without modules.dep: each module lists the modules it needs itself."""
    files = {}
    for line in _lines(modules / "modules.order"):
        # Trees before 6.3 list .ko, later ones the objects; an installed list starts with kernel/.
        path = line.removesuffix(".o").removesuffix(".ko") + ".ko"
        files[_module_name(path)] = path if (modules / path).exists() else path.removeprefix("kernel/")
    table: dict[str, tuple[str, ...]] = {}
    for name in _WANTED & files.keys():
        needs: dict[str, set[str]] = {}
        waiting = [name]
        while waiting:
            module = waiting.pop()
            if module in files and module not in needs:
                needs[module] = set(_needs(modules / files[module]))
                waiting += needs[module]
        order = graphlib.TopologicalSorter(needs).static_order()
        table[name] = tuple(reversed([files[module] for module in order if module in files]))
    return table


def _needs(module: Path) -> tuple[str, ...]:
    """The names in a module's own ``depends=`` (section .modinfo)."""
    from insitu.symbols.elf import Elf

    fields = Elf(module_bytes(module), name=str(module)).section_bytes(".modinfo").split(b"\0")
    listed = next((field[len(b"depends=") :] for field in fields if field.startswith(b"depends=")), b"")
    return tuple(_module_name(name) for name in listed.decode(errors="replace").split(",") if name)


@functools.lru_cache(maxsize=8)
def _builtin(modules: Path) -> frozenset[str]:
    return frozenset(_module_name(line) for line in _lines(modules / "modules.builtin"))


def _lines(path: Path) -> list[str]:
    text = path.read_text(errors="replace") if path.exists() else ""
    return text.replace("\0", "").splitlines()  # no path holds zero bytes


def has_feature(kernel: Kernel, feature: str) -> bool:
    """Whether the kernel has a feature, as modules or built in; True if nothing is known of the kernel."""
    return all(_is_known(kernel, module, option) for module, option in FEATURES[feature])


def load_order(kernel: Kernel, features: Iterable[str]) -> list[Path]:
    """The module files to load for ``features``, each after those it needs, without built-in ones.

    Raises InsituError with the module and the configuration option that the kernel lacks.
    """
    files: list[Path] = []
    for feature in features:
        for module, option in FEATURES[feature]:
            if not _is_known(kernel, module, option):
                raise InsituError(
                    f"kernel {kernel.name} lacks the module {module} (CONFIG_{option}), "
                    f"which the guest needs for {feature}",
                    remedy="insitu lab kernels lists other kernels",
                )
            if kernel.modules is None or module in _builtin(kernel.modules):
                continue
            # modules.dep lists a module's needs so that loading from the last to the first works.
            for path in reversed(_dependencies(kernel.modules).get(module, ())):
                if kernel.modules / path not in files:
                    files.append(kernel.modules / path)
    return files


def module_bytes(path: Path) -> bytes:
    """A module's ELF image, decompressed if the distribution ships it compressed."""
    data = path.read_bytes()
    return data if data.startswith(b"\x7fELF") else decompress(data) or data


def _is_known(kernel: Kernel, module: str, option: str) -> bool:
    if kernel.modules is None:
        return not kernel.options or kernel.options.get(option) == "y"
    return module in _builtin(kernel.modules) or module in _dependencies(kernel.modules)


def _module_name(path: str) -> str:
    return path.rsplit("/", 1)[-1].split(".ko", 1)[0].replace("-", "_")
