"""Every probe kind, attached for real: runs counted in the kernel against the events that the target made."""

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from insitu.capabilities import links
from insitu.capabilities.result import no
from insitu.errors import InsituError
from insitu.kernel import bpf, procfs, slow_close
from insitu.kernel.bpf_abi import ProgramType
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.arguments import ContextField, ContextSlot, Operand, Primitive
from insitu.probe.providers.base import AttachPoint, AttachSpec, Context, ProgramKind
from insitu.probe.providers.support.alternatives import can_trace_functions
from insitu.probe.providers.support.detach import close_together

from . import counting
from .tracing import wait_until

TIMES = 1234
_GETPPID = 110 if os.uname().machine == "x86_64" else 173  # __NR_getppid

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2) and perf_event_open(2)", allow_module_level=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return counting.compile_target(tmp_path_factory.mktemp("target"))


@pytest.fixture
def target(program: Path) -> Iterator[counting.Target]:
    with counting.running(program) as target:
        yield target


@pytest.fixture(autouse=True)
def _nothing_stays_attached() -> Iterator[None]:
    """After each test as many descriptors are open as before, and no link is left that was not there."""
    links.perf_links(), links.uprobe_multi()
    gc.collect()
    descriptors = _descriptors()
    before = set(bpf.link_program_ids())
    yield
    gc.collect()
    assert _descriptors() <= descriptors
    assert not {link for link in bpf.link_program_ids() if link not in before and _is_ours(link)}


def _descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def _is_ours(link: int) -> bool:
    """Whether a link's program is one of these tests' (others may trace at the same time)."""
    from insitu.kernel.bpf_abi import Command

    try:
        program_fd = bpf.open_id(Command.PROG_GET_FD_BY_ID, bpf.link_program_ids()[link])
    except (InsituError, KeyError):
        return False
    try:
        return bpf.program_info(program_fd).name == counting.NAME
    finally:
        os.close(program_fd)


@contextmanager
def context(pid: int | None = None) -> Iterator[Context]:
    made = Context(pid=pid)
    try:
        yield made
    finally:
        made.close()


def points_of(text: str, context: Context) -> list[AttachPoint]:
    kind, *parts = text.split(":")
    points = PROVIDERS[kind].expand(AttachSpec(kind, tuple(parts)), context)
    return [replace(point, cookie=number) for number, point in enumerate(points)]


@contextmanager
def counting_at(
    text: str,
    tgid: int | None,
    *,
    pid: int | None = None,
    where: Callable[[Sequence[AttachPoint], Context], tuple[int, int, int]] | None = None,
    cookies: bool = False,
) -> Iterator[counting.Counter]:
    """A counting program attached to all points of an attach point's text."""
    with context(pid) as made:
        points = points_of(text, made)
        provider = PROVIDERS[points[0].kind]
        kind = provider.program(points[0], made)
        counter = counting.Counter(kind, tgid=tgid, cookies=cookies, where=where and where(points, made))
        try:
            attachment = provider.attach(counter.fd, points, made)
            try:
                yield counter
            finally:
                attachment.close()
        finally:
            counter.close()


def argument(points: Sequence[AttachPoint], context: Context, name: str) -> tuple[int, int]:
    """Offset and size of an argument of the first point in the program's context."""
    arguments = PROVIDERS[points[0].kind].arguments(points[0], context)
    assert arguments is not None
    load = next(each.load for each in arguments if each.name == name)
    if isinstance(load, ContextSlot):
        return 8 * load.index, 8
    assert isinstance(load, ContextField)
    return load.offset, load.size


def test_begin_runs_when_told_in_the_calling_thread() -> None:
    with context() as made:
        (point,) = points_of("BEGIN", made)
        counter = counting.Counter(PROVIDERS["BEGIN"].program(point, made), tgid=os.getpid())
        attachment = PROVIDERS["BEGIN"].attach(counter.fd, [point], made)
        for _ in range(3):
            attachment.run()  # type: ignore[attr-defined]
        assert (point.name, counter.count()) == ("BEGIN", 3)
        attachment.close()
        counter.close()


def test_a_tracepoint_counts_every_call_of_the_target_and_none_of_others(target: counting.Target) -> None:
    with counting_at("tracepoint:syscalls:sys_enter_getppid", target.pid) as counter:
        os.getppid()
        target.act("getppid", TIMES)
        assert counter.count() == TIMES
    target.act("getppid", 1)


def test_an_argument_of_a_tracepoint_lies_where_its_format_says(target: counting.Target) -> None:
    def fd_54321(points: Sequence[AttachPoint], made: Context) -> tuple[int, int, int]:
        return *argument(points, made, "fd"), 54321

    with counting_at("tracepoint:syscalls:sys_enter_close", target.pid, where=fd_54321) as counter:
        target.act("close", TIMES)
        assert counter.count() == TIMES


@pytest.mark.skipif(not links.perf_links().available, reason="this kernel has no links of perf events (Linux 5.15)")
def test_one_program_at_many_tracepoints_knows_them_by_cookie(target: counting.Target) -> None:
    with counting_at("tracepoint:syscalls:sys_*_getppid", target.pid, cookies=True) as counter:
        target.act("getppid", TIMES)
        assert [counter.count(cookie) for cookie in range(3)] == [TIMES, TIMES, 0]


def test_a_raw_tracepoint_passes_its_arguments_in_typed_slots(target: counting.Target) -> None:
    def getppid(points: Sequence[AttachPoint], made: Context) -> tuple[int, int, int]:
        return *argument(points, made, "id"), _GETPPID

    with counting_at("rawtracepoint:sys_enter", target.pid, where=getppid) as counter:
        target.act("getppid", TIMES)
        assert counter.count() == TIMES


def test_profile_samples_a_process_in_proportion_to_its_cpu_time(target: counting.Target) -> None:
    with counting_at("profile:hz:500", target.pid, pid=target.pid) as counter:
        # A virtual CPU that waits for its host misses any number of ticks; none come too many.
        spun_ms = 0
        while counter.count() < 100:
            spun_ms = target.act("spin", spun_ms + 100)
        assert counter.count() <= 1.3 * spun_ms * 500 / 1000


def test_profile_without_a_pid_runs_on_every_cpu() -> None:
    with counting_at("profile:ms:5", None) as counter:
        wait_until(lambda: counter.count() >= 3)


def test_interval_ticks() -> None:
    with counting_at("interval:ms:5", None) as counter:
        wait_until(lambda: counter.count() >= 3)


def test_page_faults_are_those_that_the_process_counts_itself(target: counting.Target) -> None:
    target.act("fault", 10)  # what the action itself needs is mapped by now
    with counting_at("software:page-faults:1", target.pid, pid=target.pid) as counter:
        own = target.act("fault", 500)
        assert 500 <= own <= counter.count() <= own + 20


def test_a_software_event_fires_at_every_nth_event(target: counting.Target) -> None:
    target.act("fault", 10)
    with counting_at("software:faults:100", target.pid, pid=target.pid) as counter:
        target.act("fault", 1000)
        assert counter.count() in (10, 11)


def test_hardware_counts_or_says_that_there_is_no_counter(target: counting.Target) -> None:
    try:
        with counting_at("hardware:instructions:100000", target.pid, pid=target.pid) as counter:
            target.act("spin", 50)
            assert counter.count() > 0
    except InsituError as error:
        assert "no hardware counters" in str(error)
        assert "software:cpu-clock" in error.remedy


def test_a_watchpoint_sees_every_write(target: counting.Target) -> None:
    with counting_at(f"watchpoint:{target.watched:#x}:8:w", target.pid, pid=target.pid) as counter:
        target.act("write", TIMES)
        assert counter.count() == TIMES


def test_a_function_is_counted_at_entry_and_at_return(program: Path, target: counting.Target) -> None:
    with (
        counting_at(f"uprobe:{program}:work_one", None) as entries,
        counting_at(f"uretprobe:{program}:work_one", None) as returns,
    ):
        target.act("work", TIMES)
        assert (entries.count(), returns.count()) == (TIMES, TIMES)


@pytest.mark.parametrize("name", ["ns::Klass::method", "ns::Klass::method(int)", "_ZN2ns5Klass6methodEi"])
def test_a_cpp_function_is_found_by_its_name(program: Path, target: counting.Target, name: str) -> None:
    with context() as made:
        spec = AttachSpec("uprobe", (str(program), name))
        (point,) = PROVIDERS["uprobe"].expand(spec, made)
        counter = counting.Counter(PROVIDERS["uprobe"].program(point, made))
        attachment = PROVIDERS["uprobe"].attach(counter.fd, [point], made)
        target.act("method", TIMES)
        assert counter.count() == TIMES
        attachment.close()
        counter.close()


def test_a_parameter_lies_where_the_debug_information_says(program: Path, target: counting.Target) -> None:
    def n_is_5(points: Sequence[AttachPoint], made: Context) -> tuple[int, int, int]:
        return argument(points, made, "n")[0], 4, 5

    def retval_is_8(points: Sequence[AttachPoint], made: Context) -> tuple[int, int, int]:
        return argument(points, made, "retval")[0], 4, 8

    with (
        counting_at(f"uprobe:{program}:work_one", None, where=n_is_5) as entries,
        counting_at(f"uretprobe:{program}:ns::Klass::method", None, where=retval_is_8) as returns,
    ):
        target.act("work", TIMES)  # work_one(0), work_one(1), ...
        target.act("method", TIMES)  # which answers its argument and 3
        assert (entries.count(), returns.count()) == (1, 1)


def test_an_offset_is_counted_from_the_functions_start(program: Path, target: counting.Target) -> None:
    with counting_at(f"uprobe:{program}:work_one+0", None) as counter, context() as made:
        (start,) = points_of(f"uprobe:{program}:work_one", made)
        (later,) = points_of(f"uprobe:{program}:work_one+3", made)
        target.act("work", TIMES)
        assert counter.count() == TIMES
        assert later.address == start.address + 3
        with pytest.raises(InsituError, match="no instruction begins"):
            points_of(f"uprobe:{program}:work_one+1", made)


@pytest.mark.skipif(not links.perf_links().available, reason="this kernel has no links of perf events (Linux 5.15)")
def test_a_wildcard_attaches_one_program_to_every_function(program: Path, target: counting.Target) -> None:
    with counting_at(f"uprobe:{program}:work_*", None, cookies=True) as counter:
        target.act("work", TIMES)
        assert [counter.count(cookie) for cookie in range(3)] == [TIMES, TIMES, 0]


def test_with_a_pid_only_that_process_is_probed(program: Path, target: counting.Target) -> None:
    with (
        counting.running(program) as other,
        counting_at(f"uprobe:{program}:work_*", None, pid=target.pid) as counter,
    ):
        other.act("work", 10)
        target.act("work", TIMES)
        assert counter.count() == 2 * TIMES


@pytest.mark.parametrize("multi", [True, False])
def test_a_process_of_another_mount_namespace_has_its_own_files(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multi: bool
) -> None:
    if not multi:
        monkeypatch.setattr(links, "uprobe_multi", lambda: no("Linux 6.6"))
    script = 'mount --bind "$0" "$1" && exec "$1/target"'
    with counting.running("unshare", "-m", "sh", "-c", script, program.parent, tmp_path) as inside:
        assert not (tmp_path / "target").exists()
        with (
            counting_at(f"uprobe:{tmp_path}/target:work_one", None, pid=inside.pid) as counter,
            counting_at(f"usdt:{tmp_path}/targ*:gated", None, pid=inside.pid) as gated,
        ):
            inside.act("work", TIMES)
            assert inside.act("gated", TIMES) == TIMES
            assert (counter.count(), gated.count()) == (TIMES, TIMES)


def test_a_static_probe_counts_and_its_operands_are_read(program: Path, target: counting.Target) -> None:
    def edi_is_7(points: Sequence[AttachPoint], made: Context) -> tuple[int, int, int]:
        arguments = PROVIDERS["usdt"].arguments(points[0], made)
        assert arguments is not None
        first, second = (each.load for each in arguments)
        assert isinstance(first, Operand)
        assert first.register is not None
        assert second == Operand(8, False, constant=77)
        assert arguments[0].type == Primitive("int32_t", 4, True)
        return first.register, 4, 7

    with counting_at(f"usdt:{program}:demo:plain", None, where=edi_is_7) as counter:
        target.act("usdt", TIMES)
        assert counter.count() == TIMES


@pytest.mark.parametrize("filtered", [False, True])
def test_a_semaphore_is_up_while_the_probe_is_attached(
    program: Path, target: counting.Target, filtered: bool
) -> None:
    assert target.act("gated", 5) == 0
    with counting_at(f"usdt:{program}:gated", None, pid=target.pid if filtered else None) as counter:
        assert target.act("gated", TIMES) == TIMES
        assert counter.count() == TIMES
    assert target.act("gated", 5) == 0


def test_an_iterator_walks_the_threads_of_the_process(target: counting.Target) -> None:
    threads = 1 + target.act("thread", 5)
    with context(target.pid) as made:
        (point,) = points_of("iter:task", made)
        offset, size = argument([point], made, "task")
        # A walk ends with a run for no task.
        counter = counting.Counter(PROVIDERS["iter"].program(point, made), where=(offset, size, 0), unequal=True)
        try:
            attachment = PROVIDERS["iter"].attach(counter.fd, [point], made)
        except bpf.BpfError:
            counter.close()
            pytest.skip("this kernel's iterators cannot be restricted to a process (Linux 6.1)")
        assert attachment.run() == b""  # type: ignore[attr-defined]
        assert counter.count() == threads == len(procfs.threads(target.pid))
        attachment.close()
        counter.close()


def test_fentry_and_fexit_count_or_say_what_would_do_instead(target: counting.Target) -> None:
    with context() as made:
        able = can_trace_functions(made)
    if able:
        with counting_at("fentry:__do_sys_getppid", target.pid) as entries:
            target.act("getppid", TIMES)
            assert entries.count() == TIMES
        with counting_at("fexit:__do_sys_getppid", target.pid) as exits:
            target.act("getppid", TIMES)
            assert exits.count() == TIMES
        return
    with context() as made, pytest.raises(InsituError, match="does not support fentry programs") as caught:
        points_of("fentry:ksys_getppid", made)
    assert "tracepoint:syscalls:sys_enter_getppid" in caught.value.remedy


@pytest.mark.skipif(procfs.pmu_type("kprobe") is None, reason="this kernel has no kprobes (CONFIG_KPROBES)")
def test_kprobes_count_entries_and_returns_and_share_a_link_when_many(target: counting.Target) -> None:
    function = "__x64_sys_close" if os.uname().machine == "x86_64" else "__arm64_sys_close"
    for text in (f"kprobe:{function}", f"kretprobe:{function}", f"kprobe:{function[:-1]}*", f"kprobe:{function}+0"):
        with counting_at(text, target.pid) as counter:
            target.act("close", TIMES)
            assert counter.count() == TIMES, text
    with counting_at("kprobe:__*_sys_clo*e", target.pid) as counter:
        target.act("close", TIMES)
        assert counter.count() == TIMES


@pytest.mark.skipif(procfs.pmu_type("kprobe") is not None, reason="this kernel has kprobes")
def test_without_kprobes_the_error_names_the_tracepoint_that_would_do() -> None:
    with context() as made, pytest.raises(InsituError, match="no kprobes") as caught:
        points_of("kprobe:ksys_getppid", made)
    assert "tracepoint:syscalls:sys_enter_getppid" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("tracepoint:sched:sched_swich", "sched:sched_switch"),
        ("rawtracepoint:sched_swich", "sched_switch"),
        ("software:page-fault", "page-faults"),
        ("iter:tasks", "task"),
        ("self:signal:SIGUSR", "SIGUSR1"),
        ("profile:hertz:99", "hz"),
        ("interval:s:0", "from 1"),
        ("watchpoint:0x1001:8:w", "multiple"),
        ("watchpoint:0x1000:8:w", "-p PID"),
        ("uprobe:/no/such/file:main", "no file"),
        ("usdt:/bin/true:x", "no USDT probes"),
        ("tracepoint:sched", "CATEGORY:NAME"),
    ],
)
def test_a_misspelt_attach_point_is_answered_with_what_would_be_right(text: str, hint: str) -> None:
    with context() as made, pytest.raises(InsituError) as caught:
        points_of(text, made)
    assert hint in str(caught.value)


def test_a_misspelt_function_gets_the_nearest(program: Path) -> None:
    with context() as made, pytest.raises(InsituError, match="work_one"):
        points_of(f"uprobe:{program}:work_on", made)


def test_listing_answers_everything_that_a_pattern_names(program: Path) -> None:
    def listed(text: str) -> list[str]:
        kind, *parts = text.split(":")
        return [point.name for point in PROVIDERS[kind].listing(AttachSpec(kind, tuple(parts)), made)]

    with context() as made:
        assert listed(f"uprobe:{program}:work_*") == [f"uprobe:{program}:{name}" for name in ("work_one", "work_two")]
        assert listed(f"usdt:{program}:*") == [f"usdt:{program}:demo:plain", f"usdt:{program}:demo:gated"]
        assert listed("tracepoint:sched:sched_swit*") == ["tracepoint:sched:sched_switch"]
        assert "software:page-faults:" in listed("software:*")
        assert listed("tracepoint:no:such*") == []
        assert len(listed("tracepoint:*")) > 500
        # One function under two names (glibc on 64-bit machines): both can be written, a wildcard probes it once.
        libc = points_of("uprobe:libc:fopen64", made)[0].target
        assert {f"uprobe:{libc}:fopen", f"uprobe:{libc}:fopen64"} <= set(listed("uprobe:libc:fopen*"))
        assert len(points_of("uprobe:libc:fopen*", made)) < len(listed("uprobe:libc:fopen*"))


def test_what_cannot_be_attached_here_is_not_listed_and_the_reason_is_said() -> None:
    devices = Path("/sys/bus/event_source/devices")
    with context() as made:
        for kind, name, there, reason in (
            ("kprobe", "vfs_read", (devices / "kprobe").exists(), "has no kprobes"),
            ("hardware", "cpu-cycles", (devices / "cpu").exists(), "no hardware counters"),
            ("fentry", "vfs_read", can_trace_functions(made), "does not support fentry programs"),
        ):
            if there:
                assert [point.function for point in PROVIDERS[kind].listing(AttachSpec(kind, (name,)), made)] == [
                    name
                ]
            else:
                with pytest.raises(InsituError, match=reason):
                    PROVIDERS[kind].listing(AttachSpec(kind, (name,)), made)


def test_programs_closed_together_run_no_more(target: counting.Target) -> None:
    with context() as made:
        counters, attachments = [], []
        for text in (
            "tracepoint:syscalls:sys_*_getppid",
            "rawtracepoint:sys_enter",
            "software:page-faults:1",
            "BEGIN",
        ):
            points = points_of(text, made)
            provider = PROVIDERS[points[0].kind]
            counters.append(counting.Counter(provider.program(points[0], made)))
            attachments.append(provider.attach(counters[-1].fd, points, made))
        close_together(attachments)
        before = [counter.count() for counter in counters]
        target.act("getppid", TIMES)
        target.act("fault", 100)
        assert [counter.count() for counter in counters] == before
        close_together(attachments)
        for counter in counters:
            counter.close()


def test_more_probes_than_open_files_are_allowed_raise_the_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    script = "tracepoint:syscalls:sys_*_get*id /pid == cpid/ { @[probe] = count(); }"
    calls = f"import os; [os.getppid() for _ in range({TIMES})]"
    done = subprocess.run(
        [sys.executable, "-m", "insitu", "trace", "-q", "-e", script, "--", sys.executable, "-S", "-c", calls],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)),
    )
    assert (done.returncode, done.stderr) == (0, "")
    for place in ("enter", "exit"):
        assert f"@[tracepoint:syscalls:sys_{place}_getppid]: {TIMES}\n" in done.stdout


@pytest.mark.parametrize("older", [["uprobe_multi"], ["uprobe_multi", "perf_links"]])
def test_an_older_kernels_ways_to_attach_count_the_same(
    program: Path, target: counting.Target, monkeypatch: pytest.MonkeyPatch, older: list[str]
) -> None:
    for feature in older:
        monkeypatch.setattr(links, feature, lambda: no("an older kernel"))
    with (
        counting_at(f"uprobe:{program}:work_*", None) as entries,
        counting_at(f"uretprobe:{program}:work_one", None, pid=target.pid) as returns,
        counting_at(f"usdt:{program}:gated", None, pid=target.pid) as gated,
        counting_at("tracepoint:syscalls:sys_enter_getppid", target.pid) as calls,
    ):
        for what in ("work", "gated", "getppid"):
            target.act(what, TIMES)
        assert [each.count() for each in (entries, returns, gated, calls)] == [2 * TIMES, TIMES, TIMES, TIMES]
    assert target.act("gated", 5) == 0


def test_without_processes_to_be_had_closing_still_ends(
    target: counting.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_close, "_KEEPER", ["/no/such/program"])
    with counting_at("tracepoint:syscalls:sys_enter_getppid", target.pid) as counter:
        target.act("getppid", TIMES)
        assert counter.count() == TIMES


def test_an_attach_that_fails_half_way_leaves_nothing_attached(program: Path) -> None:
    with context() as made:
        (good,) = points_of(f"uprobe:{program}:work_one", made)
        bad = replace(good, detail=replace(good.detail, path="/no/such/file"))  # type: ignore[type-var]
        counter = counting.Counter(ProgramKind(ProgramType.KPROBE, "pt_regs"))
        with pytest.raises(InsituError):
            PROVIDERS["uprobe"].attach(counter.fd, [good, bad], made)
        counter.close()
