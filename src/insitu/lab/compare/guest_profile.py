"""A workload's CPU samples: recorded by insitu inside the guest, converted and symbolized on this machine.

The guest sees this machine's files, so it runs the same Python and the same insitu. It only records, which imports
neither numpy nor anything else that is slow to load under emulation. The raw records are copied here
with the guest kernel's /proc/kallsyms; programs and libraries are the same files on both sides.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import insitu
from insitu.errors import InsituError
from insitu.files import temporary_home
from insitu.lab.compare.guest_archive import fetch_directory
from insitu.lab.guests.failures import CommandTimeoutError
from insitu.lab.guests.guest import Guest

if TYPE_CHECKING:
    from insitu.session.weighted_stacks import WeightedStacks

__all__ = ["kernel_shares", "sample_in_guest"]

_SAMPLE_HZ: Final = 499
_PROFILE_SECONDS: Final = 90.0
_SESSION: Final = "/run/insitu-lab/compare.insitu"
# The workload inherits the environment, which must stay as it is: insitu is found by sys.path alone.
_RECORD: Final = """
import json, sys
sys.path[:], output, hertz = json.loads(sys.argv[1])
from pathlib import Path
from insitu.errors import InsituError
from insitu.record.run import Request, record
from insitu.record.sources.perf import PerfOptions, PerfSource
source = PerfSource(PerfOptions(frequency=hertz, events="cpu-clock"))
try:
    outcome = record(Request(command=tuple(sys.argv[2:])), [source], Path(output))
except InsituError as error:
    sys.exit(str(error))
if outcome.failure or outcome.exit_status:
    sys.exit(outcome.failure or f"the workload exited with status {outcome.exit_status}")
(Path(output) / "raw" / "kallsyms").write_bytes(Path("/proc/kallsyms").read_bytes())
"""


def sample_in_guest(guest: Guest, argv: Sequence[str]) -> "WeightedStacks":
    """Run the workload once and return its samples of cpu-clock, at 499 Hz, as weighted stacks.

    Raises InsituError if the guest's kernel cannot be sampled, or if the workload takes longer than 90 s.
    """
    with tempfile.TemporaryDirectory(prefix="insitu-compare-", dir=temporary_home()) as scratch:
        session = Path(scratch) / "compare.insitu"
        _record(guest, argv)
        fetch_directory(guest, _SESSION, session, _PROFILE_SECONDS)
        return _stacks(session)


def _record(guest: Guest, argv: Sequence[str]) -> None:
    path = [str(Path(insitu.__file__).parents[1]), *sys.path]
    setting = json.dumps([path, _SESSION, _SAMPLE_HZ])
    command = [sys.executable, "-I", "-S", "-c", _RECORD, setting, *argv]
    guest.run(["rm", "-rf", _SESSION]).check()
    try:
        done = guest.run(command, stdout=lambda data: None, timeout=_PROFILE_SECONDS)
    except CommandTimeoutError:
        raise InsituError(f"sampling took longer than {_PROFILE_SECONDS:g} s") from None
    if done.status:
        raise InsituError((done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1])


def _stacks(session: Path) -> "WeightedStacks":
    from insitu.convert.open import load_stacks

    return load_stacks(session)


def kernel_shares(stacks: "WeightedStacks") -> dict[str, float]:
    """Kernel function -> its share of all samples, of which it is the innermost function (self time)."""
    from insitu.symbols.frame import KERNEL

    total = int(stacks.count.sum())
    shares: dict[str, float] = {}
    for stack, count in zip(stacks.stack.tolist(), stacks.count.tolist(), strict=True):
        frame = stacks.frames[stacks.frame[stack]]
        if stack and frame.kind == KERNEL:
            shares[frame.function] = shares.get(frame.function, 0.0) + count / total
    return shares
