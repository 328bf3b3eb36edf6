"""Which kinds of BPF links this kernel can make, found out by asking for impossible ones: nothing is attached."""

import errno
import os
from collections.abc import Callable
from functools import cache

from insitu.capabilities.result import Result, asked_once, error_number, no, opened, refused, yes
from insitu.kernel import bpf
from insitu.kernel.bpf_abi import AttachType, ProgramType

__all__ = ["fentry", "kprobe_multi", "perf_links", "uprobe_multi"]

_RETURN_0 = bytes.fromhex("b700000000000000 9500000000000000")  # r0 = 0; exit
_NOT_KNOWN = {errno.EINVAL, errno.EOPNOTSUPP, errno.E2BIG}
_NO_SUCH_FUNCTION = "insitu_no_such_function"


@cache
def fentry(function_btf_id: int) -> Result[None]:
    """Whether this kernel takes programs for the entry of a function, given by its id in the kernel's BTF."""
    return opened(
        lambda: bpf.load_program(
            _RETURN_0, ProgramType.TRACING, attach_type=AttachType.TRACE_FENTRY, attach_btf_id=function_btf_id
        )[0]
    )


@asked_once
def perf_links() -> Result[None]:
    """Whether perf events take links, and with them cookies."""
    # A program is not a perf event: a kernel that would make the link finds that out, with EBADF.
    return _linked(
        0, lambda program: bpf.link_perf_event(program, program), lambda code: code == errno.EBADF, "Linux 5.15"
    )


@asked_once
def kprobe_multi() -> Result[None]:
    """Whether one link takes many kernel functions."""
    return _linked(
        AttachType.TRACE_KPROBE_MULTI,
        lambda program: bpf.link_kprobe_multi(program, [_NO_SUCH_FUNCTION], [0]),
        lambda code: code not in _NOT_KNOWN,
        "Linux 5.18 with CONFIG_FPROBE",
    )


@asked_once
def uprobe_multi() -> Result[None]:
    """Whether one link takes many places of a binary."""
    # A directory has no code: EBADF.
    return _linked(
        AttachType.TRACE_UPROBE_MULTI,
        lambda program: bpf.link_uprobe_multi(program, "/", [0], [0]),
        lambda code: code == errno.EBADF,
        "Linux 6.6",
    )


def _linked(attach_type: int, link: Callable[[int], int], known: Callable[[int], bool], since: str) -> Result[None]:
    """Ask for a link; ``known`` says by the errno of the refusal whether the kernel knows this kind of link."""
    try:
        program = bpf.load_program(_RETURN_0, ProgramType.KPROBE, attach_type=attach_type)[0]
    except bpf.BpfError as error:
        return refused(error, since)
    try:
        os.close(link(program))
    except bpf.BpfError as error:
        code = error_number(error)
        return yes() if known(code) else no("this kernel does not have this kind of link", since, code)
    finally:
        os.close(program)
    return yes()
