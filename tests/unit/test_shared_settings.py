"""Settings that the whole machine shares are put back as they were, by their owner or after its end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.kernel import procfs, shared_settings
from insitu.kernel.shared_settings import SharedSettings, restore_left, setting
from insitu.kernel.trace_instance import TraceInstance
from insitu.kernel.tracefs import Tracefs
from insitu.kernel.tracefs_owner import owner_name

FILES = {
    "current_tracer": "nop\n",
    "trace_clock": "local [global] mono\n",
    "set_graph_function": "#### all functions enabled ####\n",
    "set_ftrace_filter": "vfs_read\next4_sync_file [ext4]\n",
    "set_ftrace_pid": "no pid\n",
    "options/function-fork": "0\n",
    "buffer_size_kb": "7 (expanded: 1408)\n",
    "tracing_on": "1\n",
    "trace": "",
}
_KILLED = """
import os, sys
from insitu.kernel import shared_settings
from insitu.kernel.tracefs import Tracefs
from insitu.kernel.tracefs_owner import owner_name
shared_settings._home = lambda make=True: sys.argv[2]
settings = shared_settings.SharedSettings(Tracefs(os.open(sys.argv[1], os.O_PATH)), owner_name() + "-1", "tracing_on")
for word in sys.argv[3:]:
    settings.set(*word.split("="))
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the files that say what was set."""
    made = tmp_path / "home"
    made.mkdir(0o700)
    monkeypatch.setattr(shared_settings, "_home", lambda make=True: str(made))
    return made


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that stands for tracefs; its files return what was written."""
    for name, text in FILES.items():
        path = tmp_path / "tracing" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return tmp_path / "tracing"


@pytest.fixture
def tracefs(directory: Path) -> Iterator[Tracefs]:
    made = Tracefs(os.open(directory, os.O_PATH))
    yield made
    made.close()


def killed(directory: Path, home: Path, *changes: str) -> None:
    """A process makes these changes, and is killed."""
    done = subprocess.run([sys.executable, "-c", _KILLED, directory, home, *changes], stderr=subprocess.PIPE)
    assert done.returncode == -9, done.stderr.decode()


def test_settings_are_read_as_they_can_be_written(tracefs: Tracefs) -> None:
    assert {path: setting(tracefs, path) for path in FILES} == {
        "current_tracer": "nop",
        "trace_clock": "global",
        "set_graph_function": "",
        "set_ftrace_filter": "vfs_read ext4_sync_file",
        "set_ftrace_pid": "",
        "options/function-fork": "0",
        "buffer_size_kb": "1408",
        "tracing_on": "1",
        "trace": "",
    }


def test_the_owner_puts_back_what_was_there_and_leaves_no_file(tracefs: Tracefs, directory: Path, home: Path) -> None:
    settings = SharedSettings(tracefs, f"{owner_name()}-1", "tracing_on")
    for text in ("vfs_open", "vfs_write do_*"):
        settings.set("set_ftrace_filter", text)
    settings.set("trace_clock", "mono")
    (found,) = home.iterdir()
    assert found.stat().st_mode & 0o777 == 0o600
    (directory / "trace_clock").write_text("local global [mono]\n")  # as the kernel shows it
    settings.restore()
    settings.restore()
    assert (directory / "set_ftrace_filter").read_text() == "vfs_read ext4_sync_file"
    assert (directory / "trace_clock").read_text() == "global"
    assert not list(home.iterdir())


def test_a_value_that_the_kernel_stores_otherwise_is_ours(
    tracefs: Tracefs, directory: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored_as_an_int(tracefs: Tracefs, path: str, text: str) -> None:
        (directory / path).write_text(f"{(int(text) + 2**31) % 2**32 - 2**31}\n")

    monkeypatch.setattr(shared_settings, "_write", stored_as_an_int)
    (directory / "max_graph_depth").write_text("0\n")
    settings = SharedSettings(tracefs, owner_name(), "tracing_on")
    settings.set("max_graph_depth", "999999999999")
    assert (directory / "max_graph_depth").read_text() == "-727379969\n"
    settings.restore()
    assert (directory / "max_graph_depth").read_text() == "0\n"


def test_after_a_kill_everything_that_still_has_our_value_is_put_back(
    tracefs: Tracefs, directory: Path, home: Path
) -> None:
    changes = ("buffer_size_kb=4096", "tracing_on=0", "set_ftrace_filter=vfs_*", "current_tracer=function_graph")
    killed(directory, home, *changes, "set_graph_function=do_exit", "tracing_on=1")
    (directory / "set_ftrace_filter").write_text("vfs_read\nvfs_write\n")  # what the kernel makes of the pattern
    (directory / "set_graph_function").write_text("somebody_s\n")
    assert set(restore_left(tracefs)) == {"current_tracer", "set_ftrace_filter", "buffer_size_kb"}
    assert (directory / "current_tracer").read_text() == "nop"
    assert (directory / "buffer_size_kb").read_text() == "1408"
    assert (directory / "set_ftrace_filter").read_text() == "vfs_read ext4_sync_file"
    assert (directory / "set_graph_function").read_text() == "somebody_s\n"
    assert (directory / "tracing_on").read_text() == "1"
    assert restore_left(tracefs) == []
    assert not list(home.iterdir())


def test_a_list_of_threads_is_ours_as_long_as_its_switch_has_our_value(
    tracefs: Tracefs, directory: Path, home: Path
) -> None:
    for switch, left in (("1", ["set_ftrace_pid", "options/function-fork"]), ("0", [])):
        killed(directory, home, "options/function-fork=1", "set_ftrace_pid=17")
        (directory / "set_ftrace_pid").write_text("18\n19\n")  # a child that has outlived it, and its thread
        (directory / "options/function-fork").write_text(switch)
        assert restore_left(tracefs) == left


def test_a_file_of_another_boot_or_of_somebody_else_changes_nothing(
    tracefs: Tracefs, directory: Path, home: Path, tmp_path: Path
) -> None:
    killed(directory, home, "current_tracer=function")
    (found,) = home.iterdir()
    kept = json.loads(found.read_text())
    assert kept["boot"] == procfs.boot_id()
    for content in (
        json.dumps({**kept, "boot": "another"}),
        json.dumps({**kept, "changes": [["../../etc/passwd", "x", ["y"]], ["/etc/passwd", "x", ["y"]]]}),
        "{",
        "[" * 100_000,
        "",
    ):
        found.write_text(content)
        assert restore_left(tracefs) == []
        assert not found.exists()
    target = tmp_path / "target"
    target.write_text(json.dumps(kept))
    found.symlink_to(target)
    assert restore_left(tracefs) == []
    assert (directory / "current_tracer").read_text() == "function"


def test_nothing_is_changed_where_it_could_not_be_noted(
    tracefs: Tracefs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_settings, "_home", lambda make=True: None)
    settings = SharedSettings(tracefs, f"{owner_name()}-1", "tracing_on")
    with pytest.raises(InsituError, match="no private directory"):
        settings.set("current_tracer", "function")
    settings.restore()
    assert (directory / "current_tracer").read_text() == FILES["current_tracer"]


def test_only_one_at_a_time_changes_them(tracefs: Tracefs, home: Path) -> None:
    first = SharedSettings(tracefs, f"{owner_name()}-1", "tracing_on")
    with pytest.raises(InsituError, match="another insitu uses it"):
        SharedSettings(tracefs, f"{owner_name()}-2", "tracing_on")
    first.restore()
    both = [SharedSettings(tracefs, f"{owner_name()}-{each}", "tracing_on", alone=False) for each in (1, 2)]
    with pytest.raises(InsituError, match="another insitu uses it"):
        SharedSettings(tracefs, f"{owner_name()}-3", "tracing_on")
    for each in both:
        each.restore()


def test_an_instance_with_lists_of_its_own_or_the_machine_s(tmp_path: Path, directory: Path, home: Path) -> None:
    """Where instances have the lists (newer kernels) they are used; else the machine's, put back at the end."""
    tracefs = Tracefs(os.open(directory, os.O_PATH))
    (directory / "set_graph_notrace").write_text("#### no functions disabled ####\n")
    (directory / "max_graph_depth").write_text("0\n")
    instance = directory / "instances" / "ours"
    for name in ("set_graph_function", "max_graph_depth"):
        (instance / name).parent.mkdir(parents=True, exist_ok=True)
        (instance / name).write_text("")
    own = TraceInstance(tracefs, "ours")
    own.write("set_graph_function", "vfs_read")
    assert (instance / "set_graph_function").read_text() == "vfs_read"
    assert "all functions" in (directory / "set_graph_function").read_text()
    shared = TraceInstance(tracefs, "ours", SharedSettings(tracefs, f"{owner_name()}-1", "tracing_on"))
    shared.write("set_graph_function", "vfs_open")
    shared.write("max_graph_depth", "3")
    assert (directory / "set_graph_function").read_text() == "vfs_open"
    assert (directory / "max_graph_depth").read_text() == "3"
    assert shared.list_text("set_graph_function") == "vfs_open"
    shared.close()
    assert (directory / "set_graph_function").read_text() == ""
    assert (directory / "max_graph_depth").read_text() == "0"
    tracefs.close()
