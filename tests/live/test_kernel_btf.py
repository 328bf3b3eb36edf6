"""The running kernel's BTF, against libbpf's view of it (through bpftrace) and the C compiler's of ABI headers."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from insitu.symbols.btf import Kind
from insitu.symbols.kernel_btf import vmlinux

if not Path("/sys/kernel/btf/vmlinux").exists():
    pytest.skip("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)", allow_module_level=True)

_PADDING = re.compile(r"\t+(long|int|short|char): \d+;")  # libbpf spells out holes as unnamed bit fields


@pytest.mark.parametrize("name", ["task_struct", "tcp_sock", "mm_struct", "sk_buff", "perf_event", "inode", "sock"])
def test_structs_read_as_libbpf_prints_them(name: str) -> None:
    if not shutil.which("bpftrace"):
        pytest.skip("bpftrace is not installed")
    found = vmlinux().find(name, Kind.STRUCT)
    if found is None:
        pytest.skip(f"this kernel has no struct {name}")
    command = ["bpftrace", "-lv", f"struct {name}"]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    if not theirs:
        pytest.skip("bpftrace shows no types here (it needs root)")
    expected = [line for line in theirs if line and not _PADDING.fullmatch(line)]
    # An attribute says what the layout says already.
    expected = [re.sub(r" __attribute__\(\(.*?\)\)", "", line).replace(")()", ")(void)") for line in expected]
    assert found.definition().splitlines() == expected


# Structures that no kernel may change, and their headers.
_ABI = {
    "iphdr": "linux/ip.h",
    "tcphdr": "linux/tcp.h",
    "ipv6hdr": "linux/ipv6.h",
    "sockaddr_in": "linux/in.h",
    "sockaddr_in6": "linux/in6.h",
    "iovec": "linux/uio.h",
    "__kernel_timespec": "linux/time_types.h",
    "ethhdr": "linux/if_ether.h",
}


def test_abi_structures_have_the_layout_of_their_headers(tmp_path: Path) -> None:
    lines = ["#include <stddef.h>", *(f"#include <{header}>" for header in _ABI.values())]
    checked = 0
    for name in _ABI:
        found = vmlinux().find(name, Kind.STRUCT)
        if found is None:
            continue
        lines.append(f'_Static_assert(sizeof(struct {name}) == {found.size}, "{name}");')
        for member in found.fields():
            if not member.bit_size:
                at = f"offsetof(struct {name}, {member.name}) == {member.bit_offset // 8}"
                lines.append(f'_Static_assert({at}, "{name}.{member.name}");')
                checked += 1
    assert checked > 20
    (tmp_path / "abi.c").write_text("\n".join(lines))
    subprocess.run(["gcc", "-fsyntax-only", "abi.c"], cwd=tmp_path, check=True)


def test_enumerators_of_the_abi_have_their_numbers() -> None:
    from insitu.kernel.bpf_abi import AttachType, MapType, ProgramType

    btf = vmlinux()
    for prefix, numbers in (("BPF_MAP_TYPE_", MapType), ("BPF_PROG_TYPE_", ProgramType), ("BPF_", AttachType)):
        for name, number in numbers.__members__.items():
            found = btf.enumerator(prefix + name)
            if found is not None:
                assert found[1] == number, name
    assert btf.enumerator("BPF_TRACE_FENTRY") is not None


def test_every_type_of_the_kernel_can_be_rendered() -> None:
    btf = vmlinux()
    names = btf.names(Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64)
    rendered = [btf.type(type_id).definition() for type_id in list(names.values())[::7]]
    assert all(text.endswith(";") for text in rendered)
    assert not any("..." in text.replace(", ...)", "") for text in rendered)
