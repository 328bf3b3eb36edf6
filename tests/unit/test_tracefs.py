"""Format files of tracepoints: what each kind of field declares."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.kernel.tracefs import Field, parse_format

# Shaped as Documentation/trace/events.rst describes; every kind of declaration that kernels print once.
FORMAT = """name: sample
ID: 372
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;
\tfield:unsigned long args[6];\toffset:32;\tsize:48;\tsigned:0;
\tfield:__data_loc char[] path;\toffset:80;\tsize:4;\tsigned:0;
\tfield:__rel_loc u8[] payload;\toffset:84;\tsize:4;\tsigned:0;
\tfield:char task[TASK_COMM_LEN];\toffset:88;\tsize:16;\tsigned:0;
\tfield:struct file *file;\toffset:104;\tsize:8;\tsigned:0;
\tfield:long state;\toffset:112;\tsize:8;\tsigned:1;
\tfield:s32 sizes[];\toffset:120;\tsize:12;\tsigned:1;

print fmt: "comm=%s", REC->comm
"""


def test_every_kind_of_field_is_read() -> None:
    event = parse_format(FORMAT, "test:sample")
    assert event.id == 372
    assert [field.name for field in event.common] == ["common_type", "common_pid"]
    assert event.fields == (
        Field("comm", "char", 8, 16, False, 16),
        Field("filename", "const char *", 24, 8, False),
        Field("args", "unsigned long", 32, 48, False, 6),
        Field("path", "char", 80, 4, False, 0, "data"),
        Field("payload", "u8", 84, 4, False, 0, "relative"),
        Field("task", "char", 88, 16, False, 16),
        Field("file", "struct file *", 104, 8, False),
        Field("state", "long", 112, 8, True),
        Field("sizes", "s32", 120, 12, True, 3),
    )
    assert event.print_format == '"comm=%s", REC->comm'


def test_a_format_without_a_number_is_refused() -> None:
    with pytest.raises(InsituError, match="has no ID"):
        parse_format(FORMAT.replace("ID:", "id:"), "test:sample")


@given(cut=st.integers(0, len(FORMAT)), noise=st.text(max_size=8))
def test_a_damaged_format_ends_in_an_error_or_fewer_fields(cut: int, noise: str) -> None:
    with suppress(InsituError):
        parse_format(FORMAT[:cut] + noise + FORMAT[cut + len(noise) :], "test:sample")
