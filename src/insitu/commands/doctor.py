"""What this kernel, machine and user can do, what is missing, and how to get it.

Everything is tried for real: one of each is opened, loaded or attached, and let go at once.

examples:
  insitu doctor                   a table
  sudo insitu doctor              the same for root, who can do more
  insitu doctor --json            for scripts
"""

import argparse
import sys


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object: host, kernel, machine, user, features")


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
