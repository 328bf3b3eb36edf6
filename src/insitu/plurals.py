"""Nouns as their number wants them: "1 sample", "2 samples"."""

__all__ = ["counted", "plural"]


def plural(count: int, noun: str, many: str = "") -> str:
    """``noun`` where ``count`` is 1, else ``many`` (default: with an s); the number itself is the caller's."""
    return noun if count == 1 else many or f"{noun}s"


def counted(count: int, noun: str, many: str = "") -> str:
    """The number and the noun: "1 sample", "1080 samples"."""
    return f"{count} {plural(count, noun, many)}"
