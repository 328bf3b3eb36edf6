"""Which kinds of BPF links this kernel can make, found out by asking for ones that cannot exist."""

import errno
import os
from functools import cache

from insitu.kernel import bpf
from insitu.kernel.bpf_abi import AttachType, ProgramType

__all__ = ["has_fentry", "has_kprobe_multi", "has_perf_links", "has_uprobe_multi"]

_RETURN_0 = bytes.fromhex("b700000000000000 9500000000000000")  # r0 = 0; exit
_UNKNOWN = {errno.EINVAL, errno.EOPNOTSUPP, errno.E2BIG, 524}
_NO_SUCH_FUNCTION = "insitu_no_such_function"


def _load(attach_type: int) -> int | None:
    try:
        return bpf.load_program(_RETURN_0, ProgramType.KPROBE, attach_type=attach_type)[0]
    except bpf.BpfError:
        return None


@cache
def has_fentry(function_btf_id: int) -> bool:
    """Whether this kernel takes programs for the entry of a function, given by its number in the kernel's BTF."""
    try:
        program, _ = bpf.load_program(
            _RETURN_0, ProgramType.TRACING, attach_type=AttachType.TRACE_FENTRY, attach_btf_id=function_btf_id
        )
    except bpf.BpfError:
        return False
    os.close(program)
    return True


@cache
def has_perf_links() -> bool:
    """Whether perf events take links, and with them cookies (Linux 5.15)."""
    program = _load(0)
    if program is None:
        return False
    try:
        os.close(bpf.link_perf_event(program, program))  # not a perf event: EBADF or EINVAL tell it apart
        return True
    except bpf.BpfError as error:
        return error.errno == errno.EBADF
    finally:
        os.close(program)


@cache
def has_kprobe_multi() -> bool:
    """Whether one link takes many kernel functions (Linux 5.18, CONFIG_FPROBE)."""
    program = _load(AttachType.TRACE_KPROBE_MULTI)
    if program is None:
        return False
    try:
        os.close(bpf.link_kprobe_multi(program, [_NO_SUCH_FUNCTION], [0]))
        return True
    except bpf.BpfError as error:
        return error.errno not in _UNKNOWN
    finally:
        os.close(program)


@cache
def has_uprobe_multi() -> bool:
    """Whether one link takes many places of a binary (Linux 6.6)."""
    program = _load(AttachType.TRACE_UPROBE_MULTI)
    if program is None:
        return False
    try:
        os.close(bpf.link_uprobe_multi(program, "/", [0], [0]))  # a directory has no code: EBADF
        return True
    except bpf.BpfError as error:
        return error.errno == errno.EBADF
    finally:
        os.close(program)
