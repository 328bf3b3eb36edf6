"""Text that is valid UTF-8: names that others chose may be any bytes, which Python holds as lone surrogates."""

from typing import Any

__all__ = ["json_document", "valid_text"]


def valid_text(text: str) -> str:
    """``text`` with U+FFFD for each byte that is not UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def json_document(document: Any) -> str:
    """``document`` as JSON, in ASCII and with all of its text valid."""
    import json

    text = json.dumps(document, indent=1, default=str)
    if r"\udc" not in text:
        return text
    valid = valid_text(json.dumps(document, default=str, ensure_ascii=False))
    return json.dumps(json.loads(valid), indent=1)
