"""JSON holds only valid text, whatever bytes names have."""

import json

from insitu.valid_text import json_document, valid_text


def test_surrogates_that_stand_for_no_byte_are_replaced() -> None:
    assert valid_text("a\ud800\udfff\udcffb") == "a\ufffd\ufffd\ufffdb"
    assert json.loads(json_document(["\ud800 \U0001f600"])) == ["\ufffd \U0001f600"]


def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    for raw in (b"plain", "wörd 😀".encode(), b"a\xffb", b"\xe2\x82", b'"\\ud83d\xff'):
        text = raw.decode("utf-8", "surrogateescape")
        expected = raw.decode("utf-8", "replace")
        assert valid_text(text) == expected
        for document in (text, [text], {text: {"n": (1, None, text)}}):
            written = json_document(document)
            assert written.isascii()
            again = json.dumps(json.loads(written), ensure_ascii=False)
            assert again.encode() and json.dumps(expected, ensure_ascii=False) in again
