"""What shells complete inside of values: functions of the script that `insitu completion` prints."""

from typing import Final

__all__ = ["FILTER_COMPLETION", "preamble"]

FILTER_COMPLETION: Final = {"bash": "_insitu_filter", "zsh": "_insitu_filter"}
"""For the option whose value is a filter expression: its last word is a field, an operator, or the name of a call."""

# The expression is one word of the shell, mostly in quotes, which are open while it is completed.
_BASH: Final = r"""
_insitu_filter() {
  local word=$1 last each
  case $word in [\'\"]*) word=${word:1} ;; esac
  last=${word##*[ (,]}
  compopt -o nospace 2>/dev/null
  while IFS= read -r each; do
    printf '%%s\n' "${word%%"$last"}$each"
  done < <(compgen -W "%s" -- "$last")
}
"""
_ZSH: Final = """
_insitu_filter() {
  compset -P '*[ (,]'
  compadd -S '' -- %s
}
"""


def preamble(shell: str) -> str:
    """Returns the functions that completions name."""
    from insitu.syscalls.facts import facts_of
    from insitu.syscalls.filters.fields import FIELDS
    from insitu.syscalls.filters.parser import OPERATORS

    calls = sorted({call.name for call in facts_of("x86_64").calls.values()})
    words = " ".join([*FIELDS, *(each for each in OPERATORS["text"] if each.isalpha()), *calls])
    return {"bash": _BASH % words, "zsh": _ZSH % words}.get(shell, "")
