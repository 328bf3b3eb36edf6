"""Times: timespec, timeval, timers, what is left of a sleep, and dates in comments."""

from __future__ import annotations

import time
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Bytes, Wide
from insitu.syscalls.kinds.layout import Struct
from insitu.syscalls.kinds.numbers import enum_text, flags_text
from insitu.syscalls.kinds.signals import signal_text
from insitu.syscalls.kinds.structures import structure

__all__ = ["KINDS", "date_text", "time_text"]

_UTIME: Final = {0x3FFFFFFF: "UTIME_NOW", 0x3FFFFFFE: "UTIME_OMIT"}  # include/linux/stat.h
_INTERRUPTED: Final = (-4, -512, -513, -514, -516)  # EINTR, ERESTART*
_SIGEV_NONE, _SIGEV_SIGNAL, _SIGEV_THREAD, _SIGEV_THREAD_ID = 1, 0, 2, 4


def date_text(seconds: int, fraction: int = 0, unit: int = 1_000_000_000) -> str:
    """Returns ``2009-02-13T23:31:30.000004+0000``, in the local time zone; "" for no time at all or no valid one."""
    if not (seconds or fraction) or not 0 <= fraction < unit:
        return ""
    try:
        local = time.localtime(seconds)
    except (OverflowError, OSError, ValueError):
        return ""
    digits = f".{fraction:0{len(str(unit)) - 1}d}" if fraction else ""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}{digits}{time.strftime('%z', local)}"


def commented(text: str, date: str) -> str:
    """Returns a value with its date, where it has one."""
    return f"{text} /* {date} */" if date else text


def _pair(argument: Argument, size: int) -> tuple[int, int] | None:
    """Seconds and fraction of a timespec or timeval with members of ``size`` bytes."""
    data = argument.read(2 * size)
    if data is None:
        return None
    return int.from_bytes(data[:size], "little", signed=True), int.from_bytes(data[size:], "little", signed=True)


def time_text(argument: Argument, size: int, unit: str) -> str | None:
    """Returns ``{tv_sec=1, tv_nsec=5}``. ``unit``: "nsec" or "usec"."""
    pair = _pair(argument, size)
    return None if pair is None else f"{{tv_sec={pair[0]}, tv_{unit}={pair[1]}}}"


def long_of_time(argument: Argument) -> int:
    """Returns the bytes of a time's members: x32 has those of 64-bit programs."""
    return 4 if argument.call.enter.abi == "i386" else 8


def _time(unit: str, size: int = 0) -> Kind:
    kind_size = Bytes(2 * size) if size else Bytes(16)
    return Kind(lambda a: time_text(a, size or long_of_time(a), unit), kind_size)


def _interval(unit: str, size: int = 0) -> Kind:
    """itimerval, itimerspec."""

    def text(argument: Argument) -> str | None:
        each = size or long_of_time(argument)
        interval = time_text(argument, each, unit)
        value = time_text(argument.at(argument.value + 2 * each), each, unit)
        if interval is None or value is None:
            return None
        return f"{{it_interval={interval}, it_value={value}}}"

    return Kind(text, Bytes(4 * size) if size else Bytes(32))


def _left(unit: str, size: int = 0) -> Kind:
    """What is left of a sleep: written where a signal has interrupted it."""

    def text(argument: Argument) -> str | None:
        call = argument.call
        if call.exit is None or call.exit.ret not in _INTERRUPTED or _absolute(argument):
            return None
        return time_text(argument, size or long_of_time(argument), unit)

    return Kind(text, Bytes(2 * size) if size else Bytes(16))


def _absolute(argument: Argument) -> bool:
    """clock_nanosleep() with TIMER_ABSTIME writes nothing."""
    return bool(argument.given) and bool(argument.other(int(argument.given[0])) & 1)


def _file_time(argument: Argument, size: int, unit: str) -> str | None:
    pair = _pair(argument, size)
    if pair is None:
        return None
    seconds, fraction = pair
    text = time_text(argument, size, unit)
    if text is not None and unit == "nsec" and fraction in _UTIME:
        return argument.named(text, _UTIME[fraction])
    date = date_text(seconds, fraction, 1_000_000_000 if unit == "nsec" else 1_000_000)
    return None if text is None else commented(text, date)


def _file_times(unit: str, size: int = 0) -> Kind:
    """utimensat()'s and utimes()' two times."""

    def text(argument: Argument) -> str | None:
        each = size or long_of_time(argument)
        first = _file_time(argument, each, unit)
        second = _file_time(argument.at(argument.value + 2 * each), each, unit)
        return None if first is None or second is None else f"[{first}, {second}]"

    return Kind(text, Bytes(4 * size) if size else Bytes(32))


def _seconds_text(value: int) -> str:
    return commented(str(value), date_text(value))


def _utimbuf(argument: Argument) -> str | None:
    pair = _pair(argument, long_of_time(argument))
    if pair is None:
        return None
    return f"{{actime={_seconds_text(pair[0])}, modtime={_seconds_text(pair[1])}}}"


def _time_at(argument: Argument) -> str | None:
    value = argument.number(long_of_time(argument), signed=True)
    return None if value is None else f"[{_seconds_text(value)}]"


def _time_returned(argument: Argument) -> str:
    date = date_text(argument.long)
    return f"{argument.long} ({date})" if date else str(argument.long)


def _sigevent(argument: Argument) -> str | None:
    long = argument.long_size
    data = argument.read(long + 12)
    if data is None:
        return None
    value = int.from_bytes(data[:long], "little")
    number, notify, thread = (
        int.from_bytes(data[long + at : long + at + 4], "little", signed=True) for at in (0, 4, 8)
    )
    word = enum_text(argument, "sigevent", notify & 0xFFFFFFFF)
    number_text = str(number)
    if notify in (_SIGEV_SIGNAL, _SIGEV_THREAD, _SIGEV_THREAD_ID):
        number_text = signal_text(argument, number)
    low = int.from_bytes(data[:4], "little", signed=True)
    words = [
        f"sigev_value={{sival_int={low}, sival_ptr={hexadecimal(value)}}}",
        f"sigev_signo={number_text}",
        f"sigev_notify={word}",
    ]
    if notify == _SIGEV_THREAD_ID:
        words.append(f"sigev_notify_thread_id={thread}")
    elif notify == _SIGEV_THREAD:
        rest = argument.read(2 * long, long + 8)
        if rest is not None:
            function, attributes = (int.from_bytes(rest[at : at + long], "little") for at in (0, long))
            words += [
                f"sigev_notify_function={hexadecimal(function)}",
                f"sigev_notify_attributes={hexadecimal(attributes)}",
            ]
    return "{" + ", ".join(words) + "}"


_TIMEX: Final = Struct(
    "modes flags32(adjtimex); offset long; freq long; maxerror long; esterror long; status flags32(adjtimex_status);"
    " constant long; precision long; tolerance long; tv_sec long; tv_usec long; tick long; ppsfreq long; jitter long;"
    " shift i32; stabil long; jitcnt long; calcnt long; errcnt long; stbcnt long; tai i32; pad44"
)


def _timex(argument: Argument) -> str | None:
    data = argument.read(_TIMEX.size(argument.long_size))
    if data is None:
        return None
    words = _TIMEX.words(argument, data)
    seconds = next(index for index, word in enumerate(words) if word.startswith("tv_sec="))
    words[seconds : seconds + 2] = [f"time={{{words[seconds]}, {words[seconds + 1]}}}"]
    return "{" + ", ".join(words) + "}"


def _clock_state(argument: Argument) -> str:
    word = argument.facts.constant("adjtimex_state", argument.signed)
    return f"{argument.signed} ({word})" if word else str(argument.signed)


def _clock(argument: Argument) -> str:
    """Clocks of descriptors and of processes, which have these in the upper bits, are shown as numbers."""
    return enum_text(argument, "clock", argument.value & 0xFFFFFFFF)


KINDS: Kinds = {
    "timespec": _time("nsec"),
    "timespec64": _time("nsec", 8),
    "timeval": _time("usec"),
    "timezone": structure("tz_minuteswest int; tz_dsttime int"),
    "itimerval": _interval("usec"),
    "itimerspec": _interval("nsec"),
    "itimerspec64": _interval("nsec", 8),
    "left": _left("nsec"),
    "left64": _left("nsec", 8),
    "file_timespecs": _file_times("nsec"),
    "file_timespecs64": _file_times("nsec", 8),
    "file_timevals": _file_times("usec"),
    "utimbuf": Kind(_utimbuf, Bytes(16)),
    "time_at": Kind(_time_at, Bytes(8)),
    "time": Kind(_time_returned),
    "clock": Kind(_clock),
    "sigevent": Kind(_sigevent, Bytes(64)),
    "timex": Kind(_timex, Wide(Bytes(208), Bytes(128))),
    "clock_state": Kind(_clock_state),
    "timer_flags": Kind(lambda a: flags_text(a, "timer", a.value & 0xFFFFFFFF)),
}
