"""Turn what a session's recorder left in raw/ into its tables."""

from pathlib import Path

from insitu.convert.build import Built, build, no_collector
from insitu.convert.formats.perf_records import EventAttr
from insitu.convert.formats.perf_stream import walk
from insitu.convert.raw import RawRecording
from insitu.errors import InsituError
from insitu.session import store
from insitu.session.profile import Profile

__all__ = ["finish", "profile_of_raw", "read_raw", "save"]


def read_raw(path: Path) -> RawRecording:
    """The raw records of a session. Raises InsituError when its description of the events is damaged."""
    info = store.read_info(path)
    try:
        attrs = [
            EventAttr.parse(bytes.fromhex(event["attr"]), event["name"], event["ids"]) for event in info["events"]
        ]
    except (KeyError, TypeError, ValueError):
        raise InsituError(f"{path}: session.json does not describe its events; raw/ cannot be read") from None
    streams = [walk(_mapped(file)) for file in store.raw_files(path)]
    return RawRecording(streams, attrs, info, live=info.get("boot_id") == store.boot_id())


def finish(path: Path) -> None:
    """Convert raw/ to tables, drop it, and mark the session complete.

    Until the tables are all there raw/ stays, so a failure (a full disk) loses nothing: OSError is raised.
    """
    path = Path(path)
    built = profile_of_raw(path)
    save(path, built)
    store.drop_raw(path)


def profile_of_raw(path: Path) -> Built:
    """What raw/ holds, symbolized, without writing anything."""
    with no_collector():
        return build(read_raw(path))


def save(path: Path, built: Built) -> None:
    """Write a profile's tables and mark the session complete."""
    from insitu.convert.profile_tables import write_profile

    write_profile(path, built)
    _mark_complete(path, built.profile)


def _mark_complete(path: Path, profile: Profile) -> None:
    summary = {"samples": len(profile), "lost": sum(loss.count for loss in profile.lost)}
    store.update(path, **{**profile.info, **summary, "state": store.COMPLETE})


def _mapped(file: Path) -> "memoryview | bytes":
    import mmap

    with file.open("rb") as opened:
        if not file.stat().st_size:
            return b""
        try:
            return memoryview(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ))
        except OSError:  # a file system without mmap(2), as 9p shares can be
            return opened.read()
