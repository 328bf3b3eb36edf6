"""perf.data read by insitu against perf script on the same file, and damaged in every way."""

import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insitu.convert.formats.perf_data import read_perf_data
from insitu.convert.formats.registry import ImportOptions
from insitu.convert.open import import_file, load_stacks, open_session
from insitu.errors import InsituError
from insitu.session.weighted_stacks import WeightedStacks

from .perf_peer import agreement, our_folded, perf_folded, perf_record, source_names

FRAME_POINTERS = ("-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer")
C_SOURCE = r"""
volatile unsigned long sink;
__attribute__((noinline)) void inner(int n) { for (int i = 0; i < n; i++) sink += i * i; }
__attribute__((noinline)) void outer(int n) { inner(n); sink++; }
__attribute__((noinline)) int deep(int n) {
    if (!n) { outer(4000); return 0; }
    int r = deep(n - 1);
    sink += r;
    return r + 1;
}
int main(void) { for (int i = 0; i < 40000; i++) { outer(3000); deep(i % 30); } return 0; }
"""
CXX_SOURCE = r"""
#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>
struct Item { int value; bool operator<(Item const &other) const { return value < other.value; } };
static long work(int n) {
    std::vector<Item> items;
    for (int i = 0; i < n; i++) items.push_back({rand()});
    std::sort(items.begin(), items.end());
    std::map<std::string, int> counts;
    for (auto const &item : items) counts[std::to_string(item.value % 1000)]++;
    long sum = 0;
    for (auto const &[text, count] : counts) sum += count * static_cast<long>(text.size());
    return sum;
}
int main() { long sum = 0; for (int i = 0; i < 120; i++) sum += work(5000); return sum == 0; }
"""
RUST_SOURCE = r"""
use std::collections::HashMap;
fn main() {
    let mut map: HashMap<u64, u64> = HashMap::new();
    for i in 0..6_000_000u64 {
        *map.entry(i % 1000).or_insert(0) += i;
    }
    std::process::exit((map.len() == 0) as i32);
}
"""
NODE_SOURCE = r"""
function leaf(n) { let x = 0; for (let i = 0; i < n; i++) x = (x * 31 + i) % 1000003; return x; }
function middle(n) { return leaf(n) + JSON.stringify({ n }).length; }
const end = Date.now() + 1200; let sum = 0;
while (Date.now() < end) sum += middle(2000);
process.exitCode = sum < 0 ? 1 : 0;
"""


def compiled(directory: Path, compiler: str, source: str, suffix: str, *options: str) -> str:
    file = directory / f"prog{suffix}"
    file.write_text(source)
    subprocess.run([compiler, *options, str(file), "-o", str(directory / "prog")], check=True, capture_output=True)
    return str(directory / "prog")


def as_perf(path: Path) -> WeightedStacks:
    """With addresses looked up as perf script does."""
    return load_stacks(path, options=ImportOptions(as_perf=True))


@pytest.fixture(scope="module")
def c_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("c")
    program = compiled(directory, "gcc", C_SOURCE, ".c", "-O1", *FRAME_POINTERS)
    return perf_record(directory / "perf.data", "-g", "-F", "4999", command=[program])


def test_c_stacks_are_those_of_perf_script(c_recording: Path):
    ours, peer = our_folded(as_perf(c_recording)), perf_folded(c_recording)
    assert ours.total() == peer.total() > 500
    # At the moment of exec perf names a place of the program that is gone.
    assert agreement(ours, peer) > 0.99
    assert sum(count for stack, count in ours.items() if ";main;deep;deep" in stack and "inner" in stack) > 200


def test_callers_are_looked_up_at_the_call(c_recording: Path):
    """The same stacks but for inlined functions, of which this program has none, and calls that end a function."""
    assert agreement(our_folded(load_stacks(c_recording)), perf_folded(c_recording)) > 0.98


@pytest.mark.parametrize("optimization", ["-O1", "-O2"])
def test_cxx_stacks_with_frame_pointers_are_those_of_perf_script(tmp_path: Path, optimization: str):
    program = compiled(tmp_path, "g++", CXX_SOURCE, ".cc", optimization, "-g", *FRAME_POINTERS)
    data = perf_record(tmp_path / "perf.data", "-g", "-F", "1999", command=[program])
    assert agreement(our_folded(as_perf(data)), perf_folded(data)) > 0.98


@pytest.fixture(scope="module")
def cxx_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cxx")
    program = compiled(directory, "g++", CXX_SOURCE, ".cc", "-O2", "-g")
    return perf_record(directory / "perf.data", "--call-graph", "dwarf", "-F", "1999", command=[program])


def test_cxx_stacks_unwound_from_copies_are_those_of_perf_script(cxx_recording: Path):
    data = cxx_recording
    profile = load_stacks(data)
    assert agreement(our_folded(profile, inlined=False), perf_folded(data, "--no-inline")) > 0.98
    # libc's functions have several names each, and perf takes DWARF's here: __GI___libc_malloc for malloc.
    assert agreement(source_names(our_folded(profile)), source_names(perf_folded(data))) > 0.85
    inlined = {frame.function for frame in profile.frames if frame.inlined}
    # Most of the time is spent sorting, and std::sort() is a call of its own at no level of optimization.
    assert any("std::sort<" in name for name in inlined)


def test_rust_stacks_are_those_of_perf_script(tmp_path: Path):
    options = ("-O", "-C", "force-frame-pointers=yes")
    program = compiled(tmp_path, "rustc", RUST_SOURCE, ".rs", *options)
    data = perf_record(tmp_path / "perf.data", "-g", "-F", "1999", command=[program])
    ours = our_folded(as_perf(data))
    assert agreement(ours, perf_folded(data)) > 0.98
    assert any("std::rt::lang_start::{{closure}}" in stack and "prog::main" in stack for stack in ours)


def test_jitted_functions_of_node_are_those_of_perf_script(tmp_path: Path):
    (tmp_path / "work.js").write_text(NODE_SOURCE)
    data = perf_record(
        tmp_path / "perf.data", "-g", "-F", "1999", command=["node", "--perf-basic-prof", "work.js"], cwd=tmp_path
    )
    profile = as_perf(data)
    try:
        assert agreement(our_folded(profile), perf_folded(data)) > 0.97
        assert any(frame.kind == "jit" and "leaf" in frame.function for frame in profile.frames)
    finally:
        for thread in profile.threads:
            Path(f"/tmp/perf-{thread.pid}.map").unlink(missing_ok=True)


def test_deep_python_stacks_unwound_from_copies_are_those_of_perf_script(tmp_path: Path):
    program = (
        "import json\nfor i in range(300): json.loads(json.dumps([{'a': [j] * 3} for j in range(500)], indent=1))"
    )
    data = perf_record(
        tmp_path / "perf.data",
        *("--call-graph", "dwarf", "-F", "999"),
        command=[str(Path(sys.executable).resolve()), "-c", program],
    )
    profile = load_stacks(data)
    assert agreement(our_folded(profile, inlined=False), perf_folded(data, "--no-inline")) > 0.98


def perf_script_samples(path: Path) -> int:
    command = ["perf", "script", "-i", str(path), "-F", "ip"]
    return len(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n\n")) - 1


def test_several_events_are_distinguished(tmp_path: Path):
    events = ("-e", "cpu-clock", "-e", "page-faults", "-c", "1")
    data = perf_record(
        tmp_path / "perf.data", *events, command=["sh", "-c", "for i in 1 2 3; do ls / >/dev/null; done"]
    )
    command = ["perf", "script", "-i", str(data), "-F", "event"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    with open_session(data) as session:
        counts = dict(
            session.sql("select name, count(*) from sample join event_type on event_type = id group by name").rows()
        )
    assert counts == {name: lines.count(f"{name}:") for name in {line.rstrip(":") for line in lines}}
    assert counts["page-faults"] > 50


def test_zstd_compressed_records_are_read(c_recording: Path, tmp_path: Path):
    program = str(c_recording.parent / "prog")
    data = perf_record(tmp_path / "perf.data", "-z", "-g", "-F", "4999", command=[program])
    ours, peer = our_folded(as_perf(data)), perf_folded(data)
    assert ours.total() == peer.total() > 500
    assert agreement(ours, peer) > 0.99


def test_pipe_mode_is_read(c_recording: Path, tmp_path: Path):
    program = str(c_recording.parent / "prog")
    data = tmp_path / "pipe.data"
    with data.open("wb") as sink:
        subprocess.run(
            ["perf", "record", "-q", "-g", "-F", "4999", "-o", "-", "--", program], stdout=sink, check=True
        )
    ours, peer = our_folded(as_perf(data)), perf_folded(data)
    assert ours.total() == peer.total() > 500
    assert agreement(ours, peer) > 0.99


def test_a_file_that_perf_inject_wrote_build_ids_into_is_read(c_recording: Path, tmp_path: Path):
    data = tmp_path / "inject.data"
    subprocess.run(["perf", "inject", "-b", "-i", str(c_recording), "-o", str(data)], check=True, capture_output=True)
    ours, peer = our_folded(as_perf(data)), perf_folded(data)
    assert ours.total() == peer.total() > 500
    assert agreement(ours, peer) > 0.99


@pytest.mark.parametrize("options", [(), ("-z",)], ids=["plain", "zstd"])
def test_a_directory_of_perf_record_threads_is_read(c_recording: Path, tmp_path: Path, options: tuple[str, ...]):
    program = str(c_recording.parent / "prog")
    data = perf_record(
        tmp_path / "perf.data",
        "--threads",
        *options,
        "-g",
        "-F",
        "999",
        command=["sh", "-c", f"{program} & {program}"],
    )
    assert data.is_dir()
    ours, peer = our_folded(as_perf(data)), perf_folded(data)
    assert ours.total() == peer.total() > 100
    assert agreement(ours, peer) > 0.99
    import_file(data, tmp_path / "run.insitu")
    assert our_folded(load_stacks(tmp_path / "run.insitu")).total() == peer.total()


def test_events_sampled_as_a_group_have_the_samples_and_the_weights_of_perf_script(tmp_path: Path):
    command = ["sh", "-c", "for i in 1 2 3 4 5 6; do ls / >/dev/null; done"]
    data = perf_record(tmp_path / "perf.data", "-e", "{cpu-clock,page-faults,minor-faults}:S", "-g", command=command)
    script = ["perf", "script", "-i", str(data), "-F", "event,period,time"]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.replace(".", "").replace(":", "").split() for line in lines if line]
    peer = sorted((int(time_us), name, int(period)) for time_us, period, name in rows)
    columns = "ts_ns // 1000, name, weight"
    with open_session(data) as session:
        ours = sorted(session.sql(f"select {columns} from sample join event_type on event_type = id").rows())
    assert ours == peer
    assert {name for _, name, _ in ours} == {"cpu-clock", "page-faults", "minor-faults"}


FIELDS = "comm,tid,pid,time,event,period,ip,sym,symoff,dso"


@pytest.mark.parametrize(
    "options",
    [(), ("--header", "--ns"), ("-F", "comm,ip,sym"), ("-F", FIELDS), ("-F", "+misc"), ("--show-mmap-events",)],
    ids=lambda options: " ".join(options) or "default",
)
@pytest.mark.parametrize("stacks", ["frame pointers", "dwarf"])
def test_the_text_of_perf_script_reads_as_the_stacks_in_it(
    c_recording: Path, cxx_recording: Path, tmp_path: Path, options: tuple[str, ...], stacks: str
):
    data = c_recording if stacks == "frame pointers" else cxx_recording
    with (tmp_path / "out.txt").open("wb") as sink:
        subprocess.run(["perf", "script", "-i", str(data), *options], stdout=sink, check=True)
    assert our_folded(load_stacks(tmp_path / "out.txt")) == perf_folded(data, keep_ends=True)


def test_an_imported_session_is_self_contained(c_recording: Path, tmp_path: Path):
    import_file(c_recording, tmp_path / "run.insitu")
    direct, kept = our_folded(load_stacks(c_recording)), our_folded(load_stacks(tmp_path / "run.insitu"))
    assert direct == kept


def opens_or_says_why(path: Path) -> int:
    """The number of samples in it; an InsituError of one line counts as -1. Anything else is a failure."""
    try:
        return load_stacks(path).total_count
    except InsituError as error:
        assert "\n" not in str(error)
        return -1


def boundaries(path: Path) -> Iterator[int]:
    """Where records begin, and a byte beside."""
    (stream,) = read_perf_data(path).streams[0]
    begin = path.read_bytes().find(stream.words.tobytes()[:64])
    for word in stream.at[:: max(1, len(stream.at) // 25)].tolist():
        yield begin + word * 8
        yield begin + word * 8 + 5


def test_a_file_cut_at_any_record_gives_the_records_before(c_recording: Path, tmp_path: Path):
    whole = c_recording.read_bytes()
    cut = tmp_path / "cut.data"
    found = []
    for at in boundaries(c_recording):
        cut.write_bytes(whole[:at])
        found.append(opens_or_says_why(cut))
    assert found == sorted(found), "the later the cut, the more samples"
    assert found[-1] > 0


@pytest.fixture(scope="module")
def small(c_recording: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small real perf.data, of a program that is over at once."""
    output = tmp_path_factory.mktemp("small") / "perf.data"
    return perf_record(output, "--call-graph", "dwarf,512", "-F", "9999", command=["true"]).read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_end_in_samples_or_in_one_line(small: bytes, tmp_path: Path, data: st.DataObject):
    damaged = bytearray(small)
    for _ in range(data.draw(st.integers(1, 8))):
        # Half of the flips hit the header and the attributes, where they hurt most.
        at = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(damaged) - 1)))
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "x.data").write_bytes(damaged)
    opens_or_says_why(tmp_path / "x.data")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_anywhere_ends_in_samples_or_in_one_line(small: bytes, tmp_path: Path, data: st.DataObject):
    (tmp_path / "x.data").write_bytes(small[: data.draw(st.integers(0, len(small)))])
    opens_or_says_why(tmp_path / "x.data")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PERFILE2",
        b"PERFILE2" + bytes(200),
        b"2ELIFREP" + bytes(200),
        gzip.compress(b"x" * 500),
        b"\x7fELF" * 40,
    ],
    ids=["empty", "magic only", "zeros", "big-endian", "gzip", "elf"],
)
def test_what_is_not_perf_data_is_said_in_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "x.data").write_bytes(content)
    assert opens_or_says_why(tmp_path / "x.data") == -1


def test_directories_and_unreadable_files_are_said_in_one_line(tmp_path: Path):
    insitu = Path(sys.executable).with_name("insitu")
    for argument in (tmp_path, tmp_path / "absent", Path("/proc/self/mem")):
        done = subprocess.run([insitu, "report", argument], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("insitu: ") and done.stderr.count("\n") == 1, done.stderr
