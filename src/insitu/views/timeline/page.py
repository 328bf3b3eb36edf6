"""The page of a timeline, with its data inside, or without, for a server that has it."""

from insitu.errors import InsituError
from insitu.views.page import data_page, document_page
from insitu.views.timeline.tables import MOST_ROWS, Timeline

__all__ = ["timeline_html", "timeline_shell"]


def timeline_html(made: Timeline) -> str:
    """The page in one file. Raises InsituError when it has more rows than a browser takes."""
    if made.rows > MOST_ROWS:
        raise InsituError(
            f"{made.rows:,} rows: a page takes {MOST_ROWS:,}", remedy="show a part with --range, or all with --serve"
        )
    return data_page(made.meta, made.arrays)


def timeline_shell(title: str) -> str:
    """The page that asks its server for the data."""
    return document_page("live.html", ("timeline",), title=title, connects=True)
