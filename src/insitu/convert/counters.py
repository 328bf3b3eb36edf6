"""Counts read over time (record/sources/counting.py), as tracks and their values."""

from typing import Any

import numpy as np

from insitu.convert.addresses import Addresses
from insitu.convert.sources import RawSource, raw_bytes
from insitu.session.core_tables import COUNTER, TRACK
from insitu.session.writer import SessionWriter

__all__ = ["convert_source"]

_VALUE = np.dtype([("ts_ns", "<i8"), ("track", "<i8"), ("value", "<f8")])


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write a source of kind "counters": its layout has the "tracks", its records are time, track and value."""
    tracks: list[dict[str, Any]] = source.layout["tracks"]
    threads = np.array([each["thread"] or (0, 0) for each in tracks], np.int32).reshape(-1, 2)
    is_none = threads[:, 1] == 0
    utids = np.zeros(len(tracks), np.int32)
    start = np.full(len(tracks), writer.manifest.start_ns, np.int64)
    utids[~is_none] = writer.processes.utids(threads[~is_none, 1], start[~is_none], threads[~is_none, 0])
    writer.append(
        TRACK,
        {
            "id": np.arange(len(tracks)),
            "name": [str(each["name"]) for each in tracks],
            "unit": [str(each["unit"]) for each in tracks],
            "utid": np.ma.masked_array(utids, is_none),
            "cpu": np.ma.masked_less(np.array([int(each["cpu"]) for each in tracks], np.int32), 0),
            "device": [str(each["device"]) for each in tracks],
        },
    )
    for each in tracks:
        if each["reason"]:
            writer.notes.append(f"{each['name']}: not counted: {each['reason']}")
    writer.append(COUNTER, {})
    for file in source.files:
        data = raw_bytes(file)
        whole = len(data) - len(data) % _VALUE.itemsize
        if whole < len(data):
            writer.notes.append(source.cut_off(file, whole, len(data)))
        values = np.frombuffer(data[:whole], _VALUE)
        known = (values["track"] >= 0) & (values["track"] < len(tracks))
        writer.lost(f"{source.id}: malformed records", int(len(values) - known.sum()))
        writer.append(
            COUNTER, {name: np.ascontiguousarray(values[name][known]) for name in ("ts_ns", "track", "value")}
        )
