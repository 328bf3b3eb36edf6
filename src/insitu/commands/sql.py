"""Query a recording in SQL (DuckDB's dialect). Without QUERY: a prompt, or a query from standard input.

Tables: sample, stack, frame, thread, mapping, lost, and whatever else the session holds; .tables at the prompt
lists them with their columns, docs/session-format.md explains them.

examples:
  insitu sql run.insitu "select event, count(*), sum(weight) from sample group by event"
  insitu sql run.insitu "select comm, count(*) n from sample join thread using (tid) group by comm order by n desc"
  insitu sql run.insitu --format csv "from frame" > frames.csv
  insitu sql "from lost"                                 the last recording in this directory
  insitu sql run.insitu                                  a prompt
"""

import argparse
from typing import TYPE_CHECKING

from insitu.commands._options import chosen_run, format_option, json_option

if TYPE_CHECKING:
    from insitu.session.query import Database

_PROMPT = "insitu> "
_TABLES = """
    select if(schema_name = 'main', '', schema_name || '.') || table_name as "table",
           string_agg(column_name, ', ' order by column_index) as columns
    from duckdb_columns() where not internal group by all order by 1;"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_path",
        nargs="?",
        metavar="RUN",
        help="session, perf.data or folded stacks (default: the newest of profile.insitu and trace.insitu here)",
    )
    parser.add_argument("query", nargs="?", metavar="QUERY", help="one SQL statement (default: a prompt)")
    format_option(
        parser, ("table", "csv", "tsv", "json"), "how to print rows (default: table on a terminal, tsv in a pipe)"
    )
    json_option(parser, "the same as --format json")


def run(args: argparse.Namespace) -> int:
    import sys

    from insitu.convert.open import open_session

    form = args.format or ("json" if args.json else "table" if sys.stdout.isatty() else "tsv")
    path, query = args.run_path, args.query
    if query is None and path is not None and _is_statement(path):
        path, query = None, path
    with open_session(chosen_run(path)) as session:
        if query is not None:
            _print_rows(session.database, query, form)
            return 0
        if sys.stdin.isatty():
            return _prompt(session.database, form)
        _print_rows(session.database, sys.stdin.read(), form)
        return 0


def _is_statement(word: str) -> bool:
    """Whether a word alone is QUERY, not RUN: no file has this name, and SQL has blanks in it."""
    import os

    return " " in word.strip() and not os.path.exists(word)  # noqa: PTH110


def _print_rows(database: "Database", query: str, form: str) -> None:
    from insitu.views.rows import print_rows

    print_rows(database.sql(query), form)


def _prompt(database: "Database", form: str) -> int:
    """Read statements, each up to its semicolon, until end of input; an error does not end it."""
    import contextlib
    import readline

    from insitu.errors import InsituError

    words = database.words()
    readline.set_completer(lambda text, state: ([w for w in words if w.startswith(text)] + [None])[state])
    readline.parse_and_bind("tab: complete")
    print("Statements end with ;   .tables lists tables   Ctrl-D leaves")
    statement = ""
    while True:
        try:
            line = input(_PROMPT if not statement else "   ...> ")
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print()
            statement = ""
            continue
        if not statement and line.strip() in (".quit", ".exit", "quit", "exit"):
            return 0
        if not statement and line.strip() == ".tables":
            line = _TABLES
        statement = f"{statement}\n{line}".strip()
        if not statement.endswith(";"):
            continue
        with contextlib.suppress(BrokenPipeError):
            try:
                _print_rows(database, statement, form)
            except InsituError as error:
                print(f"error: {error}")
            except KeyboardInterrupt:
                print("interrupted")
        statement = ""
