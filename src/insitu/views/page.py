"""The self-contained HTML page of a view: its script, its style and its data in one file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu import __version__
from insitu.errors import InsituError
from insitu.session.weighted_stacks import WeightedStacks
from insitu.terminal_text import printable
from insitu.views.output import write_file, write_stdout
from insitu.views.page_data import PAGES, Head
from insitu.views.quantity import size
from insitu.views.report import recorded_target

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["data_page", "document_page", "packed", "page_title", "write_page"]

_DIST = Path(__file__).parent.parent / "web" / "dist"
_TEMPLATES: Final = Path(__file__).parent / "templates"

# Level 1 halves the time of level 6 for some 15 % more bytes: pages are made far more often than they are sent.
_DEFLATE_LEVEL: Final = 1

_POLICY: Final = (
    "default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; base-uri 'none'; form-action 'none'"
)


def data_page(meta: Head, arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """The page of the type ``meta["mode"]`` (see page_data.PAGES), drawn by its script from ``meta`` and ``arrays``.

    Everything that comes from a recording is inside the deflated, base64-coded data block, but for the escaped title.
    Raises InsituError when the front end has not been built, ValueError for other arrays than the type's.
    """
    page = PAGES[meta["mode"]]
    data = base64.b64encode(packed(meta, arrays)).decode("ascii")
    return _rendered("view.html", (page.bundle,), title=meta["title"], data=data)


def document_page(
    template: str, bundles: tuple[str, ...], *, title: str, connects: bool = False, **content: Any
) -> str:
    """The page of a template of views/templates, with the script and style of the first of ``bundles``.

    The others may run in frames that ``content`` holds. ``connects``: it may ask the server that it comes from.
    Raises InsituError when the front end has not been built.
    """
    return _rendered(template, bundles, title=title, connects=connects, **content)


def _rendered(
    template: str, bundles: tuple[str, ...], *, title: str, data: str = "", connects: bool = False, **content: Any
) -> str:
    from markupsafe import Markup

    scripts, styles = ([_asset(f"{bundle}.{kind}") for bundle in bundles] for kind in ("js", "css"))
    policy = _POLICY.format(scripts=" ".join(map(_csp_hash, scripts)), styles=" ".join(map(_csp_hash, styles)))
    policy += "; connect-src 'self'" if connects else ""
    return (
        _environment()
        .get_template(template)
        .render(
            title=printable(title),
            version=__version__,
            # These are ours, and hold nothing that ends their elements early (web/build.mjs sees to it).
            policy=Markup(policy),
            script=Markup(scripts[0]),
            style=Markup(styles[0]),
            data=Markup(data),
            **content,
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )


def page_title(path: str, stacks: WeightedStacks) -> str:
    """What was recorded: the command or the processes where the recording says it, else the name of the file."""
    command = stacks.manifest.command
    return shlex.join(command) if command else recorded_target(stacks) or Path(path).name


def write_page(page: str, path: str, output: str | None, *, suffix: str = "") -> None:
    """Write ``page``, made from the recording ``path``, to ``output`` ("-": stdout), else beside where we are.

    Says on stdout where, unless that is where the page went.
    """
    data = page.encode("utf-8", "replace")
    if output == "-":
        write_stdout(data)
        return
    target = Path(output or f"{Path(path).resolve().name.removesuffix('.insitu')}{suffix}.html")
    write_file(target, data)
    print(f"{printable(str(target))}: {size(len(data))}")


def _asset(name: str) -> str:
    try:
        return (_DIST / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InsituError("the web views have not been built", remedy="run make setup") from None


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _shown(value: Any) -> Any:
    """What a page's header holds, all texts escaped as for a terminal; lists hold values of one type."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _shown(each) for key, each in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [printable(each) for each in value]
    return value


def packed(meta: Head, arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """What a page is drawn from, deflated: u32 length of a JSON header, the header, and the arrays it describes.

    Raises ValueError for other arrays than those of ``meta["mode"]``.
    """
    wanted = PAGES[meta["mode"]].arrays
    if set(arrays) != set(wanted):
        raise ValueError(f"a page of type {meta['mode']} has the arrays {sorted(wanted)}, not {sorted(arrays)}")
    sections: dict[str, list[object]] = {}
    chunks: list[bytes] = []
    at = 0
    for name, array in arrays.items():
        code, *parts = _coded(array)
        sections[name] = [code, at, len(array)]
        chunks += [part + b"\0" * (-len(part) % 8) for part in parts]
        at += sum(map(len, chunks[-len(parts) :]))
    header = json.dumps({"meta": _shown(meta), "sections": sections}, separators=(",", ":")).encode("ascii")
    header += b" " * (-(len(header) + 4) % 8)
    deflate = zlib.compressobj(_DEFLATE_LEVEL)
    parts = [deflate.compress(each) for each in (len(header).to_bytes(4, "little"), header, *chunks)]
    return b"".join([*parts, deflate.flush()])


def _coded(array: NDArray[np.generic]) -> tuple[Any, ...]:
    """How the front end reads an array, and its bytes: integers in as few of them as they need.

    The code is "u" (values) or, for what rises, "d" (differences) with the bytes of each: 1, 2, 4, or 6, of which the
    lower four come first for all values and then the upper two, in which there is little to deflate. Else "f8".
    """
    if not len(array):
        return "u1", b""
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= 1 << 48 or array.dtype.kind == "f":
        return "f8", array.astype("<f8").tobytes()
    if bool(np.greater_equal(array[1:], array[:-1]).all()):  # rises
        return _narrowed("d", np.diff(array.astype(np.int64), prepend=0))
    return _narrowed("u", array)


def _narrowed(code: str, words: NDArray[Any]) -> tuple[Any, ...]:
    high = int(words.max())
    if high >= 1 << 31:
        return f"{code}6", words.astype("<u4").tobytes(), (words >> 32).astype("<u2").tobytes()
    width = 1 if high < 1 << 8 else 2 if high < 1 << 16 else 4
    return f"{code}{width}", words.astype(f"<u{width}").tobytes()
