"""Draw who calls whom: functions as boxes, calls as arrows, coloured by their share of all samples.

Writes SVG (made by graphviz) or DOT, by the suffix of -o; without -o DOT to standard output.

examples:
  insitu callgraph run.insitu -o run.svg
  insitu callgraph --node-thres 2 --edge-thres 1 -o run.svg    of profile.insitu, only what matters
  insitu callgraph run.insitu -n nginx | dot -Tpdf > nginx.pdf
"""

import argparse

from insitu.commands._options import (
    addresses_option,
    chosen_run,
    limit_option,
    output_option,
    percent,
    range_option,
    require_stacks,
    run_argument,
    selection,
    selection_options,
    unit_option,
    unit_value,
)

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    output_option(parser, "FILE.svg or FILE.dot")
    parser.add_argument(
        "--node-thres", type=percent, default=0.5, metavar="P", help="omit functions below P %% (default %(default)s)"
    )
    parser.add_argument(
        "--edge-thres", type=percent, default=0.1, metavar="P", help="omit calls below P %% (default %(default)s)"
    )
    limit_option(parser, 150, "functions at most")
    addresses_option(parser)
    unit_option(parser)
    selection_options(parser)
    range_option(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from insitu.convert.open import load_stacks
    from insitu.errors import InsituError
    from insitu.views.call_tree import call_tree
    from insitu.views.callgraph import call_graph, to_dot, to_svg
    from insitu.views.losses import loss_text
    from insitu.views.output import write_file, write_stdout
    from insitu.views.quantity import amount
    from insitu.views.time_range import check_range

    output = Path(args.output) if args.output not in (None, "-") else None
    if output is not None and output.suffix not in (".svg", ".dot", ".gv"):
        raise InsituError(f"{output}: neither .svg nor .dot", remedy="-o FILE.svg or -o FILE.dot", status=2)
    path = chosen_run(args.run_path)
    stacks = load_stacks(path, selection(args))
    if args.range:
        check_range(stacks, args.range)
    require_stacks(path, stacks)
    tree = call_tree(stacks, value=unit_value(stacks, args.unit), addresses=args.addresses)
    if not tree.total[0]:
        raise InsituError(f"{path}: no {stacks.counted} in it")
    graph = call_graph(tree, node_percent=args.node_thres, edge_percent=args.edge_thres, limit=args.limit)
    title = f"{Path(path).name}: {amount(stacks.total_count, stacks.counted)} of {stacks.event}"
    lost = loss_text(stacks.losses)
    dot = to_dot(graph, title=title, lost=lost)
    data = to_svg(dot) if output is not None and output.suffix == ".svg" else dot.encode(errors="backslashreplace")
    if output is None:
        write_stdout(data)
    else:
        write_file(output, data)
    return 0
