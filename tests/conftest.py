"""How tests are spread over pytest-xdist's processes: what shares fixtures runs in one process, the longest first.

A module's tests share its fixtures, and the lab's guests are shared by all tests that want that kernel, so that each
of these is a group of its own. The groups are handed out in this order, so that the short ones fill the end.
"""

import os
import re
import signal
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has commands that it starts in the background ignore it, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGQUIT, signal.SIGHUP):  # nohup(1) has the latter ignored
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

for _name in ("COLUMNS", "LINES"):  # Python's readline sets them, which pytest imports: tables would be cut
    os.environ.pop(_name, None)
    os.unsetenv(_name)  # set since Python started, they are not in os.environ

_DIRECTORIES = ("lab", "browser", "live", "unit")
# Of the lab. A group that takes long is worth a place here: `make test` prints the slowest tests.
_LONGEST = (
    *("test_trace_tools-6.12", "guest-6.12", "guest-6.1", "test_trace_tools-6.1"),
    *("test_failures", "test_compare", "test_tools"),
)
_BOOTED_BY_MODULE = ("test_trace_tools",)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests by group; each of xdist's processes has to do it."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _order(*_group(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out groups. xdist's own --dist loadgroup writes them into test ids, which pytest 9.2 no longer lets it."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "/".join(_group(nodeid))

    return Groups(config, log) if config.getvalue("dist") == "loadscope" else None


def _group(nodeid: str) -> tuple[str, str]:
    """A test's directory, and the name of its group."""
    match = re.match(r"(?:tests/)?(\w+)/(?:.*/)?(\w+)\.py::\w+(?:\[(6\.\d+)[-\]])?", nodeid)
    if not match:
        return "", nodeid
    directory, module, kernel = match.groups()
    if directory != "lab" or not kernel:
        return directory, module
    return directory, f"{module if module in _BOOTED_BY_MODULE else 'guest'}-{kernel}"


def _order(directory: str, group: str) -> tuple[int, int, str]:
    number = _DIRECTORIES.index(directory) if directory in _DIRECTORIES else len(_DIRECTORIES)
    return number, _LONGEST.index(group) if group in _LONGEST else len(_LONGEST), group
