"""Scripts compiled against kernel types (BTF) that are cut short or damaged: a program or one error, never more."""

import random
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.probe.compile import Compiled, compile_script
from insitu.probe.options import Options
from insitu.probe.providers.base import Context
from insitu.probe.source import Source

_TYPES = Path("/sys/kernel/btf/vmlinux")
_SCRIPT = """
interval:s:1 { @[curtask->comm, ((struct file *)curtask)->f_flags] = count(); }
BEGIN { @s = *curtask->fs; $m = curtask->mm->mmap_base; print((curtask->real_parent->tgid, $m)); }
END { print(sizeof(struct inode)); }
"""

pytestmark = pytest.mark.skipif(not _TYPES.exists(), reason="needs the kernel's types (CONFIG_DEBUG_INFO_BTF)")


def _compiled() -> Compiled:
    return compile_script(Source(_SCRIPT), Options(), Context())


def _damaged(data: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    damaged = bytearray(data)
    match seed % 4:
        case 0:
            return data[: chance.randrange(len(data))]
        case 1:  # bits anywhere, few or very many
            for _ in range(chance.choice([1, 100, 100_000])):
                damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case 2:  # the header, which is 24 bytes long
            for _ in range(3):
                damaged[chance.randrange(24)] = chance.randrange(256)
        case 3:  # a stretch of noise
            start = chance.randrange(len(data))
            damaged[start : start + 10_000] = chance.randbytes(len(damaged[start : start + 10_000]))
    return bytes(damaged)


@pytest.mark.parametrize("seed", range(24))
def test_damaged_types_end_in_a_program_or_in_one_error(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "types"
    file.write_bytes(_damaged(_TYPES.read_bytes(), seed))
    monkeypatch.setenv("BPFTRACE_BTF", str(file))
    try:
        _compiled()
    except InsituError as error:
        assert "\n" not in str(error)


def test_whole_types_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "types"
    file.write_bytes(_TYPES.read_bytes())
    monkeypatch.setenv("BPFTRACE_BTF", str(file))
    assert len(_compiled().programs) == 3
