"""Which kernels the longest tests with guests run on."""

import os
from typing import Final

__all__ = ["LONG_TESTS"]

LONG_TESTS: Final = ["6.1", "6.12"] if os.environ.get("INSITU_ALL_KERNELS") else ["6.12"]
"""Both with `make test-kernels`: an emulated guest takes minutes for each of them."""
