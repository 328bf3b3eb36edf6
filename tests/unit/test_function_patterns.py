"""Which kernel functions a pattern of insitu calls names."""

import pytest

from insitu.errors import InsituError
from insitu.record.ftrace.functions import matching_functions

KNOWN = [("vfs_read", ""), ("vfs_readv", ""), ("ext4_read_inode", "ext4"), ("ext4_map", "ext4"), ("xfs_read", "xfs")]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("vfs_read", ["vfs_read"]),
        ("vfs_*", ["vfs_read", "vfs_readv"]),
        ("*read*:mod:ext4", ["ext4_read_inode"]),
        (":mod:ext4", ["ext4_read_inode", "ext4_map"]),
        (":mod:?fs", ["xfs_read"]),
    ],
)
def test_a_pattern_is_a_name_a_glob_or_either_of_a_module(pattern, found) -> None:
    assert matching_functions(pattern, KNOWN) == found


@pytest.mark.parametrize(("pattern", "nearest"), [("vfs_raed", "vfs_read"), (":mod:ext5", "ext4")])
def test_what_names_no_function_is_refused_with_the_nearest_name(pattern, nearest) -> None:
    with pytest.raises(InsituError, match=f"did you mean '{nearest}'") as refused:
        matching_functions(pattern, KNOWN)
    assert refused.value.status == 2
