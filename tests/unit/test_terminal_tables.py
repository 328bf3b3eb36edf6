"""Tables on terminals of some widths."""

import io
import re

from insitu.views.table import Column, Table
from insitu.views.terminal import Screen


def _lines(table: Table, width: int) -> list[str]:
    out = io.StringIO()
    Screen(out, width).write([table])
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in out.getvalue().splitlines()]


def test_spare_columns_are_left_out_the_first_first_before_names_become_illegible() -> None:
    columns = [Column("pid"), Column("kind", spare=True), Column("from", spare=True), Column("file", "left")]
    table = Table(columns, [[("1", ""), ("k" * 20, ""), ("f" * 20, ""), ("/etc/" + "x" * 60, "")]])
    titles = {width: _lines(table, width)[0].split() for width in (70, 64, 60, 50)}
    assert titles == {
        70: ["pid", "kind", "from", "file"],
        64: ["pid", "from", "file"],
        60: ["pid", "from", "file"],
        50: ["pid", "file"],
    }
    assert max(len(line) for width in titles for line in _lines(table, width) if width == 60) <= 60
