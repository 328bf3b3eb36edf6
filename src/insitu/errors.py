"""What a user is told when something cannot be done: what, why and the remedy, in one line."""

__all__ = ["InsituError"]


class InsituError(Exception):
    """A failure to show to the user as one line, never as a traceback.

    The message says what failed and why; ``remedy``, when given, says what to do about it.
    ``status`` is the exit status of the command (1 unless said otherwise; 2 is for wrong usage).
    """

    def __init__(self, message: str, *, remedy: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.status = status

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.remedy})" if self.remedy else message
