"""Describes the bytes that a script's events and maps are recorded in, as plain JSON: ``layout.json`` beside them.

All that decoding needs is in it: kinds, labels, names, types and offsets of fields, texts, the probes' names. Nothing
of the kernel, or of the script, has to be there any more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from insitu.kernel.bpf_map import possible_cpus
from insitu.kernel.calling_convention import COPIED_MASK, COPIED_REGISTERS
from insitu.probe.layout import EVENT_HEAD, Layout, RecordLayout, holds_stacks
from insitu.probe.runtime.type_json import type_to_json

__all__ = ["FORMAT", "HEAD", "recording_layout"]

FORMAT = 1
# What each event begins with: offset in bytes, numpy's name of the type.
HEAD = {"kind": (0, "<u4"), "cpu": (4, "<u4"), "ts_ns": (8, "<u8"), "tid": (16, "<u4"), "pid": (20, "<u4")}


def recording_layout(
    layout: Layout,
    *,
    points: Mapping[int, tuple[str, str]],
    boot_offset_ns: int = 0,
    trailer: str = "",
    max_strlen: int = 0,
) -> dict[str, Any]:
    """What is written as ``layout.json``.

    ``points`` are (probe, function) by number; ``boot_offset_ns`` leads from CLOCK_BOOTTIME to the wall clock.
    """
    return {
        "kind": "probe",
        "format": FORMAT,
        "machine": os.uname().machine,
        "byte_order": "little",
        "cpus": possible_cpus(),
        "clock": "CLOCK_MONOTONIC",
        "boot_offset_ns": boot_offset_ns,
        "texts": list(layout.texts),
        "points": {str(number): list(names) for number, names in points.items()},
        "trailer": trailer,
        "max_strlen": max_strlen,
        "registers": {"mask": COPIED_MASK, "count": len(COPIED_REGISTERS)},
        "head": {name: list(place) for name, place in HEAD.items()},
        "labels": layout.labels,
        "kinds": {str(n): _kind(each) for n, each in enumerate(layout.records) if each.kind == "emit"},
        "maps": {
            str(number): {
                "name": each.name,
                "type": each.type,
                "key_size": each.key_size,
                "value_size": each.value_size,
                "key": type_to_json(each.key) if each.key is not None else None,
                "value": type_to_json(each.value) if each.value is not None else None,
            }
            for number, each in enumerate(layout.maps)
            if each.is_script_map
        },
        "stack_maps": {each.name: n for n, each in enumerate(layout.maps) if holds_stacks(each)},
    }


def _kind(record: RecordLayout) -> dict[str, Any]:
    fields = record.fields
    return {
        "label": record.text,
        "size": record.size,
        "fields": [
            {"name": name, "at": 8 + fields.offset(index), "type": type_to_json(fields.elements[index])}
            for index, name in enumerate(record.names)
            if index >= len(EVENT_HEAD)
        ],
    }
