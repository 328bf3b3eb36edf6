"""pprof's profile, read by a decoder written from profile.proto alone."""

import gzip
from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from insitu.convert.formats.pprof import write_pprof
from insitu.convert.formats.protobuf import varint
from insitu.session.manifest import Manifest
from insitu.symbols.frame import Frame


def _varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def _fields(data):
    """Field number -> its values: numbers, or bytes."""
    fields, at = defaultdict(list), 0
    while at < len(data):
        key, at = _varint(data, at)
        assert key & 7 in (0, 2)
        value, at = _varint(data, at)
        if key & 7 == 2:
            assert at + value <= len(data)
            value, at = data[at : at + value], at + value
        fields[key >> 3].append(value)
    return fields


def _numbers(data):
    numbers, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        numbers.append(value)
    return numbers


class Decoded:
    """The messages of a profile, as profile.proto numbers their fields."""

    def __init__(self, data):
        top = _fields(gzip.decompress(data))
        self.strings = [text.decode() for text in top[6]]
        assert self.strings[0] == ""
        self.types = [tuple(self.strings[_fields(body)[n][0]] for n in (1, 2)) for body in top[1]]
        functions = {_one(f, 1): (self._string(f, 2), self._string(f, 4)) for f in map(_fields, top[5])}
        self.mappings = {_one(m, 1): self._string(m, 5) for m in map(_fields, top[3])}
        self.locations = {
            _one(location, 1): (
                self.mappings.get(_one(location, 2), ""),
                [(*functions[_one(line, 1)], _one(line, 2)) for line in map(_fields, location[4])],
            )
            for location in map(_fields, top[4])
        }
        self.samples = [_fields(body) for body in top[2]]
        self.top = top

    def _string(self, fields, number):
        return self.strings[_one(fields, number)]

    def labels(self, sample):
        labels = {}
        for label in map(_fields, sample[3]):
            labels[self._string(label, 1)] = self._string(label, 2) or _one(label, 3)
        return labels

    def stacks(self):
        """(comm, tid, functions from the outermost on) -> values."""
        sums = Counter()
        for sample in self.samples:
            labels = self.labels(sample)
            names = [name for at in _numbers(sample[1][0]) for name, _, _ in self.locations[at][1]]
            count, weight = _numbers(sample[2][0])
            sums[labels["comm"], labels["tid"], *reversed(names)] += count + weight * 1j
        return sums


def _one(fields, number):
    return fields[number][0] if fields[number] else 0


def test_stacks_counts_and_weights_arrive_by_thread(profile_of):
    rows = [("p", 11, ["main", "a"], 3), ("p", 12, ["main", "a"], 2), ("q", 13, ["main"], 1), ("p", 11, ["main"], 4)]
    decoded = Decoded(write_pprof(profile_of(rows, weight=1000)))
    assert decoded.types == [("samples", "count"), ("cpu", "nanoseconds")]
    assert decoded.stacks() == {
        ("p", 11, "main", "a"): 3 + 3000j,
        ("p", 12, "main", "a"): 2 + 2000j,
        ("q", 13, "main"): 1 + 1000j,
        ("p", 11, "main"): 4 + 4000j,
    }


def test_a_thread_that_execs_is_labelled_with_the_name_of_the_time(profile_of):
    profile = profile_of([("bash", 7, ["main"], 3), ("ls", 7, ["main"], 1)], weight=1)
    assert Decoded(write_pprof(profile)).stacks() == {("bash", 7, "main"): 3 + 3j, ("ls", 7, "main"): 1 + 1j}


def test_inlined_frames_share_the_location_of_the_function_they_are_part_of(profile_of):
    outer = Frame("outer", "/bin/p", "p.c", 30)
    middle = Frame("middle", "/bin/p", "p.h", 20, inlined=True)
    inner = Frame("inner", "/bin/p", "q.h", 10, inlined=True)
    main = Frame("main", "/bin/p", "p.c", 99)
    decoded = Decoded(write_pprof(profile_of([("p", 1, [main, outer, middle, inner], 1)])))
    leaf_first = [decoded.locations[at] for at in _numbers(decoded.samples[0][1][0])]
    assert leaf_first == [
        ("/bin/p", [("inner", "q.h", 10), ("middle", "p.h", 20), ("outer", "p.c", 30)]),
        ("/bin/p", [("main", "p.c", 99)]),
    ]


def test_a_stack_that_ends_in_the_outer_function_has_a_location_without_the_inlined(profile_of):
    inlined = Frame("inl", "/bin/p", inlined=True)
    rows = [("p", 1, ["main", inlined], 1), ("p", 1, ["main"], 1), ("p", 1, ["main", inlined, "callee"], 1)]
    decoded = Decoded(write_pprof(profile_of(rows, weight=0)))
    assert set(decoded.stacks()) == {("p", 1, "main"), ("p", 1, "main", "inl"), ("p", 1, "main", "inl", "callee")}
    lines = sorted(len(lines) for _, lines in decoded.locations.values())
    assert lines == [1, 1, 2]


def test_mappings_say_that_nothing_is_left_to_symbolize(profile_of):
    decoded = Decoded(write_pprof(profile_of([("p", 1, [Frame("k", "[kernel.kallsyms]"), Frame("u")], 1)])))
    assert list(decoded.mappings.values()) == ["[kernel.kallsyms]"]
    assert [_fields(decoded.top[3][0])[flag] for flag in (7, 8, 9, 10)] == [[1]] * 4
    assert {mapping for mapping, _ in decoded.locations.values()} == {"", "[kernel.kallsyms]"}


def test_time_duration_period_and_losses_are_stored(profile_of):
    manifest = Manifest(
        start_realtime_ns=1_700_000_000_000_000_000,
        sources=[{"id": "perf", "kind": "perf", "options": {"frequency_hz": 100}}],
        start_ns=5,
        end_ns=5_000_000_005,
    )
    profile = profile_of([("p", 1, ["main"], 1)], manifest=manifest, losses={"ring": 7})
    top = (decoded := Decoded(write_pprof(profile))).top
    assert (top[9], top[10], top[12]) == ([1_700_000_000_000_000_000], [5_000_000_000], [10_000_000])
    assert decoded.strings[_numbers(top[13][0])[0]] == "7 records were lost"


def test_other_events_are_counts_of_their_name(profile_of):
    decoded = Decoded(write_pprof(profile_of([("p", 1, ["main"], 2)], event="page-faults", weight=3)))
    assert decoded.types == [("samples", "count"), ("page-faults", "count")]


def test_bytes_keep_their_unit(profile_of):
    profile = profile_of([("p", 1, ["main"], 2)], event="alloc", weight=64, unit="bytes", counted="events")
    assert Decoded(write_pprof(profile)).types == [("events", "count"), ("alloc", "bytes")]


def test_imported_sums_of_samples_are_one_number_a_stack(profile_of):
    profile = profile_of([("p", 1, ["main"], 1)], event="samples", weight=40, preferred="weight")
    decoded = Decoded(write_pprof(profile))
    assert decoded.types == [("samples", "count")]
    assert _numbers(decoded.samples[0][2][0]) == [40]


def test_an_empty_profile_is_a_whole_file(profile_of):
    assert Decoded(write_pprof(profile_of([]))).samples == []


@given(st.integers(-(2**63), 2**64 - 1))
def test_numbers_of_any_size_read_back(value):
    data = varint(value)
    assert _varint(data, 0) == (value % 2**64, len(data))


@given(st.text(min_size=1), st.lists(st.booleans(), min_size=1, max_size=6))
def test_any_name_and_any_run_of_inlined_frames_arrives(profile_of, name, inlined):
    frames = [Frame(f"{at}{name}", inlined=flag) for at, flag in enumerate(inlined)]
    decoded = Decoded(write_pprof(profile_of([(name, 3, frames, 2)], weight=5)))
    assert decoded.stacks() == {(name, 3, *(frame.function for frame in frames)): 2 + 10j}
