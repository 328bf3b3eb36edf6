"""What this kernel, machine and user can do, what is missing, and how to get it.

Everything is tried: an event is opened, a program loaded, a probe attached, and closed at once.

examples:
  insitu doctor                   what this user can do
  sudo insitu doctor              what root can do
  insitu doctor --json            for scripts
"""

import argparse
import sys

from insitu.commands._options import json_option

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    json_option(parser, "one JSON object: host, kernel, machine, user, features")


def run(args: argparse.Namespace) -> int:
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
                    "features": [feature._asdict() for feature in features],
                },
                indent=1,
            )
        )
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(doctor.rendered(features))
    else:
        print(doctor.plain(features))
    return 0
