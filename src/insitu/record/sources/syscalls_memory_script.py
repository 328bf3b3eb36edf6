"""The part of the script for system calls (syscalls_script.py) that reads what arguments point to, as the words of
insitu.syscalls.capture_words say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from insitu.record.sources.syscalls_map_words import EXECVE, WORD_MASK, WORDS, WRITES_MORE
from insitu.syscalls import capture_words as words
from insitu.syscalls.call_word import ABI_SHIFT, RETRY
from insitu.syscalls.capture import Array, Bytes, Capture, Linked, String

__all__ = ["further", "indented", "pick", "placed"]


def pick(index: str) -> str:
    """One of the six arguments by its position."""
    chain = "$a5"
    for n in range(4, -1, -1):
        chain = f"{index} == {n} ? $a{n} : {chain}"
    return f"({chain})"


def placed(word: str, ret: str, own: str = "") -> list[str]:
    """What a word describes: $address, $how, $count, $each and $size, with ``own`` in front of their names."""
    return [
        f"${own}address = {pick(f'({word} & 7)')};",
        f"${own}how = ({word} >> 3) & 7;",
        f"${own}counted = ({word} >> {words.COUNT_SHIFT}) & 7;",
        f"${own}count = (uint64)1;",
        f"if (${own}counted != 0) {{",
        f"    ${own}count = ${own}counted == {words.RETURNED} ? {ret} : {pick(f'(${own}counted - 1)')};",
        f"    if ({word} & {words.COUNT_AT}) {{ ${own}count = (uint64)*(uint32 *)uptr(${own}count); }}",
        f"    $unit = ({word} >> {words.UNIT_SHIFT}) & 3;",
        f"    if ($unit == 1) {{ ${own}count = (${own}count + 63) >> 6; }}",
        f"    if ($unit == 2) {{ ${own}count = (${own}count + 4095) >> 12; }}",
        f"    if (${own}count > 4096) {{ ${own}count = 4096; }}",
        "}",
        f"${own}each = ({word} >> {words.SIZE_SHIFT}) & {words.SIZE_MASK};",
        f"${own}most = {word} & {words.WHOLE} ? (uint64)4096 : (@limit + 2) * ${own}each;",
        f"${own}size = ${own}how == {words.STRING} ? ${own}most : ${own}count * ${own}each;",
        f"if (${own}size > ${own}most) {{ ${own}size = ${own}most; }}",
    ]


def further(key: str, at_exit: int, ret: str) -> list[str]:
    """Reads what all words but the first describe; each is sent in a record before that of the entry or exit."""
    return [
        f"$wide = (($new >> {ABI_SHIFT}) & 3) == 0 ? (uint64)8 : (uint64)4;",
        "$linked = (uint64)0;",
        f"for $i : 0..{words.MOST_WORDS} {{",
        f"    $word = (@more[{key} << 3 | {at_exit << 2} | ($i >> 1)] >> (32 * ($i & 1))) & 0xffffffff;",
        # After the words of the exit comes what the entry could not read.
        *(_late(key) if at_exit else []),
        "    if ($word == 0) { break; }",
        f"    if ((($word >> 3) & 7) == {words.CHOICE}) {{",
        *indented(_chosen(), 2),
        "    }",
        *indented(placed("$word", ret, "m_")),
        f"    if ($m_how == {words.STACK}) {{",
        *indented(_on_stack(), 2),
        "    } else if ($m_address != 0) {",
        f"        if ($m_how == {words.BYTES}) {{",
        f"            {_memory('$m_address', 'user_bytes', '$m_size')}",
        f"        }} else if ($m_how == {words.STRING}) {{",
        f"            {_memory('$m_address', 'user_string', '$m_size')}",
        f"        }} else if ($m_how <= {words.ADDRESSES}) {{",
        *indented(_strings(), 3),
        "        } else { $linked = $word; }",
        "    }",
        "}",
        # Of a half there is one at most. Outside of the loop: 512 bytes of stack are all that four nested ones have.
        "if ($linked != 0) {",
        *indented(placed("$linked", ret, "m_")),
        *indented(_shapes(ret if at_exit else "")),
        "}",
    ]


def _late(key: str) -> list[str]:
    return [
        f"    if ($i == {words.MOST_WORDS - 1}) {{",
        # After execve() the memory is another program's.
        f"        $word = ($call >> {WORDS}) & {WORD_MASK};",
        f"        if (($new & {RETRY}) == 0 || ($ret == 0 && $key == {EXECVE[0]})) {{ $word = (uint64)0; }}",
        f"    }} else if (!$writes || ($call & {WRITES_MORE}) == 0) {{ $word = (uint64)0; }}",
        "    if ($word == 0) { continue; }",
    ]


def _chosen() -> list[str]:
    """The word that a choice means."""
    chooses = f"(($word >> {words.COUNT_SHIFT}) & 7) - 1"
    return [
        f"$choice = ((($word >> {words.SIZE_SHIFT}) << 1 | ($wide == 8 ? (uint64)1 : (uint64)0)) << 33);",
        f"$chosen = @chosen[$choice | ({pick(f'({chooses})')} & 0xffffffff)];",
        f"$word = $chosen != 0 ? $chosen : @chosen[$choice | {words.OTHERWISE}];",
        # Nothing is there for this value.
        "if ($word == 0) { continue; }",
    ]


def _memory(address: str, data: str, size: str) -> str:
    """Sends a piece: ``data`` is user_bytes or user_string."""
    return f'emit("memory", (call=$new, address={address}, size={size}, data={data}({address}, {size})));'


def _on_stack() -> list[str]:
    lines = ["$place = (uint64)args.regs.sp;"]
    for number, (size, offset) in enumerate(words.on_stack_places()):
        lines += [
            f"if ($m_each == {number}) {{",
            f"    $place = $place + {offset};",
            f"    {_memory('$place', 'user_bytes', f'(uint64){size}')}",
            "}",
        ]
    return lines


def _strings() -> list[str]:
    """A NULL-terminated array of pointers: the strings, then the array in parts."""
    return [
        "$n = (uint64)0;",
        "for $j : 0..8192 {",
        "    $at = $m_address + $j * $wide;",
        "    $string = $wide == 8 ? *(uint64 *)uptr($at) : (uint64)*(uint32 *)uptr($at);",
        "    if ($string == 0) { break; }",
        "    $n = (uint64)$j + 1;",
        f"    if ($m_how == {words.STRINGS} && $j < 64) {{",
        f"        {_memory('$string', 'user_string', '@limit + 2')}",
        "    }",
        "}",
        "$bytes = ($n + 1) * $wide;",
        "for $j : 0..17 {",
        "    $done = (uint64)$j * 4096;",
        "    if ($done >= $bytes) { break; }",
        "    $part = $bytes - $done;",
        "    if ($part > 4096) { $part = 4096; }",
        "    $from = $m_address + $done;",
        f"    {_memory('$from', 'user_bytes', '$part')}",
        "}",
    ]


def _shapes(ret: str) -> list[str]:
    """Structures with pointers, by the number of their shape. ``ret`` at exit: bytes that buffers have got."""
    lines: list[str] = []
    for number, shape in enumerate(words.linked_shapes()):
        lines.append(f"{'} else ' if number else ''}if ($m_each == {number}) {{")
        lines += indented(_linked(shape, "$m_address", "$m_count", ret))
    return [*lines, "}"]


def _linked(shape: Linked, address: str, count: str, ret: str, depth: str = "") -> list[str]:
    """The elements at an address, then what each of their pointers leads to."""
    most = min(shape.most, 4096 // shape.size)
    number, at = f"$elements{depth}", f"$element{depth}"
    if most == 1:
        return [_memory(address, "user_bytes", f"(uint64){shape.size}"), *_links(shape, address, ret, f"{depth}n")]
    return [
        f"{number} = {count};",
        f"if ({number} > {most}) {{ {number} = {most}; }}",
        _memory(address, "user_bytes", f"{number} * {shape.size}"),
        f"for $k{depth} : 0..{most} {{",
        f"    if ($k{depth} >= {number}) {{ break; }}",
        f"    {at} = {address} + $k{depth} * {shape.size};",
        *indented(_links(shape, at, ret, depth + "k")),
        "}",
    ]


def _links(shape: Linked, at: str, ret: str, depth: str) -> list[str]:
    """What the pointers of the element at an address lead to."""
    lines: list[str] = []
    is_vector = shape.size == 16 and shape.links[0][:3] == (0, 8, 8)  # struct iovec
    for index, (offset, length_at, length_bytes, there) in enumerate(shape.links):
        pointer, length = f"$to{depth}_{index}", f"$length{depth}_{index}"
        there_at = f"uptr({at} + {offset})"
        lines.append(f"{pointer} = $wide == 8 ? *(uint64 *){there_at} : (uint64)*(uint32 *){there_at};")
        if length_at >= 0:
            lines.append(f"{length} = (uint64)*(uint{8 * length_bytes} *)uptr({at} + {length_at});")
            lines.append(f"if ({length} > 4096) {{ {length} = 4096; }}")
            if ret and is_vector:  # the rest of a buffer may not be in memory yet
                lines.append(f"if ({length} > {ret}) {{ {length} = {ret}; }}")
        else:
            lines.append(f"{length} = (uint64)1;")
        lines.append(f"if ({pointer} != 0) {{")
        lines += indented(_reached(there, pointer, length, ret, depth))
        lines.append("}")
    return lines


def _reached(there: Capture, pointer: str, length: str, ret: str, depth: str) -> list[str]:
    if isinstance(there, Linked):
        return _linked(there, pointer, length, ret, depth)
    if isinstance(there, String | Array):
        most = "4096" if isinstance(there, String) and there.path else "@limit + 2"
        return [_memory(pointer, "user_string", most)]
    assert isinstance(there, Bytes)
    most = "4096" if there.whole else f"(@limit + 1) * {there.size}"
    size = f"$m_size{depth}"
    return [
        f"{size} = {length} * {there.size};",
        f"if ({size} > {most}) {{ {size} = {most}; }}",
        _memory(pointer, "user_bytes", size),
    ]


def indented(lines: Iterable[str], levels: int = 1) -> Iterator[str]:
    """Returns lines further to the right."""
    return ("    " * levels + line for line in lines)
