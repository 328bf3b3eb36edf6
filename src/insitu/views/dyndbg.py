"""Sites of dynamic debug as text, and the messages of the kernel log that are theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from insitu.kernel.dynamic_debug import Site
from insitu.terminal_text import printable
from insitu.views.quantity import rest
from insitu.views.table import Column, Table
from insitu.views.terminal import Block

__all__ = ["SiteMessages", "site_blocks"]

# A conversion of the kernel's printk(): %pISpc and its like, too.
_CONVERSION: Final = re.compile(r"%(?:%|[-+ #0]*[\d*]*(?:\.[\d*]+)?(?:hh|h|ll|l|z|t|j|L)?(?:p[A-Za-z0-9]*|[a-zA-Z]))")
_LEAST_LITERAL: Final = 3


def site_blocks(sites: Sequence[Site], limit: int = 0) -> Iterator[Block]:
    """A line for each site: where it is, its flags and its format."""
    columns = [Column(name, "left") for name in ("flags", "site", "module", "function", "format")]
    rows = []
    for site in sites[: limit or None]:
        texts = (f"={site.flags}", site.place, site.module, site.function, site.format.strip())
        rows.append([(printable(text), "") for text in texts])
    yield Table(columns, rows)
    if limit and len(sites) > limit:
        yield [(rest(len(sites) - limit, "site"), "dim")]


class SiteMessages:
    """Finds the site of a message by its format. Of formats that fit, the one with most text of its own counts."""

    def __init__(self, sites: Sequence[Site]) -> None:
        made = []
        for site in sites:
            pieces = [piece for piece in _CONVERSION.sub("\0", site.format).strip().split("\0") if piece.strip()]
            own = sum(map(len, pieces))
            if own >= _LEAST_LITERAL:
                made.append((own, pieces, site))
        self._sites = sorted(made, key=lambda each: -each[0])

    def site_of(self, message: str) -> Site | None:
        """The site that has logged a message; None: none of these."""
        for _, pieces, site in self._sites:
            at = 0
            for piece in pieces:
                found = message.find(piece, at)
                if found < 0:
                    break
                at = found + len(piece)
            else:
                return site
        return None
