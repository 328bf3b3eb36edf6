"""How tests are spread over pytest-xdist's processes: what shares fixtures runs in one process, the longest first.

A module's tests share its fixtures, and the lab's guests are shared by all tests that want that kernel, so that each
of these is a group of its own. The groups are handed out in this order, so that the short ones fill the end.
"""

import signal
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has commands that it starts in the background ignore it, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_TESTS = Path(__file__).parent
_DIRECTORIES = ("lab", "browser", "live", "unit")
_KERNELS = ("6.1", "6.12")
# Of the lab. A group that takes long is worth a place here: `make test` prints the slowest tests.
_LONGEST = (
    *("test_trace_tools-6.12", "guest-6.12", "guest-6.1", "test_trace_tools-6.1"),
    *("test_failures", "test_compare", "test_tools"),
)


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups in its own
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name each test's group, and sort the groups."""
    if not getattr(config.option, "loadgroup", False):
        return
    groups = {item: _group(item) for item in items}
    for item, (_, group) in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _order(*groups[item]))


def _group(item: pytest.Item) -> tuple[str, str]:
    """A test's directory, and the name of its group."""
    path = item.path.relative_to(_TESTS)
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    for fixture, value in parameters.items():
        if value in _KERNELS:
            return path.parts[0], f"{path.stem if fixture == 'traced' else 'guest'}-{value}"
    return path.parts[0], path.stem if path.parts[0] == "lab" else "/".join((path.parts[0], path.stem))


def _order(directory: str, group: str) -> tuple[int, int, str]:
    number = _DIRECTORIES.index(directory) if directory in _DIRECTORIES else len(_DIRECTORIES)
    return number, _LONGEST.index(group) if group in _LONGEST else len(_LONGEST), group
