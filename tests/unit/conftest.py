"""What unit tests share."""

from collections.abc import Callable

import pytest
from hypothesis import settings

from insitu.session.weighted_stacks import WeightedStacks

from .stacks import recorded

# How long an example takes says nothing about it on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def profile_of() -> Callable[..., WeightedStacks]:
    """The function that makes weighted stacks of rows (command, thread id, stack, samples)."""
    return recorded
