"""Generates src/insitu/syscalls/facts: calls by number, constants by name, layouts of structures.

    python tools/syscall_facts.py            writes them
    python tools/syscall_facts.py --check    says whether what is committed is up to date; for the inputs in "inputs"

Inputs:

* the kernel's headers for user space (Debian's linux-libc-dev; asm/unistd_64.h, _32.h, _x32.h, asm-generic/unistd.h)
  and the C library's where the kernel has none (sys/socket.h), through ``gcc -E -dD`` and compiled expressions;
* tracefs of the running kernel, events/syscalls/sys_enter_*/format: names and C types of parameters;
* BTF of the running kernel: layouts of structures; ``gcc -m32`` for those of 32-bit programs;
* tools/syscall_facts_inputs/*.txt: what none of these say, each with its source.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import itertools
import operator
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from c_headers import Headers, compiled, header_types, headers, matches

from insitu.errors import InsituError
from insitu.kernel.tracefs import Tracefs
from insitu.symbols import kernel_btf
from insitu.symbols.btf import Kind, Type

FACTS = Path(__file__).parent.parent / "src/insitu/syscalls/facts"
INPUTS = Path(__file__).parent / "syscall_facts_inputs"

UNISTD = {
    "x86_64": ("asm/unistd_64.h", ()),
    "i386": ("asm/unistd_32.h", ()),
    "x32": ("asm/unistd_x32.h", ("-D__X32_SYSCALL_BIT=0x40000000",)),
    # what arch/arm64/include/uapi/asm/unistd.h defines before it includes this
    "aarch64": (
        "asm-generic/unistd.h",
        ("__ARCH_WANT_RENAMEAT", "__ARCH_WANT_NEW_STAT", "__ARCH_WANT_SET_GET_RLIMIT", "__ARCH_WANT_TIME32_SYSCALLS",
         "__ARCH_WANT_SYS_CLONE3", "__ARCH_WANT_MEMFD_SECRET"),
    ),
}  # fmt: skip
ALIASES = {
    # the ABI's name: what the kernel's source calls it (arch/x86/entry/syscalls/syscall_64.tbl)
    "stat": "newstat", "lstat": "newlstat", "fstat": "newfstat", "uname": "newuname", "sendfile": "sendfile64",
    "umount2": "umount", "_newselect": "select",
}  # fmt: skip
TIME32 = {
    # i386's calls without _time64 take these (include/vdso/time32.h, include/linux/time32.h)
    "__kernel_timespec": "old_timespec32", "__kernel_itimerspec": "old_itimerspec32",
    "__kernel_old_timeval": "old_timeval32", "__kernel_old_itimerval": "old_itimerval32",
    "__kernel_timex": "old_timex32",
}  # fmt: skip


def call_numbers(abi: str) -> dict[int, str]:
    """Returns the ABI's calls by number."""
    header, options = UNISTD[abi]
    defines = [each if each.startswith("-D") else f"-D{each}" for each in options]
    names = re.findall(r"#define __NR_(\w+) ", compiled(f"#include <{header}>\n", "-E", "-dM", *defines))
    lines = "".join(
        f"@{name} = __NR_{name};\n" for name in names if name not in ("syscalls", "arch_specific_syscall")
    )
    found = {}
    for name, text in re.findall(r"@(\w+) = (.*);", compiled(f"#include <{header}>\n{lines}", "-E", "-P", *defines)):
        found[arithmetic(text)] = name
    bit = 0x40000000 if abi == "x32" else 0
    for line in rows("new_calls.txt"):
        abis, nr, name = line.split("\t")
        if abis == "*" or abi in abis.split(","):
            found[bit + int(nr)] = name
    return dict(sorted(found.items()))


def arithmetic(text: str) -> int:
    """Returns the value of a sum of numbers."""
    return sum(int(each, 0) for each in text.strip("() ").split("+"))


def parameters_by_tracepoints() -> dict[str, list[str]]:
    """Returns each call's parameters by the name that the kernel's source has for it."""
    tracefs = Tracefs.open()
    found = {}
    for event in tracefs.events():
        category, _, name = event.partition(":")
        if category == "syscalls" and name.startswith("sys_enter_"):
            fields = tracefs.event(category, name).fields
            found[name.removeprefix("sys_enter_")] = [
                f"{field.declaration} {field.name}" for field in fields if field.name != "__syscall_nr"
            ]
    return found


def supplement(abi: str) -> dict[str, list[str]]:
    """Returns the parameters in calls.txt for an ABI."""
    found = {}
    for line in rows("calls.txt"):
        abis, _, call = line.partition("\t")
        if abis == "*" or abi in abis.split(","):
            names, _, parameters = call.partition("=")
            for name in names.strip().split("|"):
                found[name] = [each.strip() for each in parameters.split(";") if each.strip()]
    return found


def rows(name: str) -> list[str]:
    """Returns the lines of an input that are not comments."""
    lines = (INPUTS / name).read_text("utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def calls(abi: str, traced: Mapping[str, list[str]]) -> str:
    """Returns the text of calls.ABI."""
    own = supplement(abi)
    lines = []
    for nr, name in call_numbers(abi).items():
        plain = re.sub(r"_time64$|64$", "", name) if abi == "i386" and nr >= 400 else name
        plain = plain.removesuffix("32") if abi == "i386" and 198 <= nr <= 216 else plain
        parameters = own.get(name) or traced.get(ALIASES.get(plain, plain)) or traced.get(plain) or []
        if abi == "i386" and nr < 403:
            parameters = [
                re.sub(r"__kernel_\w+", lambda word: TIME32.get(word[0], word[0]), each) for each in parameters
            ]
        lines.append("\t".join([str(nr), name, *parameters]))
    return "\n".join(lines) + "\n"


def constants() -> str:
    """Returns the text of constants."""
    sets: dict[str, tuple[str, list[str]]] = {}
    written = [line for path in sorted(INPUTS.glob("constants*.txt")) for line in rows(path.name)]
    for row in re.sub(r"\n[ \t]+", " ", "\n".join(written)).splitlines():
        head, _, text = row.partition(":")
        name, source = head.split()
        items = [word for item in text.split() for word in (sets[item[1:]][1] if item.startswith("@") else [item])]
        if name in sets:
            raise SystemExit(f"two sets are called {name}")
        sets[name] = source, items
    needed: dict[str, set[str]] = {}
    for source, items in sets.values():  # a header is compiled once for all its sets
        needed.setdefault(source, set()).update(headers(source).matching(items), names_of(items))
    lines: list[str] = []
    for name, (source, items) in sets.items():
        headers(source).constants(needed[source])
        made = constant_lines(name, headers(source), [item for item in items if not item.startswith("?")])
        comments = [item[1:] for item in items if item.startswith("?")]
        unknown = comments[-1] if comments else common_prefix([line.split()[1] for line in made])
        lines += [f"[{name} {unknown}]" if unknown else f"[{name}]", *made]
    return "\n".join(lines) + "\n"


def names_of(items: Sequence[str]) -> set[str]:
    """Returns the constants that the items of a set name."""
    return {word for item in items if item[0] not in "-!?" for word in re.split("[/=|]", item) if word.isidentifier()}


def common_prefix(names: Sequence[str]) -> str:
    """Returns what strace calls an unknown one: "SEEK_???"; empty if the names have nothing in common."""
    shared = [
        letters[0] for letters in itertools.takewhile(lambda each: len(set(each)) == 1, zip(*names, strict=False))
    ]
    prefix, line, _ = "".join(shared).rpartition("_")
    return f"{prefix}_???" if line else ""


def constant_lines(set_name: str, source: Headers, items: Sequence[str]) -> list[str]:
    """Returns the lines of one set."""
    named = [item for item in items if not item.startswith(("-", "!"))]
    matching = source.matching(items)
    values = source.constants([*names_of(items), *matching])

    def number(word: str) -> int:
        if word in values:
            return values[word]
        if "|" in word:
            return functools.reduce(operator.or_, map(number, word.split("|")))
        try:
            return int(word, 0)
        except ValueError:
            raise SystemExit(f"{set_name}: the headers do not have {word}") from None

    found: dict[tuple[int, int], tuple[str, bool]] = {}
    for item in named:
        word, _, mask = item.partition("/")
        word, _, given = word.partition("=")
        if "*" in word:
            for each in sorted((each for each in matching if each in values), key=lambda each: values[each]):
                if fnmatch.fnmatchcase(each, word):
                    found.setdefault((values[each], values[each]), (each, False))
        else:
            value = 0 if word.startswith("<<") else number(given or word)
            if word.startswith("<<"):
                value = number(mask) & -number(mask)
            found.setdefault((value, number(mask) if mask else value), (word, bool(mask)))
    if "!sorted" in items:
        found = dict(sorted(found.items()))
    return [
        f"{value:x} {word} {mask:x}" if field else f"{value:x} {word}"
        for (value, mask), (word, field) in found.items()
    ]


# Structures with members that newer kernels have added: the kernel's own BTF has them all.
GROWN = {
    "statx", "clone_args", "sched_attr", "landlock_ruleset_attr", "perf_event_attr", "bpf_attr", "bpf_prog_info",
    "bpf_map_info", "bpf_link_info", "io_uring_params", "io_uring_sqe", "io_uring_getevents_arg", "tcp_info", "rseq",
    "fanotify_event_metadata", "io_sqring_offsets", "io_cqring_offsets",
}  # fmt: skip

OTHER_ON_AARCH64 = (("asm-generic/stat.h", ["stat"]), ("linux/eventpoll.h", ["epoll_event"]))

# What _IOC() looks like once it is expanded.
REQUEST = re.compile(r"<< ?\(\(\(0 ?\+ ?8\) ?\+ ?8\) ?\+ ?14\)")
# What headers use without including it.
REQUEST_PREFACE = "linux/ioctl.h,linux/major.h,stddef.h,stdint.h,sys/types.h,sys/socket.h,linux/types.h,linux/if.h"


def request_headers() -> list[str]:
    """Returns the headers for user space that define requests of ioctl()."""
    places = {
        each: Path("/usr/include", each) for each in ("linux", "sound", "scsi", "rdma", "mtd", "video", "misc", "xen")
    }
    (asm,) = Path("/usr/include").glob("*-linux-gnu/asm")
    found = []
    for name, place in {**places, "asm": asm}.items():
        for path in sorted(place.rglob("*.h")):
            if re.search(r"\b_S?IO[RWC]*\b", path.read_text("utf-8", "replace")):
                found.append(f"{name}/{path.relative_to(place)}")  # noqa: PERF401
    return found


def requests(option: str) -> dict[int, list[str]]:
    """Returns the requests of ioctl() by number, in the ABI that an option of gcc is for."""
    plain: dict[str, list[str]] = {}
    left_out: list[str] = []
    for row in rows("ioctls.txt"):
        source, _, items = row.partition(":")
        left_out += [item[1:] for item in items.split() if item.startswith("-")]
        plain.setdefault(source, []).extend(item for item in items.split() if not item.startswith("-"))
    found: dict[int, set[str]] = {}
    for source in dict.fromkeys([*request_headers(), *plain]):
        globs = plain.get(source, [])
        for preface in ("linux/types.h,linux/ioctl.h,linux/major.h,", REQUEST_PREFACE + ","):
            try:
                values = request_values(preface + source, globs, option)
                break
            except subprocess.CalledProcessError:
                continue
        else:
            print(f"ioctl: {source} cannot be compiled on its own", file=sys.stderr)
            continue
        for name, value in values.items():
            if not matches(name, left_out):
                found.setdefault(value, set()).add(name)
    return {value: sorted(names) for value, names in sorted(found.items())}


def request_values(source: str, globs: Sequence[str], option: str) -> dict[str, int]:
    """Returns the requests that a header defines. Raises CalledProcessError if it is not fit to be compiled."""
    header = Headers(source)
    lines = "".join(f"@{number} = {name};\n" for number, name in enumerate(header.names))
    text = compiled(f"{header.includes}{lines}", "-E", "-P", "-D_GNU_SOURCE", option)
    expanded = re.findall(r"^@(\d+) = (.*);$", text, re.MULTILINE)
    named = [header.names[int(number)] for number, body in expanded if REQUEST.search(body)]
    named += [name for name in header.names if matches(name, globs)]
    values = header.values([name for name in named if not name.startswith("_")], option)
    return {name: value for name, value in values.items() if value > 0xFF or name in globs}


def requests_text() -> str:
    """Returns the text of ioctls: of 64-bit programs, then what is other in 32-bit ones."""
    lines: list[str] = []
    long, short = requests("-m64"), requests("-m32")
    other = {value: names for value, names in short.items() if long.get(value) != names}
    for head, table in (("", long), ("[32]", other)):
        lines += [head] if head else []
        lines += [f"{value:x} {' or '.join(names)}" for value, names in table.items()]
    return "\n".join(lines) + "\n"


def structure_lines(owner: str, type_: Type, pointer_size: int) -> list[str]:
    """Returns the lines of a structure's members: facts/structs.py says what they mean."""
    lines = []
    for member in type_.fields():
        of, count = member.type.strip(), 0
        while of.kind == Kind.ARRAY:
            count = (count or 1) * of.count if of.count else -1
            of = of.target.strip()
        if of.kind == Kind.PTR:
            kind, size, inner = "p", pointer_size, ""
        elif of.kind in (Kind.STRUCT, Kind.UNION):
            kind, size, inner = "t", of.size, of.name or f"{owner}:{member.name}"
        else:
            kind, size, inner = "c" if of.character else "s" if of.signed else "u", of.size, ""
        offset = str(member.bit_offset // 8)
        if member.bit_size:
            offset, kind = f"{member.bit_offset // 8 // size * size}", "b"
            inner = f"{member.bit_offset - int(offset) * 8}+{member.bit_size}"
        words = [offset, str(size), kind, member.name, str(count), inner]
        lines.append(" ".join(words).rstrip(" ").removesuffix(" 0") if not inner else " ".join(words))
    return lines


def structures() -> str:
    """Returns the text of structs: of 64-bit programs, then those that other ABIs have otherwise."""
    kernel = kernel_btf.vmlinux()
    wanted: list[tuple[str, list[str]]] = []
    for row in rows("structs.txt"):
        source, _, structs = row.partition(":")
        wanted.append((source, structs.split()))
    text: list[str] = []
    known: dict[str, list[str]] = {}

    def add(name: str, suffix: str, type_: Type, pointer_size: int) -> None:
        made = [str(type_.size), *structure_lines(name, type_, pointer_size)]
        if known.get(name) != made and f"{name}{suffix}" not in known:
            known[f"{name}{suffix}"] = made
            text.extend([f"[{name}{suffix} {type_.size}]", *made[1:]])
            for member in type_.fields():
                inner = member.type.strip()
                while inner.kind == Kind.ARRAY:
                    inner = inner.target.strip()
                if inner.kind in (Kind.STRUCT, Kind.UNION):
                    add(inner.name or f"{name}:{member.name}", suffix, inner, pointer_size)

    abis = (("", "-m64", 8), (".i386", "-m32", 4), (".x32", "-mx32", 4), (".aarch64", "-U__x86_64__", 8))
    for suffix, option, pointer_size in abis:
        for source, names in OTHER_ON_AARCH64 if suffix == ".aarch64" else wanted:
            types = None if source == "-" else header_types(source, names, option)
            for each in names:
                name = each.rstrip("|")
                found = types.find(name, Kind.STRUCT, Kind.UNION) if types else None
                if not suffix:
                    newer = kernel.find(name, Kind.STRUCT, Kind.UNION)
                    found = newer if newer and (found is None or name in GROWN) else found
                if found:
                    add(name, suffix, found, pointer_size)
                elif not suffix:
                    print(f"structs: neither the headers nor the kernel have {name}", file=sys.stderr)
    return "\n".join(text) + "\n"


def inputs() -> str:
    """Returns the versions of the inputs that there are here."""
    source = "#include <linux/version.h>\n#include <features.h>\n@LINUX_VERSION_CODE __GLIBC__ __GLIBC_MINOR__"
    code, *libc = compiled(source, "-E", "-P").rpartition("@")[2].split()
    version = f"{int(code) >> 16}.{int(code) >> 8 & 0xFF}.{int(code) & 0xFF}"
    return f"kernel's headers {version}\nC library {'.'.join(libc)}\nkernel {os.uname().release}\n"


def outputs() -> dict[str, Callable[[], str]]:
    """Returns how to make each file."""
    traced = parameters_by_tracepoints()
    made: dict[str, Callable[[], str]] = {f"calls.{abi}": functools.partial(calls, abi, traced) for abi in UNISTD}
    return made | {"constants": constants, "ioctls": requests_text, "structs": structures, "inputs": inputs}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="which files (default: all)")
    parser.add_argument("--check", action="store_true", help="report files that are not up to date")
    arguments = parser.parse_args()
    stale = []
    for name, made in outputs().items():
        if arguments.names and name not in arguments.names:
            continue
        path, text = FACTS / name, made()
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if not arguments.check:
                path.write_text(text, "utf-8")
    print(f"{'out of date' if arguments.check else 'written'}: {', '.join(stale)}" if stale else "up to date")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InsituError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
