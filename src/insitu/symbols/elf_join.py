"""Puts other contents into sections of an ELF file, leaving everything else where it is."""

from collections.abc import Mapping

import numpy as np

from insitu.symbols.elf import Elf

__all__ = ["with_sections"]

_SHT_PROGBITS = 1
_SHF_COMPRESSED = 0x800
_SHN_XINDEX = 0xFFFF


def with_sections(elf: Elf, contents: Mapping[str, bytes]) -> bytes | None:
    """The file with ``contents`` in the sections of these names, which are made where the file has none.

    None if its section headers are not as almost all are (more than 65,279 sections), or damaged.
    """
    shdr, ehdr = elf.layout.shdr, elf.layout.ehdr
    image = bytearray(elf.read(0, elf.size))
    head = np.frombuffer(image, ehdr, 1).copy()
    count, names_at = int(head["shnum"][0]), int(head["shstrndx"][0])
    start = int(head["shoff"][0])
    whole = len(elf.sections) == count and start + count * shdr.itemsize <= len(image)
    if not whole or not 0 < names_at < count or names_at == _SHN_XINDEX:
        return None
    headers = np.frombuffer(image, shdr, count, start).copy()
    names = bytearray(elf.section_bytes(elf.sections[names_at]))
    index_of = {section.name: index for index, section in reversed(list(enumerate(elf.sections)))}
    added = []
    for name, data in contents.items():
        image += bytes(-len(image) % 16)
        index = index_of.get(name)
        if index is None:
            made = np.zeros(1, shdr)
            made["name"], made["type"], made["addralign"] = len(names), _SHT_PROGBITS, 1
            names += name.encode() + b"\0"
            added.append(made)
            row = made
        else:
            row = headers[index : index + 1]
        row["offset"], row["size"] = len(image), len(data)
        row["flags"] &= np.array(~_SHF_COMPRESSED & 0xFFFF_FFFF, row["flags"].dtype)
        image += data
    headers["offset"][names_at], headers["size"][names_at] = len(image), len(names)
    image += names
    image += bytes(-len(image) % 16)
    head["shoff"], head["shnum"] = len(image), count + len(added)
    image += headers.tobytes() + b"".join(each.tobytes() for each in added)
    image[: ehdr.itemsize] = head.tobytes()
    return bytes(image)
