"""`insitu lab kernels | fetch | build`: the kernels that guests can run, and how to get more."""

import argparse

from insitu import messages
from insitu.commands._options import json_option, positive
from insitu.commands.lab._subcommands import Subcommands

__all__ = ["arguments"]


def arguments(subcommands: Subcommands) -> None:
    """Declare this module's subcommands."""
    kernels = subcommands.add(
        "kernels",
        "list installed, fetched and fetchable kernels",
        "kernels",
        "kernels --json | jq -r .[].name",
    )
    json_option(kernels)
    kernels.set_defaults(action=_kernels)

    fetch = subcommands.add(
        "fetch",
        "download a distribution kernel into the cache; nothing is installed",
        "fetch 6.1 6.12-cloud",
        "fetch 6.1-cloud --debuginfo      # with the vmlinux that drgn, crash and gdb need",
        "fetch ./linux-image-6.9.0-rc1_amd64.deb",
    )
    fetch.add_argument("name", nargs="+", help="6.1, 6.1-cloud, 6.12, 6.1-rt ..., a linux-image-*.deb, or an image")
    fetch.add_argument(
        "--debuginfo", action="store_true", help="also download its vmlinux with debug information (large)"
    )
    fetch.set_defaults(action=_fetch)

    build = subcommands.add(
        "build",
        "build a small guest kernel from the distribution's source package",
        "build -k 6.1 --with kgdb,irqsoff,lockdep,kasan,gcov",
        "build -k 6.12 -j4                # without features: the small kernel itself",
    )
    build.add_argument(
        "-k", "--kernel", default="6.1", metavar="VERSION", help="version of the source package (default 6.1)"
    )
    build.add_argument(
        "--with",
        dest="features",
        default="",
        metavar="LIST",
        help="features: irqsoff,latency,kgdb,lockdep,kasan,gcov",
    )
    build.add_argument(
        "-j", "--jobs", type=positive, default=0, metavar="N", help="parallel compilers (default: one per CPU)"
    )
    build.set_defaults(action=_build)


def _kernels(args: argparse.Namespace) -> int:
    import json

    from insitu.lab.kernels.apt_packages import fetchable
    from insitu.lab.kernels.find_kernel import cached_kernels, installed_kernels

    here = [*installed_kernels(), *cached_kernels()]
    rows = [
        {
            "name": kernel.name,
            "release": kernel.release,
            "state": _state(kernel.origin),
            "debuginfo": bool(kernel.debuginfo),
        }
        for kernel in here
    ]
    known = {kernel.release for kernel in here}
    rows += [
        {"name": package.name, "release": package.release, "state": "fetchable", "debuginfo": False}
        for package in fetchable()
        if package.release not in known
    ]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    if not rows:
        messages.note("no kernel is installed or fetched, and apt offers none")
    widths = [max((len(str(row[key])) for row in rows), default=0) for key in ("name", "release")]
    for row in rows:
        state = f"{row['state']}{', with debuginfo' if row['debuginfo'] else ''}"
        print(f"{row['name']:<{widths[0]}}  {row['release']:<{widths[1]}}  {state}")
    return 0


def _state(origin: str) -> str:
    return origin if origin in ("installed", "built") else "fetched"


def _fetch(args: argparse.Namespace) -> int:
    from insitu.lab.kernels.fetch import fetch, fetch_debuginfo

    for name in args.name:
        kernel = fetch(name, messages.note)
        if args.debuginfo:
            kernel = fetch_debuginfo(kernel, messages.note)
        print(f"{kernel.name} is ready: insitu lab run -k {kernel.name} -- uname -r")
    return 0


def _build(args: argparse.Namespace) -> int:
    from insitu.lab.build.build_kernel import build

    kernel = build(args.kernel, [word for word in args.features.split(",") if word], args.jobs, messages.note)
    if kernel.build is not None:
        messages.note(f"modules for it: make -C {kernel.build} M=$PWD modules")
    print(f"{kernel.name} is ready: insitu lab run -k {kernel.name} -- uname -r")
    return 0
