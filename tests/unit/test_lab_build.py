"""Custom kernels, all but the compiling: a make of the test's own stands for the kernel's."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import insitu.lab.build.build_kernel as build_module
from insitu.errors import InsituError
from insitu.lab.build import kernel_make
from insitu.lab.build.build_kernel import build
from insitu.lab.build.kernel_config import configuration, feature_names, options_in, refused_options
from insitu.lab.build.source_package import find_source, unpacked_source
from insitu.lab.kernels.find_kernel import find_kernel
from insitu.lab.kernels.kernel import Kernel

MAKE = """#!/bin/sh
for word; do
    case $word in
        O=*) objects=${word#O=} ;;
        KCONFIG_ALLCONFIG=*) asked=${word#*=} ;;
    esac
done
echo "$word" >>"$CALLS"
cd "$objects" || exit 1
if [ "$word" = allnoconfig ]; then
    grep -v "=n$" "$asked" | grep -Ev "${REFUSE:-^$}" >.config
    exit
fi
[ -e main.o ] && echo resumed >>"$CALLS"
echo "  CC      init/main.o"
touch main.o
[ -n "$HANG" ] && { echo $$ >"$HANG"; sleep 100; }
[ -n "$COMPLAIN" ] && { echo "$COMPLAIN"; echo "make[1]: *** [x] Error 1"; exit 2; }
mkdir -p arch/x86/boot include/config scripts
touch scripts/fixdep.o Module.symvers
echo image >arch/x86/boot/bzImage
echo symbols >vmlinux
echo map >System.map
echo "6.1.7$(sed -n 's/^CONFIG_LOCALVERSION="\\(.*\\)"/\\1/p' .config)" >include/config/kernel.release
"""

APT_CACHE = """#!/bin/sh
case "$*" in
    "show --no-all-versions linux-source-6.1") printf 'Package: linux-source-6.1\\nVersion: %s\\n' "$VERSION" ;;
    pkgnames*) printf 'linux-source-6.12\\nlinux-source-6.1\\nlinux-source\\n' ;;
    *) exit 100 ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an apt that offers 6.1.7-1 and 6.12, an unpacked source, and a make that takes no time."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("make", MAKE), ("apt-cache", APT_CACHE)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VERSION", "6.1.7-1")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    for name in ("REFUSE", "HANG", "COMPLAIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(build_module, "check_build_tools", lambda: None)
    for version in ("6.1.7-1", "6.1.8-1"):
        source = tmp_path / f"cache/insitu/builds/linux-source-6.1_{version}/init"
        source.mkdir(parents=True)
        (source / "Kconfig").write_text("config BASE_FULL\n\tbool\n\nmenuconfig  SMP\n")
    return tmp_path


def calls(machine: Path) -> list[str]:
    path = machine / "calls"
    return path.read_text().split() if path.exists() else []


# --- configurations


def test_a_configuration_has_the_base_and_what_each_feature_asks_for() -> None:
    options = configuration(["irqsoff", "kgdb"], types=False).options
    for needed in (
        "9P_FS",
        "OVERLAY_FS",
        "VIRTIO_PCI",
        "VIRTIO_CONSOLE",
        "FW_CFG_SYSFS",
        "PVH",
        "IRQSOFF_TRACER",
        "KGDB",
    ):
        assert options[needed] == "y"
    assert "KASAN" not in options
    assert "DEBUG_INFO_BTF" not in options


def test_types_come_with_pahole() -> None:
    assert configuration([], types=True).options["DEBUG_INFO_BTF"] == "y"


def test_order_and_repetition_of_features_make_no_difference() -> None:
    one, other = configuration(["kgdb", "irqsoff"], True), configuration(["irqsoff", "kgdb", "irqsoff"], True)
    assert one == other
    assert one.key("6.1.7-1") == other.key("6.1.7-1")
    assert one.label == "irqsoff-kgdb"


def test_every_set_of_features_and_every_source_version_has_a_key_of_its_own() -> None:
    names = feature_names()
    sets = [chosen for size in range(len(names) + 1) for chosen in itertools.combinations(names, size)]
    keys = {
        configuration(chosen, types).key(version)
        for chosen in sets
        for types in (True, False)
        for version in ("6.1.7-1", "6.1.7-2")
    }
    assert len(keys) == 2 ** len(names) * 2 * 2


def test_all_features_that_the_issue_names_are_there() -> None:
    assert feature_names() == ["gcov", "irqsoff", "kasan", "kgdb", "latency", "lockdep"]


def test_no_two_features_contradict_each_other() -> None:
    base = configuration([], types=True).options
    for one, other in itertools.combinations(feature_names(), 2):
        first, second = (configuration([name], types=True).options for name in (one, other))
        disputed = {
            option
            for option in first.keys() & second.keys() - {"LOCALVERSION"}
            if first[option] != second[option] and base.get(option) not in (first[option], second[option])
        }
        assert not disputed, (one, other)


def test_the_release_fits_into_uname_with_all_features() -> None:
    suffix = configuration(feature_names(), types=True).options["LOCALVERSION"].strip('"')
    assert len(f"6.12.117{suffix}") < 65  # __NEW_UTS_LEN, include/uapi/linux/utsname.h


def test_an_unknown_feature_offers_the_nearest() -> None:
    with pytest.raises(InsituError, match=r"no kernel feature 'irqof'.*did you mean irqsoff\?") as caught:
        configuration(["irqof"], types=True)
    assert caught.value.status == 2


def test_the_text_of_a_configuration_reads_back_as_its_options() -> None:
    asked = configuration(feature_names(), types=True)
    assert options_in(asked.text) == asked.options


# --- what Kconfig made of it


def test_an_option_that_kconfig_drops_or_turns_on_is_refused(tmp_path: Path) -> None:
    asked = configuration(["kgdb"], types=False)
    lines = asked.text.replace("CONFIG_KGDB=y\n", "# CONFIG_KGDB is not set\n")
    lines = lines.replace("CONFIG_UNWINDER_ORC=n\n", "CONFIG_UNWINDER_ORC=y\n")
    assert refused_options(asked, lines, tmp_path) == ["KGDB=y", "UNWINDER_ORC=n"]


def test_an_option_of_the_base_may_be_unknown_to_this_version_but_not_refused_by_it(tmp_path: Path) -> None:
    asked = configuration([], types=False)
    config = asked.text.replace("CONFIG_BASE_FULL=y\n", "").replace("CONFIG_RANDOM_TRUST_CPU=y\n", "")
    (tmp_path / "init").mkdir()
    (tmp_path / "init/Kconfig").write_text("config BASE_FULL\n\tbool\n")
    assert refused_options(asked, config, tmp_path) == ["BASE_FULL=y"]


# --- sources


def test_the_source_is_the_package_that_apt_would_install(machine: Path) -> None:
    source = find_source("6.1")
    assert (source.package, source.version) == ("linux-source-6.1", "6.1.7-1")


@pytest.mark.parametrize("kernel", ["6.2", "6.1-cloud", "", "../6.1", "-o"])
def test_a_version_without_a_source_is_refused_with_those_that_have_one(machine: Path, kernel: str) -> None:
    with pytest.raises(InsituError, match=r"available: 6\.1, 6\.12"):
        find_source(kernel)


def test_a_source_package_is_unpacked_into_the_cache_once(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = machine / "package"
    (content / "DEBIAN").mkdir(parents=True)
    (content / "DEBIAN/control").write_text(
        "Package: s\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: d\n"
    )
    (content / "usr/src").mkdir(parents=True)
    tree = machine / "linux-source-6.1"
    tree.mkdir()
    (tree / "Makefile").write_text("VERSION = 6\n")
    subprocess.run(
        ["tar", "-cf", content / "usr/src/linux-source-6.1.tar.gz", "-z", "-C", machine, tree.name], check=True
    )
    subprocess.run(["dpkg-deb", "-b", content, machine / "s.deb"], check=True, stdout=subprocess.DEVNULL)
    apt_get = machine / "programs/apt-get"
    apt_get.write_text(f'#!/bin/sh\necho got >>"$CALLS"; cp {machine}/s.deb .\n')
    apt_get.chmod(0o755)
    monkeypatch.setenv("VERSION", "1:6.1.9-1")
    for _ in range(2):
        unpacked = unpacked_source(find_source("6.1"), lambda line: None)
        assert (unpacked / "Makefile").read_text() == "VERSION = 6\n"
        assert ":" not in str(unpacked)  # the kernel's make refuses such a directory
    assert calls(machine) == ["got"]
    assert not [path for path in unpacked.parent.iterdir() if path.name.startswith(".")]


# --- the tools


def test_everything_that_is_missing_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InsituError) as caught:
        kernel_make.check_build_tools()
    message = str(caught.value)
    assert "\n" not in message
    for package in ("gcc", "flex", "bison", "bc", "libelf-dev"):
        assert package in caught.value.remedy.split()


# --- building


def test_a_built_kernel_is_found_by_its_name_with_all_that_debuggers_need(machine: Path) -> None:
    kernel = build("6.1", ["kgdb", "irqsoff"])
    assert kernel == find_kernel("6.1-irqsoff-kgdb")
    assert kernel.release == "6.1.7-insitu-irqsoff-kgdb"
    assert kernel.origin == "built"
    assert kernel.image.read_text() == "image\n"
    assert kernel.debuginfo is not None
    assert kernel.debuginfo.read_text() == "symbols\n"
    assert kernel.options["KGDB_SERIAL_CONSOLE"] == "y"
    assert (kernel.image.parent / "System.map").exists()


def test_the_same_kernel_is_built_once(machine: Path) -> None:
    first = build("6.1", ["irqsoff"])
    assert build("6.1", ["irqsoff"]) == first
    assert calls(machine) == ["allnoconfig", "bzImage"]


def test_a_newer_source_is_built_and_preferred(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build("6.1", [])
    monkeypatch.setenv("VERSION", "6.1.8-1")
    build("6.1", [])
    assert calls(machine).count("bzImage") == 2
    index = json.loads((find_kernel("6.1-guest").image.parent / "kernel.json").read_text())
    assert index["source"] == "6.1.8-1"


def test_objects_go_when_the_kernel_is_there_but_stay_for_gcov(machine: Path) -> None:
    build("6.1", ["irqsoff"])
    build("6.1", ["gcov"])
    builds = machine / "cache/insitu/builds"
    assert [path.parent.parent.name.rsplit("-", 1)[0] for path in builds.glob("*/objects/main.o")] == ["6.1-gcov"]
    assert not list(builds.glob("6.1-irqsoff-*/objects/vmlinux"))


def test_modules_can_be_built_against_a_kernel_when_its_objects_are_gone(machine: Path) -> None:
    kernel = build("6.1", ["irqsoff"])
    assert kernel.build is not None
    assert (kernel.build / "include/config/kernel.release").read_text().strip() == kernel.release
    assert (kernel.build / "scripts/fixdep.o").exists()
    assert (kernel.build / "Module.symvers").exists()
    assert find_kernel("6.1-irqsoff").build == kernel.build


def test_an_option_that_cannot_be_had_stops_before_compiling(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSE", "IRQSOFF_TRACER")
    with pytest.raises(
        InsituError, match=r"linux-source-6\.1 6\.1\.7-1 refuses CONFIG_IRQSOFF_TRACER=y with irqsoff"
    ):
        build("6.1", ["irqsoff"])
    assert calls(machine) == ["allnoconfig"]


def test_a_compiler_error_is_shown_with_the_log(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPLAIN", "init/main.c:7:1: error: expected ';'")
    with pytest.raises(InsituError, match=r"compiling the kernel failed: init/main\.c:7:1: error") as caught:
        build("6.1", [])
    log = Path(caught.value.remedy.rsplit(" ", 1)[-1])
    assert "CC      init/main.o" in log.read_text()


def test_a_full_disk_is_called_that(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPLAIN", "as: fatal error: init/main.o: No space left on device")
    with pytest.raises(InsituError, match="no space left for"):
        build("6.1", [])


def test_a_failed_build_goes_on_from_where_it_was(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPLAIN", "init/main.c:7:1: error: expected ';'")
    with pytest.raises(InsituError):
        build("6.1", [])
    monkeypatch.delenv("COMPLAIN")
    build("6.1", [])
    assert calls(machine) == ["allnoconfig", "bzImage", "allnoconfig", "bzImage", "resumed"]


def test_a_cache_whose_name_make_cannot_take_is_explained(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "my cache"))
    with pytest.raises(InsituError, match="a space or a colon"):
        build("6.1", [])


def test_a_stopped_build_leaves_no_compiler_and_no_lock(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANG", str(machine / "make-pid"))
    code = "import insitu.lab.build.build_kernel as b; b.check_build_tools = lambda: 0; b.build('6.1', [], 1, print)"
    builder = subprocess.Popen(
        [sys.executable, "-uc", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    _until(lambda: (machine / "make-pid").exists() and (machine / "make-pid").read_text().endswith("\n"))
    group = int((machine / "make-pid").read_text())
    with pytest.raises(InsituError, match="is being built by another process"):
        build("6.1", [])
    builder.send_signal(signal.SIGINT)
    output, _ = builder.communicate(timeout=300)
    assert "the same command resumes the build" in output
    _until(lambda: not _group_lives(group))
    monkeypatch.delenv("HANG")
    assert isinstance(build("6.1", []), Kernel)


def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # pytest's own time limit ends a wait in vain
        time.sleep(0.02)


def _group_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
