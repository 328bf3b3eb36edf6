"""Programs to look symbols up in, and perf as the peer: what perf script calls the addresses of a file."""

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

_HEADER_BYTES, _ATTR_BYTES = 104, 144
_PID = 4_000_000  # above every real process id of a default pid_max
_BASE = 0x7F00_0000_0000

INLINES_CPP = """
#include <string>
#include <vector>
namespace outer {
template <typename T> struct Box {
  T value;
  __attribute__((noinline)) T spin(int n) const {
    T s{};
    for (int i = 0; i < n; i++) s += value * i ^ (s >> 3);
    return s;
  }
};
static inline __attribute__((always_inline)) long leaf(long x, int n) {
  for (int i = 0; i < n; i++)
    x = x * 6364136223846793005L + 1442695040888963407L;
  return x;
}
static inline __attribute__((always_inline)) long middle(long x, int n) {
  return leaf(x, n) ^ leaf(x + 1, n);
}
__attribute__((noinline)) long top(const std::string &s, int n) { return middle(s.size(), n); }
}
static __attribute__((noinline)) int total(std::vector<int> &v) {
  int t = 0;
  for (auto &x : v) t += x = x * 3 + 1;
  return t;
}
int main(int argc, char **argv) {
  std::vector<int> v(1000, argc);
  outer::Box<long> b{argc}; outer::Box<unsigned> u{9};
  long r = 0;
  for (int i = 0; i < 200 * argc; i++)
    r += outer::top(argv[0], 100000) + b.spin(100000) + u.spin(50000) + total(v);
  return r == 42;
}
"""


def compiled(directory: Path, source: str, *options: str, name: str = "prog") -> Path:
    """The program that gcc or g++ makes of ``source`` (C++ if it includes a header without a suffix)."""
    cpp = "#include <string>" in source
    text = directory / f"{name}.{'cpp' if cpp else 'c'}"
    text.write_text(source)
    program = directory / name
    subprocess.run(["g++" if cpp else "gcc", *options, "-o", str(program), str(text)], check=True, cwd=directory)
    return program


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def _record(kind: int, misc: int, body: bytes) -> bytes:
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


def _padded(name: bytes) -> bytes:
    return name + b"\0" * (8 - len(name) % 8)


def recording_of(directory: Path, path: Path, file_offsets: Sequence[int]) -> Path:
    """A perf.data file with a sample at each offset of the file ``path``."""
    attr = struct.pack("<IIQQQQQ", 1, 128, 0, 1000, 1 | 2 | 4, 0, 1 << 8 | 1 << 9 | 1 << 23).ljust(128, b"\0")
    mapping = struct.pack("<IIQQQIIQQII", _PID, _PID, _BASE, 1 << 32, 0, 0, 0, 0, 0, 5, 2) + _padded(bytes(path))
    records = [_record(3, 0, struct.pack("<II", _PID, _PID) + _padded(b"prog")), _record(10, 2, mapping)]
    for at, offset in enumerate(file_offsets):
        records.append(_record(9, 2, struct.pack("<QIIQ", _BASE + offset, _PID, _PID, at + 1)))
    data, start = b"".join(records), _HEADER_BYTES + _ATTR_BYTES
    sizes = struct.pack("<8Q", _HEADER_BYTES, _ATTR_BYTES, _HEADER_BYTES, _ATTR_BYTES, start, len(data), 0, 0)
    recording = directory / "synthetic.data"
    recording.write_bytes(b"PERFILE2" + sizes + b"\0" * 32 + attr + struct.pack("<QQ", start, 0) + data)
    return recording


def perf_names(directory: Path, path: Path, file_offsets: Sequence[int]) -> list[str]:
    """What perf script calls each offset of the file ``path``, asked through a perf.data with one sample for each."""
    recording = recording_of(directory, path, file_offsets)
    done = subprocess.run(["perf", "script", "-i", str(recording), "-F", "ip,sym"], capture_output=True, check=True)
    lines = [line.split(None, 1) for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
    assert len(lines) == len(file_offsets), done.stderr
    return [line[1].strip() for line in lines]
