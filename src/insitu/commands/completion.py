"""Print a shell completion script.

examples:
  insitu completion bash > /etc/bash_completion.d/insitu
  insitu completion zsh > ~/.zfunc/_insitu
"""

import argparse

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell that will read it")


def run(args: argparse.Namespace) -> int:
    import shtab

    from insitu.cli import full_parser
    from insitu.commands._completions import preamble

    print(shtab.complete(full_parser(), shell=args.shell, preamble=preamble(args.shell)))
    return 0
