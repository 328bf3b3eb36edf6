"""Draw who calls whom: functions as boxes, calls as arrows, coloured by their share of all samples.

Writes SVG (through graphviz) or DOT, as the name after -o says; DOT to standard output without -o.

examples:
  insitu callgraph run.insitu -o run.svg
  insitu callgraph run.insitu -n 2 -e 1 -o run.svg       only what matters
  insitu callgraph run.insitu --comm nginx | dot -Tpdf > nginx.pdf
"""

import argparse

from insitu.commands._numbers import count, percent

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_path", metavar="RUN", help="session, perf.data or folded stacks")
    parser.add_argument("-o", "--output", metavar="FILE", help="FILE.svg or FILE.dot")
    parser.add_argument(
        "-n",
        "--node-thres",
        type=percent,
        default=0.5,
        metavar="P",
        help="leave out functions below P per cent (0.5)",
    )
    parser.add_argument(
        "-e", "--edge-thres", type=percent, default=0.1, metavar="P", help="leave out calls below P per cent (0.1)"
    )
    parser.add_argument("--limit", type=count, default=150, metavar="N", help="most functions shown, 0 for all (150)")
    parser.add_argument("--weight", choices=("samples", "weight"), help="add up samples, or time or events")
    parser.add_argument("--thread", type=int, metavar="TID", help="only this thread")
    parser.add_argument("--comm", metavar="NAME", help="only threads of this name")
    parser.add_argument("--event", metavar="NAME", help="this event (else the first that has samples)")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from insitu.convert.open import load_profile
    from insitu.errors import InsituError
    from insitu.views.callgraph import call_graph, to_dot, to_svg
    from insitu.views.losses import loss_text, lost_by_source
    from insitu.views.output import write_file, write_stdout
    from insitu.views.selection import selected, value_of

    output = Path(args.output) if args.output else None
    if output is not None and output.suffix not in (".svg", ".dot", ".gv"):
        raise InsituError(f"{output}: neither .svg nor .dot", remedy="-o FILE.svg or -o FILE.dot", status=2)
    profile = selected(load_profile(args.run_path), event=args.event, tid=args.thread, comm=args.comm)
    tree = profile.tree(value=value_of(profile, args.weight))
    if not tree.total[0]:
        raise InsituError(f"{args.run_path}: no samples in it")
    graph = call_graph(tree, node_percent=args.node_thres, edge_percent=args.edge_thres, limit=args.limit)
    title = f"{Path(args.run_path).name}: {len(profile)} samples of {profile.events[0]}"
    lost = loss_text(lost_by_source(profile.lost))
    dot = to_dot(graph, title=f"{title}\n{lost}" if lost else title)
    data = to_svg(dot) if output is not None and output.suffix == ".svg" else dot.encode(errors="backslashreplace")
    if output is None:
        write_stdout(data)
    else:
        write_file(output, data)
    return 0
