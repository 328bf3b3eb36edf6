"""Writes of a watched address: the heading of a group names the program's function, not the library's."""

from insitu.views.guard_watch import write_blocks


def test_a_group_is_named_by_the_innermost_frame_of_the_program() -> None:
    stack = [
        {"function": "__memset_avx2", "module": "/usr/lib/libc.so.6", "file": "memset.S", "line": 5},
        {"function": "fill", "module": "/home/x/prog", "file": "/home/x/fill.c", "line": 9},
        {"function": "main", "module": "/home/x/prog", "file": "/home/x/main.c", "line": 3},
    ]
    write = {"ts_ns": 1, "tid": 7, "name": "prog", "before": None, "after": 16, "stack": stack}
    lines = ["".join(text for text, _ in line) for line in write_blocks([write])]
    assert lines[1] == "1 write in fill, the last one by prog (7): ? -> 0x10"
