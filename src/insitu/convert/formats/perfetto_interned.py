"""Names, stacks and frames that Perfetto's packets refer to by number."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from numpy.typing import NDArray
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

from insitu.convert.formats.protobuf_rows import filled
from insitu.valid_text import valid_text

if TYPE_CHECKING:
    import polars

__all__ = ["SEQUENCE", "Interned", "packet_bytes", "packets", "trace"]

SEQUENCE: Final = 1
"""The one packet sequence of our files."""
_BYTES: Final = ("debug_annotation_string_values", "function_names", "mapping_paths", "source_paths")


class Interned:
    """What has been given a number (iid), and what the next packet must say about it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Any], int] = {}
        self._counts: dict[str, int] = {}
        self._new = schema.InternedData()

    def packet(self) -> bytes:
        """The packet with what is new since the last one."""
        packet = schema.TracePacket(trusted_packet_sequence_id=SEQUENCE, interned_data=self._new, sequence_flags=2)
        self._new = schema.InternedData()
        return packet_bytes(packet)

    def ids(self, kind: str, texts: Sequence[str]) -> list[int]:
        """The numbers of texts; ``kind`` is a field of InternedData."""
        return [self._text(kind, text) for text in texts]

    def callstacks(
        self, stacks: Sequence[int], parent: NDArray[Any], frame: NDArray[Any], frames: "polars.DataFrame"
    ) -> list[int]:
        """The numbers of stacks of a call tree (see core_tables.STACK)."""
        columns = [frames[name].to_list() for name in ("function", "module", "file", "line")]
        parents, frame_of = parent.tolist(), frame.tolist()
        numbers: dict[int, int] = {}
        found = []
        for stack in stacks:
            chain: list[int] = []
            node = stack
            while 0 < node < len(frame_of) and 0 <= (at := frame_of[node]) < len(frames) and len(chain) < 8192:
                if at not in numbers:
                    numbers[at] = self._frame(*(column[at] for column in columns))
                chain.append(numbers[at])
                node = parents[node]
            chain.reverse()
            number, is_new = self._number("callstacks", tuple(chain))
            if is_new:
                self._new.callstacks.add(iid=number, frame_ids=chain)
            found.append(number)
        return found

    def _frame(self, function: str, module: str, file: str, line: int) -> int:
        number, is_new = self._number("frames", (function, module, file, line))
        if is_new:
            added = self._new.frames.add(
                iid=number, function_name_id=self._text("function_names", function), mapping_id=self._mapping(module)
            )
            if file and line > 0:
                added.source_path_iid, added.line_number = self._text("source_paths", file), line
        return number

    def _mapping(self, module: str) -> int:
        number, is_new = self._number("mappings", module)
        if is_new:
            path = [self._text("mapping_paths", part) for part in module.split("/") if part]
            self._new.mappings.add(iid=number, path_string_ids=path)
        return number

    def _text(self, kind: str, text: str) -> int:
        number, is_new = self._number(kind, text)
        if is_new:
            valid = valid_text(text)
            if kind in _BYTES:
                getattr(self._new, kind).add(iid=number, str=valid.encode())
            else:
                getattr(self._new, kind).add(iid=number, name=valid)
        return number

    def _number(self, kind: str, what: Any) -> tuple[int, bool]:
        known = self._known.get((kind, what))
        if known is not None:
            return known, False
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        self._known[kind, what] = number
        return number, True


def trace(**fields: Any) -> Any:
    """A trace of one packet with these fields."""
    return schema.Trace(packet=[schema.TracePacket(trusted_packet_sequence_id=SEQUENCE, **fields)])


def packets(
    make: Callable[..., Any], columns: Mapping[str, NDArray[Any]], *, fixed: Collection[str] = ()
) -> Iterator[bytes]:
    """The bytes of the packets that ``make`` makes, one of each row of the columns (see ``filled``)."""
    for part in filled(make, columns, fixed=fixed):
        yield part.bytes.tobytes()


def packet_bytes(*packets: Any) -> bytes:
    """The bytes of packets in a trace."""
    data: bytes = schema.Trace(packet=packets).SerializeToString()
    return data
