"""Count events: of a command, of processes and threads, of cgroups or of whole CPUs.

Without -e: CPU time, context switches, migrations, page faults and, where the
machine has a PMU, cycles, instructions and branches. The figures go to
standard error, or to -o FILE. The exit status is the command's.

examples:
  insitu stat -- make -j2                          a command and its children
  insitu stat -r 5 -- ./prog                       five times: mean and spread
  insitu stat -e page-faults,raw_syscalls:sys_enter -- ./prog
  insitu stat -e '{cycles,instructions}:u' -I 1000 -p 1234
  insitu stat -a -A --timeout 5000                 every CPU, for five seconds
  insitu stat --compare './old -n 5' -- ./new -n 5 which one is faster?
"""

import argparse
from typing import Any

from insitu.commands import Properties
from insitu.commands._options import Gather, count, pid_list, positive

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    starts_programs=True,
    words_follow=True,
    peer_options={
        "--topdown": "use -M topdown",
        "--td-level": "use -M topdown: level 1",
        "-g": "write the group in braces: -e '{cycles,instructions}'",
        "--group": "write the group in braces: -e '{cycles,instructions}'",
        "-T": "name the events: -e cycles-t,tx-start",
        "--transaction": "name the events: -e cycles-t,tx-start",
        "--scale": "counts are always scaled",
        "--no-scale": "counts are always scaled: -j has the share of the time in which they were counted",
        "--no-merge": "name the PMU of which the counts are wanted: uncore_imc_0/.../",
        "--per-cpu": "use -A with -a",
        "--percore-show-thread": "use -A with -a, or --per-core",
        "--smi-cost": "name the events: -e msr/smi/,msr/aperf/,cycles",
        "--iostat": "insitu top shows disks, insitu trace biolatency their latency",
        "--cputype": "name the PMU: cpu_core/cycles/, cpu_atom/cycles/",
        "--metric-no-group": "name the events without braces: -e cycles,instructions",
        "--user": "use --all-user, or -e NAME:u",
        "--kernel": "use --all-kernel, or -e NAME:k",
        "--duration": "use --timeout MS",
        "--interval": "use -I MS",
        "-F": "events are counted here; insitu profile samples them",
        "--repeat-forever": "use -r 0",
        "-u": "use -p PIDS of the user's processes, or -G CGROUP",
    },
)


def arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument(
        "-e",
        "--event",
        action="append",
        metavar="EVENTS",
        help="names, CATEGORY:NAME, rNNN, PMU/terms/, {groups}, with modifiers (:u, :k ...); '-e list' lists names",
    )
    what.add_argument(
        "--filter",
        action=_Filter,
        dest="filters",
        default={},
        metavar="EXPR",
        help="only the tracepoints of the -e before it whose fields match: 'nr == 1 && ret < 0'",
    )
    what.add_argument(
        "-M", "--metrics", action="append", metavar="NAMES", help="the events of these metrics; '-M list' lists them"
    )
    what.add_argument("-d", "--detailed", action="count", default=0, help="also caches; -dd and -ddd: more")
    what.add_argument("-n", "--null", action="store_true", help="count nothing: times alone")
    side = what.add_mutually_exclusive_group()
    side.add_argument("--all-user", action="store_true", help="user code only")
    side.add_argument("--all-kernel", action="store_true", help="kernel code only")

    target = parser.add_argument_group("target")
    target.add_argument("-p", "--pid", type=pid_list, action=Gather, metavar="PID[,PID]", help="running processes")
    target.add_argument("-t", "--tid", type=pid_list, action=Gather, metavar="TID[,TID]", help="running threads")
    target.add_argument("--comm", metavar="NAME", help="running processes of this name")
    target.add_argument("-a", "--all", action="store_true", help="whatever runs, on all CPUs")
    target.add_argument("--all-cpus", dest="all", action="store_true", help=argparse.SUPPRESS)
    target.add_argument("-C", "--cpu", metavar="LIST", help="the same on these CPUs: 0-3,8")
    target.add_argument(
        "-G", "--cgroup", metavar="NAME[,NAME]", help="only in this cgroup; one for each event, or for all"
    )
    target.add_argument("--for-each-cgroup", metavar="NAME,NAME", help="all events in each of these cgroups")
    target.add_argument("-i", "--no-inherit", action="store_true", help="not in children and threads started later")

    when = parser.add_argument_group("when")
    when.add_argument(
        "-D",
        "--delay",
        type=_delay,
        default=0,
        metavar="MS",
        help="start counting after so many ms; -1: when --control says so",
    )
    when.add_argument(
        "--control", metavar="CHANNEL", help="read 'enable' and 'disable' from fd:FD[,ACK_FD] or fifo:PATH[,ACK_PATH]"
    )
    when.add_argument(
        "-I", "--interval-print", type=positive, metavar="MS", help="print what was counted every MS ms"
    )
    when.add_argument("--interval-count", type=positive, metavar="N", help="end after N intervals")
    when.add_argument("--interval-clear", action="store_true", help="clear the terminal before each interval")
    when.add_argument("--timeout", type=positive, metavar="MS", help="end after so many ms (SIGTERM to the command)")
    when.add_argument(
        "-r", "--repeat", type=count, metavar="N", help="run the command N times: means and spread; 0: until Ctrl-C"
    )

    when.add_argument("-S", "--sync", action="store_true", help="write all dirty pages to disk before each run")
    when.add_argument("--pre", metavar="COMMAND", help="shell command to run before each run, not counted")
    when.add_argument("--post", metavar="COMMAND", help="shell command to run after each run, not counted")
    when.add_argument(
        "--compare",
        nargs="?",
        const="",
        metavar="COMMAND_A",
        help="run two commands by turns, -r times each (default 10), and judge whether they differ:"
        " --compare 'CMD A' -- CMD B, or --compare -- CMD A -- CMD B",
    )

    show = parser.add_argument_group("output")
    show.add_argument("-A", "--no-aggr", action="store_true", help="each CPU by itself (with -a or -C)")
    for domain in ("core", "die", "socket", "node"):
        show.add_argument(
            f"--per-{domain}",
            dest="domain",
            action="store_const",
            const=domain,
            help=f"the CPUs of each {domain} added up (with -a or -C)",
        )
    show.add_argument("--metric-only", action="store_true", help="the metrics alone, a column for each")
    show.add_argument("--table", action="store_true", help="with -r: the time of each run")
    show.add_argument("--per-thread", action="store_true", help="each thread by itself (with -p, -t or -a)")
    show.add_argument("-x", "--field-separator", metavar="SEP", help="fields separated by SEP instead of a table")
    show.add_argument("-j", "--json", action="store_true", help="a JSON object for each count")
    show.add_argument("--json-output", dest="json", action="store_true", help=argparse.SUPPRESS)
    show.add_argument("-o", "--output", metavar="FILE", help="write to FILE; NAME.insitu: record a session")
    show.add_argument("--append", action="store_true", help="append to FILE")
    show.add_argument("--log-fd", type=count, metavar="N", help="write to this descriptor")
    show.add_argument("--summary", action="store_true", help="with -I: the totals at the end, too")
    show.add_argument("-B", "--big-num", action="store_true", default=True, help="thousands separators (default)")
    show.add_argument("--no-big-num", dest="big_num", action="store_false", help="no thousands separators")
    show.add_argument("-v", "--verbose", action="store_true", help="how events were opened, and what was read")
    show.add_argument("-q", "--quiet", action="store_true", help="no notes on standard error")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="run this command and count")


class _Filter(argparse.Action):
    """Belongs to the -e before it, by number."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        if not namespace.event:
            parser.error("--filter belongs after the -e whose tracepoints it restricts")
        namespace.filters = {**namespace.filters, len(namespace.event) - 1: value}


def _delay(text: str) -> int:
    """Milliseconds; -1 stands for later."""
    return -1 if text == "-1" else count(text)


def run(args: argparse.Namespace) -> int:
    if args.event == ["list"]:
        from insitu.record.event_names import listed_events

        print("\n".join([*listed_events(), "CATEGORY:NAME  a tracepoint: insitu trace -l 'tracepoint:*' lists them"]))
        return 0
    if args.metrics == ["list"]:
        from insitu.record.count_metrics import METRICS

        for name, (events, said) in METRICS.items():
            print(f"{name:<15}  {said}\n{'':17}{events}")
        return 0
    if args.compare is not None:
        from insitu.commands.stat_compare import compare

        return compare(args)
    from insitu.commands.stat_run import stat

    return stat(args)
