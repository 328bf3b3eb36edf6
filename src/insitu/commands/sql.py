"""Query recordings in SQL (DuckDB's dialect). Without QUERY: a prompt, or a query from standard input.

RUN is a session, a perf.data file or folded stacks. With several, each table has a column "session" first.
".tables" as QUERY (or at the prompt) lists the tables and views, ".tables NAME" the columns of one (.schema does the
same; .help lists what there is); "-" is a query from standard input.
docs/session-format.md and docs/sql.md explain them. Of several statements (SELECT ...; SELECT ...) the rows of each
are printed: as JSON an array a line, else with an empty line between.

examples:
  insitu sql run.insitu "from thread_samples order by samples desc limit 10"
  insitu sql run.insitu "from function_samples order by self_samples desc limit 20"
  insitu sql run.insitu --format csv "from frame" > frames.csv
  insitu sql before.insitu after.insitu "select session, count(*) n from sample group by session"
  insitu sql run.insitu --param name=vfs_read "from function_samples where function = $name"
  insitu sql "from lost"                                 the last recording in this directory
  insitu sql run.insitu                                  a prompt
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from insitu.commands._options import chosen_run, format_option, json_option

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from insitu.session.query import Database
    from insitu.session.reader import Session

__all__ = ["arguments", "run"]

_PROMPT = "insitu> "
_COMMAND = r"\s*\.[a-z]+(?:[\s;]|$)"
_HELP = """\
.tables         the tables and views, with their rows and what a row is
.tables NAME    the columns of one, with their units and what they say
.schema [NAME]  the same
.help           this list
.quit           leave the prompt (also Ctrl-D)
All else is SQL in DuckDB's dialect: from sample limit 5"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="RUN... QUERY",
        help="sessions, perf.data files or folded stacks (default: the newest of insitu's own here),"
        " then SQL (default: a prompt)",
    )
    format_option(
        parser, ("table", "csv", "tsv", "json"), "how to print rows (default: table on a terminal, tsv in a pipe)"
    )
    json_option(parser, "the same as --format json")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="what $NAME in the query stands for"
    )
    parser.add_argument(
        "--allow-files",
        action="store_true",
        help="let the query read and write any file, and load DuckDB's extensions",
    )


def run(args: argparse.Namespace) -> int:
    import sys
    from contextlib import ExitStack

    from insitu.quick_imports import QuickImports

    with QuickImports():
        import insitu.session.query
        import insitu.session.reader  # noqa: F401 - both are imported later, where others take them from
        from insitu.convert.open import open_session

    form = args.format or ("json" if args.json else "table" if sys.stdout.isatty() else "tsv")
    runs, query = _split(args.words)
    parameters = _parameters(args.param)
    with ExitStack() as stack:
        sessions = [stack.enter_context(open_session(path)) for path in runs or [chosen_run(None)]]
        database = sessions[0].database
        if len(sessions) > 1 or args.allow_files:
            database = stack.enter_context(_opened(sessions, args.allow_files))
        if query is not None:
            _print_rows(database, query, form, parameters)
            return 0
        if sys.stdin.isatty():
            return _prompt(database, form, parameters)
        for number, piece in enumerate(_pieces(sys.stdin.read())):
            if number and form != "json":
                print()
            _print_rows(database, piece, form, parameters)
        return 0


def _split(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Runs and the query: the last word is one if no file has its name and it does not look like a file's."""
    import os
    import re

    from insitu.errors import InsituError

    if not words:
        return [], None
    *runs, last = words
    if not last.strip(" ;"):
        raise InsituError("the query is empty", remedy="see insitu sql --help", status=2)
    if last == "-":
        return runs, None
    named = any(character in last for character in "./")  # as files are; .tables is a command
    is_command = re.match(_COMMAND, last) is not None
    looks_like_query = is_command or " " in last.strip() or (bool(runs) and not named)
    if looks_like_query and not os.path.exists(last):  # noqa: PTH110 - --help imports this
        return runs, last
    return [*runs, last], None


def _pieces(text: str) -> list[str]:
    """The commands in a text, a line each, and the statements before, between and after them."""
    import re

    pieces, statements = [], ""
    for line in text.splitlines(keepends=True):
        if re.match(_COMMAND, line) and statements.rstrip()[-1:] in ("", ";"):
            pieces += [statements, line]
            statements = ""
        else:
            statements += line
    return [piece for piece in (*pieces, statements) if piece.strip()] or [text]


def _parameters(given: Sequence[str]) -> dict[str, str]:
    from insitu.errors import InsituError

    found = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not equals or not name.isidentifier():
            raise InsituError(f"--param {entry!r} is not NAME=VALUE", remedy="--param pid=123", status=2)
        found[name] = value
    return found


def _opened(sessions: "Sequence[Session]", allow_files: bool) -> "AbstractContextManager[Database]":
    from contextlib import closing

    from insitu.session.query import Database

    return closing(
        Database(
            *(session.path for session in sessions),
            called=[session.name for session in sessions],
            allow_files=allow_files,
        )
    )


def _print_rows(database: "Database", query: str, form: str, parameters: Mapping[str, str]) -> None:
    from insitu.errors import InsituError
    from insitu.valid_text import valid_text
    from insitu.views.rows import print_listing, print_rows
    from insitu.views.tables import column_kinds, listed_tables

    for text in (query, *parameters.values()):
        if valid_text(text) != text:
            raise InsituError(f"{text!r}: not UTF-8", status=2)
    command, *tables = query.strip().rstrip(";").split() or [""]
    if command in (".tables", ".schema"):
        print_listing(listed_tables(database, tables[0] if tables else ""), form)
        return
    if command == ".help":
        print(_HELP)
        return
    if command.startswith("."):
        raise InsituError(f"no command {command}", remedy=".help lists them", status=2)
    statements = database.statements(query)
    if not statements:
        raise InsituError("the query is empty", remedy="see insitu sql --help", status=2)
    for number, (statement, names) in enumerate(statements):
        if missing := sorted(names - set(parameters)):
            raise InsituError(f"no value for ${missing[0]}", remedy=f"--param {missing[0]}=VALUE")
        frame = database.sql(statement, {name: parameters[name] for name in names})
        if number and form != "json" and frame.width:
            print()
        if frame.width or len(statements) == 1:
            print_rows(frame, form, column_kinds(database, frame) if form == "table" else None)


def _prompt(database: "Database", form: str, parameters: Mapping[str, str]) -> int:
    """Read statements, each up to its semicolon, until end of input; an error does not end it."""
    import contextlib
    import readline

    from insitu.errors import InsituError

    words = [word for word in database.words() if word.isprintable()]  # readline writes them itself
    readline.set_completer(lambda text, state: ([w for w in words if w.startswith(text)] + [None])[state])
    readline.parse_and_bind("tab: complete")
    print("Statements end with ;   .tables lists tables   .help   Ctrl-D leaves")
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
        if not statement and line.strip().startswith("."):
            line = f"{line.strip().rstrip(';')};"
        statement = f"{statement}\n{line}".strip()
        if not statement.endswith(";"):
            continue
        with contextlib.suppress(BrokenPipeError):
            try:
                _print_rows(database, statement, form, parameters)
            except InsituError as error:
                print(f"error: {error.rendered}")
            except KeyboardInterrupt:
                print("interrupted")
        statement = ""
