"""The one exception for what a user is to see: what failed and why, and the remedy, in one line."""

from collections.abc import Iterable

__all__ = ["InsituError", "damaged_recording", "nearest", "with_remedy"]


def nearest(name: str, candidates: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the candidate most like ``name``, or nothing."""
    import difflib

    matches = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def with_remedy(message: str, remedy: str) -> str:
    """Both on one line: the remedy in parentheses, or after a semicolon where either has parentheses of its own."""
    if not remedy:
        return message
    return f"{message}; {remedy}" if message.endswith(")") or "(" in remedy else f"{message} ({remedy})"


class InsituError(Exception):
    """A failure to show to the user as one line, never as a traceback.

    ``message`` says what failed and why; ``remedy``, when given, what to do about it.
    ``status`` is the exit status of the command (1 unless said otherwise; 2 is for wrong usage).
    """

    def __init__(self, message: str, *, remedy: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.status = status

    @property
    def rendered(self) -> str:
        """What is shown. Of several lines where its location is shown too, as in a script."""
        return str(self)

    def __str__(self) -> str:
        return with_remedy(self.message, self.remedy)


def damaged_recording(where: object, what: str) -> InsituError:
    """What a file of a session, or ``where`` in general, says that no writer of ours wrote."""
    return InsituError(f"{where}: damaged: {what}", remedy="copy the session whole again, or record anew")
