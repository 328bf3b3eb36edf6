"""A guest's memory in QEMU's words: plain, in NUMA nodes, shared with virtiofsd, or in a snapshot's file."""

from dataclasses import dataclass
from pathlib import Path

from insitu.lab.guests.machine import Options, parse_size

__all__ = ["Memory", "boot_memory", "continued", "snapshot_memory"]


@dataclass(frozen=True)
class Memory:
    """The words of QEMU's command line that make the memory."""

    words: list[str]


def boot_memory(options: Options, transport: str) -> Memory:
    """Memory to boot with. virtiofsd reads and writes the guest's memory, which must then be shareable."""
    if options.numa == 1 and transport != "virtiofs":
        return Memory([])
    backend = "memory-backend-memfd,share=on" if transport == "virtiofs" else "memory-backend-ram"
    return Memory(_nodes(options, [backend] * options.numa))


def snapshot_memory(options: Options, directory: Path, *, share: bool) -> Memory:
    """Memory in files of ``directory``: shared while the snapshot is made, then private copies of the same files."""
    mode = "on" if share else "off"
    backends = [
        f"memory-backend-file,share={mode},mem-path={directory}/ram{number}" for number in range(options.numa)
    ]
    return Memory(_nodes(options, backends))


def continued(options: Options, snapshot: Path) -> Memory:
    """Memory of a guest that goes on from the snapshot in a directory."""
    return Memory([*snapshot_memory(options, snapshot, share=False).words, "-incoming", "defer"])


def _nodes(options: Options, backends: list[str]) -> list[str]:
    size = parse_size(options.memory) >> 20
    words = []
    for number, backend in enumerate(backends):
        # The last node takes what division leaves over.
        share = size // options.numa + (size % options.numa if number == options.numa - 1 else 0)
        words += ["-object", f"{backend},id=ram{number},size={share}M"]
        if options.numa == 1:
            return [*words, "-machine", "memory-backend=ram0"]
        first, last = number * options.cpus // options.numa, (number + 1) * options.cpus // options.numa - 1
        words += ["-numa", f"node,nodeid={number},memdev=ram{number},cpus={first}-{last}"]
    return words
