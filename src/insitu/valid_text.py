"""Text that is valid UTF-8: names that others chose may be any bytes, which Python holds as lone surrogates."""

import re
from typing import Any, Final

__all__ = ["json_document", "json_line", "valid_text"]

_STANDS_FOR_NO_BYTE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates other than those of bytes


def valid_text(text: str) -> str:
    """``text`` with U+FFFD for bytes that are not UTF-8, and for other lone surrogates."""
    if text.isascii():
        return text
    return _STANDS_FOR_NO_BYTE.sub("\ufffd", text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def json_document(document: Any) -> str:
    """``document`` as JSON, in ASCII and with all of its text valid."""
    return _json(document, indent=1)


def json_line(document: Any) -> str:
    """The same on one line, without blanks."""
    return _json(document, separators=(",", ":"))


def _json(document: Any, **form: Any) -> str:
    import json

    text = json.dumps(document, default=str, **form)
    if r"\ud" not in text:
        return text
    valid = valid_text(json.dumps(document, default=str, ensure_ascii=False))
    return json.dumps(json.loads(valid), **form)
