"""What ? shows."""

from typing import Final

from insitu.views.top.columns import COLUMNS

__all__ = ["HELP"]

_KEYS: Final = """\
insitu top                                              any key closes this
up down           choose a row; pages with PgUp and PgDn
Enter             process > threads > functions > stacks       Esc  back
f                 functions of the machine or the process
c o s t           in functions: on CPU, off CPU (waits); sort by self, by total
space             freeze, and go on
left right        one tick back or forward; ten with Shift
/                 show processes by name or pid; Esc shows all
r                 save what is shown, of the last minutes, into a session
R                 reverse the order                            q    quit

"""


def _columns() -> str:
    return "\n".join(f"{column.key or ' '}   {column.title:<8} {column.doc}" for column in COLUMNS)


HELP: Final = f"{_KEYS}sort by\n{_columns()}"
