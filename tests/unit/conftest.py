"""What unit tests share."""

from collections.abc import Callable

import pytest

from insitu.session.weighted_stacks import WeightedStacks

from .stacks import recorded


@pytest.fixture(scope="session")
def profile_of() -> Callable[..., WeightedStacks]:
    """The function that makes weighted stacks of rows (command, thread id, stack, samples)."""
    return recorded
