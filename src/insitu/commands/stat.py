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

from insitu.commands import Properties
from insitu.commands._options import Gather, count, pid_list, positive

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    starts_programs=True,
    words_follow=True,
    peer_options={
        "--topdown": "top-down level 1 is in the default events where the PMU has it",
        "-M": "metrics are derived from the events that are counted",
        "--metrics": "metrics are derived from the events that are counted",
        "--control": "use -D, or -p on a running process",
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
    when.add_argument("-D", "--delay", type=count, default=0, metavar="MS", help="start counting after so many ms")
    when.add_argument(
        "-I", "--interval-print", type=positive, metavar="MS", help="print what was counted every MS ms"
    )
    when.add_argument("--interval-count", type=positive, metavar="N", help="end after N intervals")
    when.add_argument("--timeout", type=positive, metavar="MS", help="end after so many ms (SIGTERM to the command)")
    when.add_argument("-r", "--repeat", type=positive, metavar="N", help="run the command N times: means and spread")

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
    show.add_argument("--per-thread", action="store_true", help="each thread by itself (with -p or -t)")
    show.add_argument("-x", "--field-separator", metavar="SEP", help="fields separated by SEP instead of a table")
    show.add_argument("-j", "--json", action="store_true", help="a JSON object for each count")
    show.add_argument("--json-output", dest="json", action="store_true", help=argparse.SUPPRESS)
    show.add_argument("-o", "--output", metavar="FILE", help="write to FILE; NAME.insitu: record a session")
    show.add_argument("--append", action="store_true", help="append to FILE")
    show.add_argument("--log-fd", type=count, metavar="N", help="write to this descriptor")
    show.add_argument("--summary", action="store_true", help="with -I: the totals at the end, too")
    show.add_argument("-B", "--big-num", action="store_true", default=True, help="thousands separators (default)")
    show.add_argument("--no-big-num", dest="big_num", action="store_false", help="no thousands separators")
    show.add_argument("-q", "--quiet", action="store_true", help="no notes on standard error")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="run this command and count")


def run(args: argparse.Namespace) -> int:
    if args.event == ["list"]:
        from insitu.record.event_names import listed_events

        print("\n".join([*listed_events(), "CATEGORY:NAME  a tracepoint: insitu trace -l 'tracepoint:*' lists them"]))
        return 0
    if args.compare is not None:
        from insitu.commands.stat_compare import compare

        return compare(args)
    from insitu.commands.stat_run import stat

    return stat(args)
