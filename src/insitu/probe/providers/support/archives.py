"""Shared libraries that are mapped out of ZIP archives, as Android's are: ``app.apk!/lib/x86_64/libapp.so``."""

from __future__ import annotations

import errno
import struct

from insitu.errors import InsituError

__all__ = ["archived", "stored_entry"]

_SEPARATOR = "!/"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # APPNOTE.TXT 4.3.7: signature ... lengths of the name and the extra field
_LOCAL_SIGNATURE = b"PK\3\4"
_MAX_BYTES = 1 << 28


def archived(path: str) -> tuple[str, str]:
    """The archive and the name in it that a path means; the name is "" for a path that leads into no archive."""
    archive, _, name = path.partition(_SEPARATOR)
    return archive, name


def stored_entry(archive: str, name: str) -> tuple[bytes, int]:
    """Contents of a file in an archive, and their offset in the archive.

    :raises InsituError: when there is no such entry, or it is compressed: code cannot be mapped out of it.
    :raises OSError: when the archive cannot be read.
    """
    import zipfile

    try:
        with zipfile.ZipFile(archive) as opened:
            entry = opened.getinfo(name)
            if entry.compress_type != zipfile.ZIP_STORED:
                raise InsituError(f"{name} is compressed in {archive}: no process can have mapped its code")
            if entry.file_size > _MAX_BYTES:
                raise InsituError(f"{name} in {archive} is larger than {_MAX_BYTES >> 20} MiB")
            data = opened.read(entry)
            held = opened.fp
            assert held is not None
            held.seek(entry.header_offset)
            signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(held.read(_LOCAL_HEADER.size))
    except KeyError:
        raise InsituError(f"there is no {name} in {archive}") from None
    except (zipfile.BadZipFile, struct.error, RuntimeError, NotImplementedError, EOFError, ValueError):
        raise InsituError(f"{archive} is not a ZIP archive that can be read") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # offsets of a truncated archive, below 0
            raise
        raise InsituError(f"{archive} is not a ZIP archive that can be read") from None
    if signature != _LOCAL_SIGNATURE:
        raise InsituError(f"{archive} is not a ZIP archive that can be read")
    return data, entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
