"""What this kernel, machine and user can do, what is missing, and how to get it.

First come the commands, and the capabilities that this user lacks for each. All else
is tried: an event is opened, a program loaded, a probe attached, and closed at once.

examples:
  insitu doctor                   what this user can do
  sudo insitu doctor              what root can do
  insitu doctor --json            for scripts
  sudo insitu doctor --clean      remove what a killed insitu left in tracefs
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from insitu.commands._options import json_option

if TYPE_CHECKING:
    from insitu.capabilities import Feature

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    json_option(parser, "one JSON object: host, kernel, machine, user, features")
    parser.add_argument(
        "--clean", action="store_true", help="instead, remove trace instances and probes whose insitu was killed"
    )


def run(args: argparse.Namespace) -> int:
    if args.clean:
        return _clean(args)
    from insitu.capabilities import ask
    from insitu.views import doctor

    features = ask()
    if args.json:
        import json
        import os

        host = os.uname()
        print(
            json.dumps(
                {
                    "host": host.nodename,
                    "kernel": host.release,
                    "machine": host.machine,
                    "uid": os.geteuid(),
                    "features": [_plain(feature) for feature in features],
                },
                indent=1,
            )
        )
    elif sys.stdout.isatty():
        from insitu.views.terminal import Screen

        Screen.of(sys.stdout).write(doctor.rendered(features))
    else:
        print(doctor.plain(features))
    return 0


def _clean(args: argparse.Namespace) -> int:
    """Remove what dead owners left in tracefs; returns the exit status."""
    import json
    from contextlib import closing

    from insitu.kernel.tracefs import Tracefs
    from insitu.kernel.tracefs_leftovers import remove_dead

    with closing(Tracefs.open()) as tracefs:
        done = remove_dead(tracefs)
    if args.json:
        print(json.dumps({"done": done}))
    else:
        print("\n".join(done or ["nothing was left in tracefs"]))
    return 0


def _plain(feature: "Feature") -> dict[str, Any]:
    """A feature as JSON holds it: its result's fields beside its names, flags and enumerations by name."""
    result = feature.result
    return {
        "group": feature.group,
        "name": feature.name,
        "state": str(result.state),
        "reason": result.reason,
        "remedy": result.remedy,
        "details": None if result.details is None else {k: _value(v) for k, v in result.details._asdict().items()},
    }


def _value(value: Any) -> Any:
    from enum import Flag, IntEnum

    if isinstance(value, Flag):
        return [(flag.name or "").lower() for flag in value]
    if isinstance(value, IntEnum):
        return value.name.lower()
    return [_value(each) for each in value] if isinstance(value, tuple) else value
