"""Latencies of a session's table: their distribution, and the longest with what they came with."""

from collections.abc import Iterator
from typing import Any, Final

from insitu.session.reader import Session
from insitu.session.schema import quoted_table
from insitu.views.quantity import duration, percent
from insitu.views.table import Cell, Column, Table
from insitu.views.terminal import Block, heat

__all__ = ["blocks", "document"]

_PERCENTILES: Final = (50, 90, 99, 99.9)
_BAR: Final = 40  # columns


def document(session: Session, table: str, *, limit: int = 10) -> dict[str, Any]:
    """Count, least, mean, percentiles and most; the number in each power of two of ns; the longest (``limit``, 0:
    all) with their time since the start, CPU and fields. All times are in ns."""
    source = quoted_table(table)
    asked = ", ".join(f"quantile_disc(latency_ns, {each / 100})" for each in _PERCENTILES)
    count, least, mean, most, *found = session.sql(
        f"select count(*), min(latency_ns), avg(latency_ns), max(latency_ns), {asked} from {source}"
    ).rows()[0]
    cells = session.sql(
        f"select case when latency_ns > 1 then floor(log2(latency_ns))::int else 0 end as cell, count(*) "
        f"from {source} group by cell order by cell"
    ).rows()
    longest = session.sql(f"select * from {source} order by latency_ns desc limit {limit or count}").to_dicts()
    for row in longest:
        row["ts_ns"] -= session.manifest.start_ns
        row.pop("utid", None)
        row.pop("stack", None)
    return {
        "count": count,
        "least_ns": least,
        "mean_ns": round(mean) if count else None,
        "most_ns": most,
        "percentiles_ns": dict(zip(map(str, _PERCENTILES), found, strict=True)),
        "histogram": [{"from_ns": 1 << cell if cell else 0, "to_ns": 2 << cell, "count": n} for cell, n in cells],
        "longest": longest,
    }


def blocks(found: dict[str, Any], title: str) -> Iterator[Block]:
    """The ``document`` as tables."""
    if not found["count"]:
        yield [(f"# {title}: no pair of events was seen", "bold")]
        return
    percentiles = ", ".join(f"p{name} {duration(value)}" for name, value in found["percentiles_ns"].items())
    yield [(f"# {title}: {found['count']:,} latencies", "bold")]
    yield [
        (
            f"# least {duration(found['least_ns'])}, mean {duration(found['mean_ns'])}, {percentiles}, "
            f"most {duration(found['most_ns'])}",
            "",
        )
    ]
    tallest = max(cell["count"] for cell in found["histogram"])
    rows: list[list[Cell]] = []
    for cell in found["histogram"]:
        share = percent(cell["count"], found["count"])
        bar = "#" * max(1, cell["count"] * _BAR // tallest)
        limits = (duration(cell["from_ns"]), duration(cell["to_ns"]))
        rows.append(
            [*((text, "") for text in limits), (f"{cell['count']:,}", ""), (f"{share:.1f}", heat(share)), (bar, "")]
        )
    yield Table([Column("from"), Column("below"), Column("count"), Column("%"), Column("", "left", spare=True)], rows)
    yield []
    yield [("# the longest", "bold")]
    names = [name for name in found["longest"][0] if name not in ("ts_ns", "latency_ns", "cpu")]
    columns = [Column("s"), Column("latency"), Column("cpu"), *(Column(name, "left") for name in names)]
    yield Table(
        columns,
        [
            [
                (f"{row['ts_ns'] / 1e9:.6f}", ""),
                (duration(row["latency_ns"]), ""),
                (str(row["cpu"]), ""),
                *((str(row[name]), "") for name in names),
            ]
            for row in found["longest"]
        ],
    )
