"""Folded stacks, written and read."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.convert.formats.folded import folded_counts, write_folded
from insitu.errors import InsituError
from insitu.symbols.frame import JIT, KERNEL, USER, Frame

from .imported import folded


def test_each_line_is_command_stack_and_count_sorted(profile_of):
    profile = profile_of([("b", 2, ["main", "hot"], 3), ("a", 1, ["main"], 2), ("b", 3, ["main", "hot"], 1)])
    assert write_folded(profile) == "a;main 2\nb;main;hot 4\n"


def test_weights_are_summed_instead_of_samples_when_asked(profile_of):
    profile = profile_of([("a", 1, ["main"], 3)], weight=7)
    assert write_folded(profile, value="weight") == "a;main 21\n"


def test_blanks_of_a_command_become_underscores_but_those_of_functions_stay(profile_of):
    profile = profile_of([("V8 Worker Thread", 1, ["operator new", "f(int, char)"], 1)])
    assert write_folded(profile) == "V8_Worker_Thread;operator new;f(int, char) 1\n"


def test_a_thread_that_execs_has_the_name_of_the_time(profile_of):
    profile = profile_of([("bash", 7, ["main"], 2), ("ls", 7, ["main"], 2)])
    assert write_folded(profile) == "bash;main 2\nls;main 2\n"


def test_separators_within_names_do_not_break_the_format(profile_of):
    profile = profile_of([("a;b\nc", 1, ["Lorg/X;.run\n(I)", "\0x\r"], 1)])
    assert write_folded(profile) == "a:b_c;Lorg/X:.run (I); x  1\n"


def test_addresses_without_a_symbol_are_folded_by_module(profile_of):
    lib = "/usr/lib/libc.so.6"
    tail = [Frame("0x7f0012", symbolized=False), Frame("[nf]+0x4", "[nf]", kind=KERNEL, symbolized=False)]
    first, second = (Frame(f"libc.so.6+{offset}", lib, symbolized=False) for offset in ("0x12", "0x34"))
    profile = profile_of([("a", 1, [first, *tail], 1), ("a", 1, [second, *tail], 1)])
    assert write_folded(profile) == "a;[libc.so.6];[unknown];[nf] 2\n"
    assert write_folded(profile, addresses=True) == (
        "a;libc.so.6+0x12;0x7f0012;[nf]+0x4 1\na;libc.so.6+0x34;0x7f0012;[nf]+0x4 1\n"
    )


def test_addresses_of_a_deleted_file_are_folded_under_what_the_kernel_calls_it(profile_of):
    profile = profile_of([("a", 1, [Frame("x.so+0x5", "/lib/x.so (deleted)", symbolized=False)], 1)])
    assert write_folded(profile) == "a;[x.so (deleted)] 1\n"


def test_operator_plus_is_not_an_unresolved_address(profile_of):
    profile = profile_of([("a", 1, ["operator+", "operator++", "prog+0xzz"], 1)])
    assert write_folded(profile) == "a;operator+;operator++;prog+0xzz 1\n"


def test_kinds_are_marked_as_stackcollapse_does_when_asked(profile_of):
    frames = [Frame("u"), Frame("i", inlined=True), Frame("j", kind=JIT), Frame("k", kind=KERNEL)]
    profile = profile_of([("a", 1, frames, 1)])
    assert write_folded(profile, suffixes=True) == "a;u;i_[i];j_[j];k_[k] 1\n"
    assert write_folded(profile) == "a;u;i;j;k 1\n"


def test_a_sample_without_frames_is_a_line_with_the_command_alone(profile_of):
    assert write_folded(profile_of([("swapper", 0, [], 2)])) == "swapper 2\n"


def counts(data: bytes, **options) -> dict[str, int]:
    return folded_counts(folded(data, **options).stacks())


def test_marks_are_read_back_as_kinds():
    (frames,) = folded(b"a;u;i_[i];j_[j];k_[k] 1\n", comm_first=True).frames()
    assert frames == [Frame("u"), Frame("i", inlined=True), Frame("j", kind=JIT), Frame("k", kind=KERNEL)]
    assert frames[0].kind == USER


def test_commands_become_threads_and_counts_become_weights():
    read = folded(b"nginx;main;work 3\nbash;main 2\n")
    assert list(zip(read.comms(), read.column("weight"), strict=True)) == [("nginx", 3), ("bash", 2)]
    assert read.stacks().preferred == "weight"


def test_stacks_that_begin_with_a_function_get_the_files_name_as_command():
    read = folded(b"main;work 3\nmain 2\n", "app.folded")
    assert read.functions() == [["main", "work"], ["main"]]
    assert write_folded(read.stacks()) == "app.folded;main 2\napp.folded;main;work 3\n"


def test_equal_stacks_of_two_commands_share_their_nodes():
    assert len(folded(b"a;main;f 1\nb;main;f 1\n").writer.stacks) == 3


def test_huge_counts_are_kept():
    assert counts(b"a;main 123456789012\na;main;f 1\n") == {"a;main": 123456789012, "a;main;f": 1}


@pytest.mark.parametrize(
    ("data", "expected", "unit"),
    [
        (b"a;main 0.004\na;f 1.25\na;g 2\n", {"main": 4, "f": 1250, "g": 2000}, "counts/1000"),  # seconds
        (b"a;main 2.50\na;f 1.0\n", {"main": 25, "f": 10}, "counts/10"),
        (b"a;main 1e-3\na;f .5\n", {"main": 1, "f": 500}, "counts/1000"),
        (b"a;main 0.30000000000000004\na;f 1\n", {"main": 300_000_000, "f": 10**9}, "counts/1000000000"),
        (b"a;main 5e-12\na;f 0\n", {"main": 5}, f"counts/{10**12}"),
        (b"a;main 1234567890123.5\na;f 0.01\n", {"main": 123456789012350, "f": 1}, "counts/100"),
        (b"a;main 2.0\na;f 1.\n", {"main": 2, "f": 1}, "samples"),
    ],
)
def test_fractional_counts_are_all_multiplied_by_one_power_of_ten(data, expected, unit):
    read = folded(data, comm_first=True)
    assert folded_counts(read.stacks()) == {f"a;{function}": count for function, count in expected.items()}
    assert (read.stacks().event, read.stacks().unit) == (unit, unit)
    assert bool(read.notes) == (unit != "samples")


@pytest.mark.parametrize(
    ("data", "first_is_comm"),
    [
        (b"nginx;main;work 3\nbash;f 2\n", True),  # nothing but a command can be above main
        (b"ls;_start;main 3\nswapper;secondary_startup_64;f_[k] 1\n", True),
        (b"perf-12/345;__libc_start_call_main;main 3\n", True),
        (b"V8_Worker-?;[unknown];x 1\nnode;start_thread_[k];y 1\n", True),
        (b"parse;work 3\nmain_loop;work 2\n", False),  # may be functions
        (b"_start;main;work 3\n", False),
        (b"nginx;main;work 3\nmain;work 2\n", False),
        (b"runtime.main;main.main 3\n", False),
        (b"std::rt::go;main 3\n", False),
        (b"libc_start_main_stage2;main;work 3\n", False),
    ],
)
def test_the_first_frame_is_a_command_where_it_can_be_nothing_else_or_with_comm_first(data, first_is_comm):
    first = data.partition(b";")[0].decode()
    assert (folded(data, "file").comms()[0] == first) == first_is_comm
    assert folded(data, "file", comm_first=True).comms()[0] == first
    assert set(folded(data, "file", comm_first=False).comms()) == {"file"}


def test_lines_of_two_counts_are_read_for_the_one_that_is_asked():
    data = b"a;main;f 30 900\na;main;g 5\t0\na;main;h 0 1.0\n"
    assert counts(data, comm_first=True) == {"a;main;f": 900, "a;main;h": 1}
    assert "--column before" in folded(data).notes[0]
    assert counts(data, comm_first=True, column="before") == {"a;main;f": 30, "a;main;g": 5}


def test_a_function_that_ends_in_a_number_is_not_a_second_count_unless_all_do():
    assert counts(b"a;main;f 30 900\na;main;g 5\n") == {"a;main;f 30": 900, "a;main;g": 5}


def test_the_diff_of_two_recordings_reads_back(profile_of):
    from insitu.views.diff import diff_folded

    text = diff_folded(
        profile_of([("a", 1, ["main", "f"], 3)]), profile_of([("a", 1, ["main", "g"], 4)]), normalise=False
    )
    assert counts(text.encode()) == {"a;main;g": 4}
    assert counts(text.encode(), column="before") == {"a;main;f": 3}


def test_tabs_separate_counts_too():
    assert counts(b"a;main;operator new\t3\na;main \t 4\r\n") == {
        "a;main;operator new": 3,
        "a;main": 4,
    }


def test_bad_lines_are_left_out_when_asked_and_counted_with_their_numbers():
    data = b"a;main 1\nno count\na;main;f 2\na;main -3\n# x\na;main 99999999999999999999\na;main nan\n"
    read = folded(data, skip_bad_lines=True)
    assert folded_counts(read.stacks()) == {"a;main": 1, "a;main;f": 2}
    assert read.notes == [
        "4 bad lines were left out (line 2: no count at its end; line 4: negative count -3;"
        " line 6: count 99999999999999999999 does not fit in 64 bits; ...)"
    ]


def test_blank_lines_comments_byte_order_marks_and_carriage_returns_are_not_stacks():
    data = b"\xef\xbb\xbfa;main 1\r\n\r\n# made by hand\n  \na;main 2"
    assert counts(data) == {"a;main": 3}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no stacks"),
        (b"\n\n", "no stacks"),
        (b"a;b\n", "not a perf.data file, session or folded stacks .line 1: no count"),
        (b"a;b 1\na;b\n", "line 2: no count"),
        (b"a;b 1\na;b x\n", "line 2: no count"),
        (b"a;b 1\na;b nan\n", "line 2: no count"),
        (b"a;b -1\n", "line 1: negative count -1"),
        (b"a;b 1_000\n", "line 1: no count"),
        (b"a;b 9999999999999999999999\n", "line 1: count 9999999999999999999999 does not fit in 64 bits"),
        (b"a;b 1e300\n", "line 1: count 1e300 does not fit"),
        (b" 5\n", "line 1: a count without a stack"),
        ("a;b ٣\n".encode(), "line 1"),
        (b"PERFILE2\0\0", "binary"),
        (b"a" + b";b" * 9000 + b" 1\n", "9001 frames"),
        (b"a;b 999999999999999999\n" * 20, "64 bits"),
    ],
)
def test_what_is_not_a_folded_stack_is_refused_in_one_line(data, words):
    with pytest.raises(InsituError, match=words) as caught:
        folded(data, "x.folded")
    assert str(caught.value).startswith("x.folded: ")
    assert "\n" not in str(caught.value)


_NAMES = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], blacklist_characters=";"), min_size=1
)


@given(st.dictionaries(st.lists(_NAMES, min_size=2, max_size=6).map(";".join), st.integers(0, 50), min_size=1))
def test_what_was_folded_reads_back_as_it_was(written):
    written = {
        f"comm;{stack}": count for stack, count in written.items() if not stack.endswith("]") and "_[" not in stack
    }
    if not any(written.values()):
        return
    text = "".join(f"{stack} {count}\n" for stack, count in written.items())
    assert counts(text.encode(), comm_first=True) == {stack: count for stack, count in written.items() if count}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_profile_or_one_line_of_error(data):
    try:
        read = folded(data)
    except InsituError:
        return
    write_folded(read.stacks()).encode(errors="backslashreplace")


@given(st.lists(st.text(), min_size=1, max_size=5), st.text(min_size=1))
def test_hostile_names_keep_the_number_of_lines_and_frames(profile_of, names, comm):
    text = write_folded(profile_of([(comm, 7, [Frame(name) for name in names], 3)]))
    line, end = text[:-1], text[-1]
    assert end == "\n" and len(line.splitlines()) == 1
    stack, _, count = line.rpartition(" ")
    assert count == "3"
    assert len(stack.split(";")) == 1 + len(names)


def test_two_hundred_thousand_lines_fold_to_what_a_ten_line_folder_counts():
    chance = random.Random(7)
    lines = [
        (
            ";".join(["comm", *(f"f{chance.randrange(9)}" for _ in range(chance.randrange(1, 12)))]),
            chance.randrange(1, 4),
        )
        for _ in range(200_000)
    ]
    expected: Counter[str] = Counter()
    for stack, count in lines:
        expected[stack] += count
    data = "\n".join(f"{stack} {count}" for stack, count in lines).encode()
    assert counts(data, comm_first=True) == expected
