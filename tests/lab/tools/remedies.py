"""Run as root in a guest: tries the remedy of every refusal that a user without privileges is given.

For each case the settings are made, insitu is run by that user, the "sysctl NAME=VALUE ..." that its message names is
done, and insitu is run again. Prints a line of JSON for each case: the message, and what came of the second run.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.live.unprivileged import _MOUNTED, Unprivileged

OWN = ("--", "dd", "if=/dev/zero", "of=/dev/null", "bs=64", "count=400000")
PARANOID, HIDDEN = "kernel.perf_event_paranoid", "kernel.kptr_restrict"
# Name: settings, capabilities, arguments.
CASES = {
    "own programs": ({PARANOID: 3, HIDDEN: 0}, (), ("profile", "-o", "a.insitu", *OWN)),
    "the whole machine": ({PARANOID: 2, HIDDEN: 0}, (), ("profile", "-o", "a.insitu", "-d", "0.2", "-a")),
    "events of the kernel": ({PARANOID: 2, HIDDEN: 0}, (), ("profile", "-o", "a.insitu", "-e", "cs", *OWN)),
    "names, hidden by paranoid": ({PARANOID: 2, HIDDEN: 0}, ("PERFMON",), ("profile", "-o", "a.insitu", *OWN)),
    "names, hidden by kptr_restrict": ({PARANOID: 1, HIDDEN: 1}, (), ("profile", "-o", "a.insitu", *OWN)),
    "names, hidden by both": ({PARANOID: 2, HIDDEN: 1}, ("PERFMON",), ("profile", "-o", "a.insitu", *OWN)),
    "names, hidden from all": ({PARANOID: 1, HIDDEN: 2}, ("SYSLOG",), ("profile", "-o", "a.insitu", *OWN)),
}


def set_all(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        Path("/proc/sys", name.replace(".", "/")).write_text(value)


def complaint(user: Unprivileged, capabilities: tuple[str, ...], words: tuple[str, ...]) -> str:
    """What insitu said: its error, else the note about kernel functions; empty if all went well."""
    done = user(capabilities, *words)
    if done.returncode:
        return done.stderr.strip()
    notes = json.loads((user.directory / "a.insitu/session.json").read_text())["notes"]
    return "".join(note for note in notes if "kernel functions" in note)


def main() -> None:
    with TemporaryDirectory(prefix="insitu-remedies-", dir="/tmp") as name:
        directory = Path(name)
        for each in _MOUNTED:
            (directory / each).mkdir()
        os.chown(directory, 65534, 65534)
        user = Unprivileged(directory)
        for case, (settings, capabilities, words) in CASES.items():
            set_all({name: str(value) for name, value in settings.items()})
            said = complaint(user, capabilities, words)
            remedies = re.search(r"sysctl ((?:[\w.]+=-?\d+ ?)+)", said)
            if remedies:
                set_all(dict(word.split("=") for word in remedies[1].split()))
            left = complaint(user, capabilities, words) if remedies else "no remedy"
            subprocess.run(["rm", "-rf", *map(str, directory.glob("a.insitu*"))], check=True)
            print(json.dumps({"case": case, "said": said, "left": left}), flush=True)


if __name__ == "__main__":
    main()
