"""System V and POSIX message queues, semaphores, shared memory."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes
from insitu.syscalls.kinds.layout import Struct, hex_or_0
from insitu.syscalls.kinds.numbers import enum_text, flags_text
from insitu.syscalls.kinds.strings import quoted

__all__ = ["KINDS"]

_IPC_RMID, _IPC_SET, _IPC_STAT, _IPC_INFO = range(4)
_IPC_64: Final = 0x100
_O_CREAT: Final = 0x40
_SHM_HUGE: Final = 0xFC000000


def _key(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    if value or argument.options.constants == "raw":
        return hex_or_0(value)
    return "0 /* IPC_PRIVATE */" if argument.options.constants == "verbose" else "IPC_PRIVATE"


def _get_flags(argument: Argument) -> str:
    """Flags, and permissions in octal: ``IPC_CREAT|0600``."""
    value = argument.value & 0xFFFFFFFF
    flags, mode = value & ~0o777, value & 0o777
    words = []
    rest = flags
    if argument.given[0] == "shmget" and flags & _SHM_HUGE:
        rest = flags & ~_SHM_HUGE
        words.append(f"{flags >> 26}<<SHM_HUGE_SHIFT")
    if rest:
        words.insert(0, flags_text(argument, argument.given[0], rest))
    return "|".join([*words, _mode(mode)])


def _mode(mode: int) -> str:
    return f"0{mode:o}".zfill(3)


def _command(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    prefix = "IPC_64|" if value & _IPC_64 else ""
    return prefix + enum_text(argument, argument.given[0], value & ~_IPC_64)


def _perm(argument: Argument, data: bytes) -> str:
    uid, gid, mode = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8, 20))
    text = f"{{uid={_id(uid)}, gid={_id(gid)}, mode={_mode(mode)}, "
    key, cuid, cgid = (int.from_bytes(data[at : at + 4], "little") for at in (0, 12, 16))
    return text + f"key={key}, cuid={_id(cuid)}, cgid={_id(cgid)}}}"


def _id(value: int) -> str:
    return "-1" if value == 0xFFFFFFFF else str(value)


def _long(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _shared(argument: Argument) -> str | None:
    """struct shmid64_ds (include/uapi/asm-generic/shmbuf.h)."""
    command = argument.other(1) & 0xFF
    if command in (_IPC_STAT, 13, 15):
        data = argument.read(112) if argument.at_exit else None
        if data is None:
            return None
        size, atime, dtime, ctime = (_long(data, at) for at in (48, 56, 64, 72))
        cpid, lpid = (int.from_bytes(data[at : at + 4], "little") for at in (80, 84))
        return (
            f"{{shm_perm={_perm(argument, data)}, shm_segsz={size}, shm_cpid={cpid}, shm_lpid={lpid}, "
            f"shm_nattch={_long(data, 88)}, shm_atime={atime}, shm_dtime={dtime}, shm_ctime={ctime}}}"
        )
    if command == _IPC_SET:
        data = argument.read(48) if not argument.at_exit else None
        return None if data is None else f"{{shm_perm={_set_perm(data)}}}"
    return None if argument.value else "NULL"


def _set_perm(data: bytes) -> str:
    uid, gid, mode = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8, 20))
    return f"{{uid={_id(uid)}, gid={_id(gid)}, mode={_mode(mode)}}}"


def _queue(argument: Argument) -> str | None:
    """struct msqid64_ds."""
    command = argument.other(1) & 0xFF
    if command in (_IPC_STAT, 11, 13):
        data = argument.read(120) if argument.at_exit else None
        if data is None:
            return None
        stime, rtime, ctime, _, count, most = (_long(data, at) for at in range(48, 96, 8))
        lspid, lrpid = (int.from_bytes(data[at : at + 4], "little") for at in (96, 100))
        return (
            f"{{msg_perm={_perm(argument, data)}, msg_stime={stime}, msg_rtime={rtime}, "
            f"msg_ctime={ctime}, msg_qnum={count}, msg_qbytes={most}, msg_lspid={lspid}, msg_lrpid={lrpid}}}"
        )
    if command == _IPC_SET:
        data = argument.read(96) if not argument.at_exit else None
        return None if data is None else f"{{msg_perm={_set_perm(data)}, msg_qbytes={_long(data, 88)}}}"
    return None if argument.value else "NULL"


_OPERATION: Final = Struct("sem_num u16; sem_op i16; sem_flg flags16(sem_flags)")


def _operations(argument: Argument) -> str | None:
    words = []
    count = argument.count or 0
    for index in range(min(count, 500)):
        if index >= argument.options.string_limit and not argument.options.verbose:
            words.append("...")
            break
        at = argument.at(argument.value + 6 * index)
        text = _OPERATION.text(at)
        if text is None:
            if not words:
                return None
            words.append(f"... /* {hexadecimal(at.value)} */")
            break
        words.append(text)
    return f"[{', '.join(words)}]"


def _semaphore_value(argument: Argument) -> str | None:
    return hex_or_0(argument.value) if argument.value else "NULL"


def _message(argument: Argument) -> str | None:
    """struct msgbuf: a type, and as many bytes as the next argument, or the result, says."""
    size = argument.long_size
    kind = argument.number(size, signed=True)
    if kind is None:
        return None
    length = argument.count or 0
    limit = argument.options.string_limit
    data = argument.memory.read(argument.value + size, min(length, limit)) if length else b""
    if data is None:
        return None
    text = quoted(data[:length], argument.options.strings_in_hex) + ("..." if length > limit else "")
    return f"{{mtype={kind}, mtext={text}}}"


_ATTRIBUTES: Final = Struct(
    "mq_flags flagslong(open_flags); mq_maxmsg long; mq_msgsize long; mq_curmsgs long; pad8; pad8; pad8; pad8"
)


def _no_attributes(call: Call) -> bool:
    return not call.enter.args[1] & _O_CREAT


def _open_attributes(argument: Argument) -> str | None:
    return _ATTRIBUTES.text(argument) if argument.value else "NULL"


KINDS: Kinds = {
    "ipc_key": Kind(_key),
    "ipc_flags": Kind(_get_flags),
    "ipc_command": Kind(_command),
    "shmid_ds": Kind(_shared, Bytes(112), null=True),
    "msqid_ds": Kind(_queue, Bytes(120), null=True),
    "sembufs": Kind(_operations, Bytes(6)),
    "sem_value": Kind(_semaphore_value),
    "msgbuf": Kind(_message, Bytes(4096)),
    "mq_attributes": Kind(_ATTRIBUTES.text, Bytes(64)),
    "mq_open_attributes": Kind(_open_attributes, Bytes(64), _no_attributes, null=True),
    "mq_open_mode": Kind(lambda a: f"0{a.value & 0xFFFF:03o}", skipped=_no_attributes),
}
