"""CPythons that are installed: those of PATH, and those of pyenv, whose PATH has one of them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

__all__ = ["interpreters"]


def interpreters(least: tuple[int, int]) -> Iterator[str]:
    """Paths of interpreters of that version or newer, the newest first of each place."""
    for minor in range(20, least[1] - 1, -1):
        name = f"python{least[0]}.{minor}"
        home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        for found in (shutil.which(name), *sorted(home.glob(f"versions/{least[0]}.{minor}.*/bin/{name}"))):
            if found and not subprocess.run([found, "-c", ""], capture_output=True).returncode:
                yield str(found)
