"""The one exception for what a user is to see: what failed and why, and the remedy, in one line."""

__all__ = ["InsituError"]


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
        """What is shown. Of several lines where the place of the error is shown too, as in a script."""
        return str(self)

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message
