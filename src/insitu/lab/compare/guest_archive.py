"""A directory of a guest, fetched as a tar archive that the guest's root, who is not trusted, may have made up."""

import tarfile
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.guests.guest import Guest

__all__ = ["fetch_directory", "unpack"]

_MAX_BYTES: Final = 1 << 30
_MAX_FILES: Final = 10_000


def fetch_directory(guest: Guest, directory: str, target: Path, timeout: float) -> None:
    """Copy the regular files below the guest's ``directory`` into the new directory ``target``.

    Raises InsituError for anything else in it, and if it is larger than 1 GiB.
    """
    archive = target.with_name(f"{target.name}.tar")
    with archive.open("xb") as file:

        def append(data: bytes) -> None:
            if file.tell() <= _MAX_BYTES:  # what comes after that is not kept
                file.write(data)

        guest.run(["tar", "-c", "-C", directory, "."], stdout=append, timeout=timeout).check()
    if archive.stat().st_size > _MAX_BYTES:
        raise InsituError(f"{directory} of the guest is larger than {_MAX_BYTES >> 20} MiB")
    unpack(archive, target)
    archive.unlink()


def unpack(archive: Path, target: Path) -> None:
    """Unpack regular files and directories into the new directory ``target``; modes and owners are not taken over.

    Raises InsituError for links, devices, sparse files, names that lead out of ``target``, and a damaged archive.
    """
    target.mkdir(mode=0o700)
    try:
        # As a stream, which never seeks back: a damaged header cannot make it read anything twice.
        with tarfile.open(archive, "r|") as members:
            for number, member in enumerate(members):
                path = target / member.name
                plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) and member.sparse is None
                if number >= _MAX_FILES or not plain or ".." in path.parts or not path.is_relative_to(target):
                    raise InsituError(f"the guest sent {member.name!r}, which is not one of a recording's files")
                if member.isdir():
                    path.mkdir(mode=0o700, exist_ok=True)
                elif (data := members.extractfile(member)) is not None:
                    with path.open("xb") as file:
                        while part := data.read(1 << 20):
                            file.write(part)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise InsituError(f"the recording that the guest sent cannot be unpacked: {error}") from None
