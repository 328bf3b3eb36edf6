"""/sys/bus/event_source/devices of machines with PMUs, cut to what the tests ask for.

The contents are those that the kernel's drivers declare (arch/x86/events/): Ice Lake's cpu, uncore_imc_* and power
PMUs, and the fields of AMD's core PMU (amd_core, where AMD has "cpu").
"""

from pathlib import Path

_TREES = {
    "cpu": {
        "type": "4",
        "format/event": "config:0-7",
        "format/umask": "config:8-15",
        "format/edge": "config:18",
        "format/inv": "config:23",
        "format/cmask": "config:24-31",
        "format/ldlat": "config1:0-15",
        "format/offcore_rsp": "config1:0-63",
        "format/frontend": "config1:0-23",
        "events/cpu-cycles": "event=0x3c",
        "events/instructions": "event=0xc0",
        "events/mem-loads": "event=0xcd,umask=0x1,ldlat=3",
        "events/slots": "event=0x00,umask=0x4",
        "events/topdown-retiring": "event=0x00,umask=0x80",
        "events/topdown-bad-spec": "event=0x00,umask=0x81",
        "events/topdown-fe-bound": "event=0x00,umask=0x82",
        "events/topdown-be-bound": "event=0x00,umask=0x83",
    },
    "amd_core": {"type": "11", "format/event": "config:0-7,32-35", "format/umask": "config:8-15"},
    "power": {
        "type": "23",
        "cpumask": "0",
        "format/event": "config:0-7",
        "events/energy-pkg": "event=0x02",
        "events/energy-pkg.scale": "2.3283064365386962890625e-10",
        "events/energy-pkg.unit": "Joules",
    },
    **{
        f"uncore_imc_{number}": {
            "type": str(24 + number),
            "cpumask": "0,1",
            "format/event": "config:0-7",
            "format/umask": "config:8-15",
            "events/cas_count_read": "event=0x04,umask=0x0f",
            "events/cas_count_read.scale": "6.103515625e-5",
            "events/cas_count_read.unit": "MiB",
        }
        for number in (0, 1)
    },
}


def write(root: Path) -> str:
    """Write the trees below ``root``; returns it as a path."""
    for name, files in _TREES.items():
        for path, content in files.items():
            file = root / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")
    return str(root)
