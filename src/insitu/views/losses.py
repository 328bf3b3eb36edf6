"""What a recording lost, in one line: every view of a recording with losses shows it."""

from collections.abc import Mapping

from insitu.plurals import counted

__all__ = ["loss_text"]


def loss_text(lost: Mapping[str, int]) -> str:
    """One line from lost records by source, "" when nothing was lost."""
    if not lost:
        return ""
    sources = ", ".join(f"{source}: {count}" for source, count in lost.items())
    total = sum(lost.values())
    return f"LOST {counted(total, 'record')} ({sources}); percentages are of what was kept"
