"""What a recording lost, in one line: every view that is built on a recording with losses says so."""

from collections.abc import Iterable, Mapping

from insitu.session.profile import Lost

__all__ = ["loss_text", "lost_by_source"]


def lost_by_source(lost: Iterable[Lost]) -> dict[str, int]:
    """Lost records by what lost them, in the order of their first loss."""
    sums: dict[str, int] = {}
    for record in lost:
        sums[record.source] = sums.get(record.source, 0) + record.count
    return sums


def loss_text(lost: Mapping[str, int]) -> str:
    """One line for people, "" when nothing was lost."""
    if not lost:
        return ""
    sources = ", ".join(f"{source}: {count}" for source, count in lost.items())
    return f"LOST {sum(lost.values())} records ({sources}); shares are of what was kept"
