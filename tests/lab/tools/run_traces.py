"""Runs inside a guest: `insitu trace -q WORDS` several times in a directory, started the way the command is.

``run_traces.py DIRECTORY`` reads a JSON object from its standard input, name -> words, and prints one: name -> what
that trace wrote. One process has everything loaded and forks for each: an emulated CPU takes seconds to load it.
"""

import json
import os
import sys
import tempfile
import traceback

from insitu.cli import main


def _output(words: list[str]) -> str:
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if not pid:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
            try:
                main(["trace", "-q", *words])
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        file.seek(0)
        return file.read().decode(errors="replace")


if __name__ == "__main__":
    os.environ["XDG_CACHE_HOME"] = "/run/cache"
    os.chdir(sys.argv[1])
    print(json.dumps({name: _output(words) for name, words in json.load(sys.stdin).items()}))
