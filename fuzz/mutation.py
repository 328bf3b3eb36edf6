"""Changes inputs at random: bits, integers, blocks, lines, values of JSON, and parts of other inputs."""

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from fuzz.bundle import is_bundle, pack, unpack

__all__ = ["Mutator"]

_SMALL_BYTES: Final = 2048
_MAX_JSON_BYTES: Final = 1 << 14
_MAX_COPIES: Final = 64

_INTEGERS: Final = sorted(
    {0, 1, 2, 3, 4, 7, 8, 16, 32, 100, 255, 256, 4095, 4096, 65535, 65536, 1 << 20, 1 << 24}
    | {(1 << bits) + offset for bits in (31, 32, 40, 47, 62, 63, 64) for offset in (-1, 0, 1)}
    | {-1, -2, -128, -(1 << 15), -(1 << 31), -(1 << 63)}
)
_NUMBER: Final = re.compile(rb"(?:0x)?[0-9a-fA-F]*\d[0-9a-fA-F]*")
_WORDS: Final = (
    *(b"", b"\0", b"\n", b"\r", b"\t", b" ", b"\x1b[31m", b"\xff"),
    *(b"\xc2\x85", b"\xe2\x80\xae", b"%s", b"../", b"/"),
)
_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, "", "\0", "\ud800", "a\nb", "x" * 3000, 0.5, float("nan"), float("inf"), -0.0, 1e308),
    *([], {}, [[]], [None], {"": {}}, [1, "a"], "raw", "u64", "/etc/passwd", "../../x", "9" * 400),
    *_INTEGERS,
)


class Mutator:
    """Makes inputs from those of a corpus. The same random numbers give the same inputs."""

    def __init__(self, rng: random.Random, corpus: Sequence[bytes], *, text: bool) -> None:
        """``text``: of lines and words, so that these are the units of most changes."""
        self._rng = rng
        self._corpus = corpus
        self._byte_steps = (
            self._flip,
            self._integer,
            self._copy,
            self._delete,
            self._insert,
            self._cut,
            self._splice,
        )
        self._text_steps = (self._number, self._word, self._line, self._swap_words, *self._byte_steps)
        self._text = text
        self._most = 2 * max(_SMALL_BYTES, *map(len, corpus))  # large inputs take long and show little more

    def mutated(self, data: bytes) -> bytes:
        """A changed copy of ``data``, at most twice as long as the longest input of the corpus was at first."""
        if is_bundle(data):
            return self._bundle(data)
        return self._mutated(data, self._corpus)

    def _bundle(self, data: bytes) -> bytes:
        rng = self._rng
        members = unpack(data)
        for _ in range(1 if rng.random() < 0.8 else 2):
            if not members:
                break
            name = rng.choice(list(members))
            others = [
                found for other in self._corpus if is_bundle(other) and (found := unpack(other).get(name)) is not None
            ]
            choice = rng.random()
            if choice < 0.02:
                del members[name]
            elif choice < 0.06 and others:
                members[name] = rng.choice(others)
            else:
                members[name] = self._mutated(members[name], others or [members[name]])
        return pack(members)

    def _mutated(self, data: bytes, others: Sequence[bytes]) -> bytes:
        rng = self._rng
        if data[:1] in (b"{", b"[") and len(data) <= _MAX_JSON_BYTES and rng.random() < 0.8:
            try:
                return self._json(data)
            except (ValueError, RecursionError):
                pass
        looks_like_text = self._text or (b"\0" not in data[:256] and data[:4096].isascii())
        steps = self._text_steps if looks_like_text else self._byte_steps
        changed = bytearray(data)
        for _ in range(1 + int(rng.expovariate(0.7))):
            changed = self._step(rng.choice(steps), changed, others)
        return bytes(changed[: self._most])

    def _step(self, step: Callable[..., bytearray], data: bytearray, others: Sequence[bytes]) -> bytearray:
        return step(data, others) if step == self._splice else step(data)

    def _range(self, size: int) -> tuple[int, int]:
        """Begin and end of a part, more often a short one."""
        start = self._rng.randrange(size + 1)
        return start, min(size, start + int(2 ** (self._rng.random() * 12)))

    def _flip(self, data: bytearray) -> bytearray:
        for _ in range(self._rng.randint(1, 3) if data else 0):
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
        return data

    def _integer(self, data: bytearray) -> bytearray:
        """Overwrite a field, more often an aligned one, with a value at which code goes wrong or one near its own."""
        rng = self._rng
        size = rng.choice((1, 1, 2, 4, 4, 8))
        if len(data) < size:
            return data
        at = rng.randrange(len(data) - size + 1)
        if rng.random() < 0.7:
            at -= at % size
        value = rng.choice((*_INTEGERS, len(data), len(data) - at, rng.getrandbits(64)))
        if rng.random() < 0.3:
            value = int.from_bytes(data[at : at + size], "little") + rng.randint(-9, 9)
        field = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        data[at : at + size] = field[::-1] if rng.random() < 0.1 else field
        return data

    def _copy(self, data: bytearray) -> bytearray:
        start, end = self._range(len(data))
        at = self._rng.randrange(len(data) + 1)
        part = bytes(data[start:end])
        if self._rng.random() < 0.5:
            data[at : at + len(part)] = part
        else:
            data[at:at] = part * (1 if self._rng.random() < 0.9 else self._rng.randint(2, _MAX_COPIES))
        return data

    def _delete(self, data: bytearray) -> bytearray:
        start, end = self._range(len(data))
        del data[start:end]
        return data

    def _insert(self, data: bytearray) -> bytearray:
        at = self._rng.randrange(len(data) + 1)
        data[at:at] = self._rng.choice((self._rng.randbytes(self._rng.randint(1, 16)), *_WORDS))
        return data

    def _cut(self, data: bytearray) -> bytearray:
        return data[: self._rng.randrange(len(data) + 1)] if self._rng.random() < 0.4 else self._flip(data)

    def _splice(self, data: bytearray, others: Sequence[bytes]) -> bytearray:
        """A part of another input in the place of a part."""
        other = self._rng.choice(others)
        start, end = self._range(len(other))
        low, high = self._range(len(data))
        data[low:high] = other[start:end]
        return data

    def _number(self, data: bytearray) -> bytearray:
        found = [match.span() for match in _NUMBER.finditer(data, 0, 1 << 14)]
        if not found:
            return self._insert(data)
        start, end = self._rng.choice(found)
        value = self._rng.choice(_INTEGERS)
        form = self._rng.choice(("%d", "%x", "%#x", "%d.5", "%d" * 9))
        data[start:end] = (form % ((value,) * (form.count("%")))).encode()
        return data

    def _word(self, data: bytearray) -> bytearray:
        """A word, or the break after one, becomes another."""
        spans = [match.span() for match in re.finditer(rb"\w+|[^\w\s]|\s+", bytes(data[: 1 << 14]))]
        if not spans:
            return self._insert(data)
        (start, end), (low, high) = self._rng.choice(spans), self._rng.choice(spans)
        data[start:end] = self._rng.choice((*_WORDS, bytes(data[low:high]), bytes(data[start:end]) * 2))
        return data

    def _swap_words(self, data: bytearray) -> bytearray:
        words = re.findall(rb"\w+|[^\w\s]|\s+", bytes(data[: 1 << 14]))
        if len(words) > 1:
            i, j = self._rng.randrange(len(words)), self._rng.randrange(len(words))
            words[i], words[j] = words[j], words[i]
            data[: 1 << 14] = b"".join(words)
        return data

    def _line(self, data: bytearray) -> bytearray:
        lines = bytes(data).splitlines(keepends=True)
        if not lines:
            return data
        i, j = self._rng.randrange(len(lines)), self._rng.randrange(len(lines))
        match self._rng.randrange(4):
            case 0:
                del lines[i]
            case 1:
                lines.insert(i, lines[j])
            case 2:
                lines[i], lines[j] = lines[j], lines[i]
            case _:
                lines[i] = lines[i] * self._rng.choice((2, 3, 50))
        return bytearray(b"".join(lines))

    def _json(self, data: bytes) -> bytes:
        tree = json.loads(data)
        for _ in range(self._rng.choice((1, 1, 1, 2, 3))):
            places: list[tuple[Any, Any]] = []
            _containers(tree, places)
            if not places:
                tree = self._rng.choice(_VALUES)
                break
            holder, key = self._rng.choice(places)
            value = holder[key]
            choice = self._rng.random()
            if choice < 0.15:
                del holder[key]
            elif choice < 0.3:
                other, name = self._rng.choice(places)
                if other is not value:
                    holder[key] = json.loads(json.dumps(other[name]))
            elif choice < 0.4 and isinstance(value, str):
                holder[key] = self._mutated_text(value)
            elif choice < 0.45:
                holder[key] = [value]
            elif choice < 0.5 and isinstance(holder, dict):
                holder[self._mutated_text(key)] = value
            elif choice < 0.55 and isinstance(holder, list):
                holder.extend([value] * self._rng.choice((1, 2, 100 if len(data) < _SMALL_BYTES else 2)))
                break  # more would multiply it again
            else:
                holder[key] = self._rng.choice(_VALUES)
        return json.dumps(tree).encode()[: 2 * self._most]

    def _mutated_text(self, value: str) -> str:
        return self._flip(bytearray(value.encode(errors="replace"))).decode(errors="replace")


def _containers(tree: Any, places: list[tuple[Any, Any]]) -> None:
    """Every place of a value: the list or object that it is in, and its index or key."""
    keys = range(len(tree)) if isinstance(tree, list) else list(tree) if isinstance(tree, dict) else ()
    for key in keys:
        places.append((tree, key))
        _containers(tree[key], places)
