"""Which decoder shows which call: -e abbrev= and -e raw= choose by call."""

from __future__ import annotations

from dataclasses import replace

from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Call
from insitu.syscalls.call_sets import Calls
from insitu.syscalls.decode import Decoder, Piece
from insitu.syscalls.facts import facts_of

__all__ = ["ChosenDecoder"]


class ChosenDecoder(Decoder):
    """A decoder that shows structures whole except of ``abbreviated`` calls (None: all), numbers of ``raw`` ones."""

    def __init__(self, options: TextOptions, abbreviated: Calls | None, raw: Calls) -> None:
        super().__init__(options)
        self._verbose = Decoder(replace(options, verbose=True))
        self._abbreviated = abbreviated
        self._raw = raw

    def arguments(self, call: Call) -> list[Piece]:
        """See Decoder."""
        key = (call.enter.abi, call.enter.nr)
        if key in self._raw:
            known = facts_of(call.enter.abi).calls.get(call.enter.nr)
            number = len(known.parameters) if known else 6
            return [Piece(f"{value:#x}" if value else "0", False) for value in call.enter.args[:number]]
        if self._abbreviated is not None and key not in self._abbreviated:
            return self._verbose.arguments(call)
        return super().arguments(call)

    def result(self, call: Call) -> str:
        """See Decoder."""
        if (call.enter.abi, call.enter.nr) not in self._raw or call.exit is None:
            return super().result(call)
        if call.failed:
            return f"-1 (errno {-call.exit.ret})"
        return f"{call.exit.ret & 0xFFFFFFFFFFFFFFFF:#x}" if call.exit.ret else "0"
