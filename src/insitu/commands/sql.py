"""Ask a recording in SQL (DuckDB's dialect). Without a query: a prompt, or queries from standard input.

Tables: sample, stack, frame, thread, mapping, lost, and what else the session holds; .tables lists them with
their columns at the prompt. docs/session-format.md explains them.

examples:
  insitu sql run.insitu "select event, count(*), sum(weight) from sample group by event"
  insitu sql run.insitu "select comm, count(*) n from sample join thread using (tid) group by comm order by n desc"
  insitu sql run.insitu --format csv "from frame" > frames.csv
  insitu sql run.insitu
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

_PROMPT = "insitu> "
_TABLES = """
    select if(schema_name = 'main', '', schema_name || '.') || table_name as "table",
           string_agg(column_name, ', ' order by column_index) as columns
    from duckdb_columns() where not internal group by all order by 1;"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", metavar="RUN", help="session, perf.data or folded stacks")
    parser.add_argument("query", nargs="?", metavar="QUERY", help="one SQL statement (default: ask at a prompt)")
    parser.add_argument(
        "--format",
        choices=("table", "csv", "tsv", "json"),
        help="how to print rows (default: table in a terminal, tsv in a pipe)",
    )


def run(args: argparse.Namespace) -> int:
    import sys

    from insitu.convert.open import open_session
    from insitu.session.query import connect

    form = args.format or ("table" if sys.stdout.isatty() else "tsv")
    with open_session(args.session) as session, connect(session.path) as connection:
        if args.query is not None:
            _answer(connection, args.query, form)
            return 0
        if sys.stdin.isatty():
            return _prompt(connection, form)
        _answer(connection, sys.stdin.read(), form)
        return 0


def _answer(connection: "duckdb.DuckDBPyConnection", query: str, form: str) -> None:
    from insitu.session.query import run as run_query
    from insitu.views.rows import print_rows

    print_rows(run_query(connection, query), form)


def _prompt(connection: "duckdb.DuckDBPyConnection", form: str) -> int:
    """Read statements, each up to its semicolon, until end of input; a failing one is reported and forgotten."""
    import contextlib
    import readline

    from insitu.errors import InsituError

    words = [row[0] for row in connection.execute("select distinct column_name from duckdb_columns()").fetchall()]
    words += [row[0] for row in connection.execute("select table_name from information_schema.tables").fetchall()]
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
                _answer(connection, statement, form)
            except InsituError as error:
                print(f"error: {error}")
            except KeyboardInterrupt:
                print("interrupted")
        statement = ""
