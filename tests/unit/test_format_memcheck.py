"""valgrind's XML: what is read of it, and what is refused."""

import re
import time
from pathlib import Path

import pytest

import insitu
from insitu.convert.open import import_file
from insitu.errors import InsituError
from insitu.session.reader import Session

_SAVED = Path(__file__).parents[2] / "fuzz/corpus/memcheck/leaky.xml"  # of valgrind 3.19
_FRAME = "<frame><ip>0x10</ip><fn>f</fn></frame>"


def _xml(*errors: str, counts: str = "") -> str:
    return f'<?xml version="1.0"?>\n<valgrindoutput><pid>7</pid>{"".join(errors)}{counts}</valgrindoutput>\n'


def _error(kind: str = "InvalidRead", stack: str = _FRAME, what: str = "<what>w</what>", tid: object = 1) -> str:
    return f"<error><unique>0x0</unique><tid>{tid}</tid><kind>{kind}</kind>{what}<stack>{stack}</stack></error>"


def _imported(tmp_path: Path, text: str) -> Session:
    (tmp_path / "memcheck.xml").write_text(text)
    import_file(tmp_path / "memcheck.xml", tmp_path / "run.insitu")
    return insitu.open(tmp_path / "run.insitu")


def test_leak_records_have_class_direct_and_indirect_bytes_blocks_and_stack(tmp_path: Path) -> None:
    with _imported(tmp_path, _SAVED.read_text()) as session:
        rows = session.sql("select class, bytes, indirect_bytes, blocks from memcheck_leak order by bytes").rows()
        stacks = session.stacks()
    assert rows == [
        ("definitely lost", 48, 288, 1),
        ("possibly lost", 50, 0, 1),
        ("indirectly lost", 288, 0, 6),
        ("still reachable", 333, 0, 1),
        ("definitely lost", 510, 0, 5),
    ]
    assert stacks.weight.sum() == 48 + 50 + 288 + 333 + 510 and stacks.unit == "bytes"
    by_name = {frame.function: frame for frame in stacks.frames}
    assert by_name["lose_text"][:4] == ("lose_text", "/src/leaky", "/src/leaky.c", 7)
    assert {label.pid for label in stacks.threads} == {12583}


def test_errors_have_what_valgrind_says_and_how_often(tmp_path: Path) -> None:
    text = re.sub(r"<count>1</count>(\s*<unique>0x2)", r"<count>41</count>\1", _SAVED.read_text())
    with _imported(tmp_path, text) as session:
        rows = session.sql(
            "select kind, what, about, count, block_stack > 0 from memcheck_error order by kind"
        ).rows()
    assert [(kind, count, has) for kind, _, _, count, has in rows] == [
        ("InvalidFree", 1, True),
        ("InvalidRead", 1, True),
        ("UninitCondition", 41, False),
    ]
    assert rows[0][2].splitlines()[1] == "Block was alloc'd at"
    assert rows[1][1:3] == ("Invalid read of size 1", "Address 0x4a428db is 1 bytes after a block of size 10 alloc'd")


def test_a_file_that_ends_early_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    text = _SAVED.read_text()
    with _imported(tmp_path, text[: text.index("Leak_IndirectlyLost")]) as session:
        assert session.sql("select class from memcheck_leak").rows() == [("possibly lost",)]
        assert "was cut off" in session.manifest.notes[0]


def test_a_run_without_errors_is_a_session_without_rows(tmp_path: Path) -> None:
    with _imported(tmp_path, _xml()) as session:
        assert session.sql("select count(*) from memcheck_leak").rows() == [(0,)]


_ENTITIES = "".join(f'<!ENTITY a{at} "{f"&a{at - 1};" * 10}">' for at in range(1, 30))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (_xml(_error(tid="x")), "'x' is not a number"),
        (_xml(_error(tid=1 << 70)), "is not a number"),
        (_xml(_error("Leak_DefinitelyLost")), "'' is not a number"),
        (_xml(_error(stack=_FRAME * 9000)), "more than 8192 frames"),
        (_xml(_error(what=f"<what>{'x' * 70_000}</what>")), "a text longer"),
        (_xml("<a>" * 40), "elements 32 deep"),
        (_xml("<a></b>"), "not well-formed"),
        (_xml(_error(what="<what>&undefined;</what>")), "not well-formed"),
    ],
)
def test_what_valgrind_does_not_write_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(InsituError, match=why):
        _imported(tmp_path, text)
    assert not (tmp_path / "run.insitu").exists()


@pytest.mark.parametrize(
    "declaration",
    [
        f'<!DOCTYPE valgrindoutput [<!ENTITY a0 "x">{_ENTITIES}]>',
        '<!DOCTYPE valgrindoutput [<!ENTITY a29 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE valgrindoutput SYSTEM "http://localhost/a.dtd">',
    ],
)
def test_entities_are_never_expanded_nor_files_read(tmp_path: Path, declaration: str) -> None:
    # Where the document type would be, the file is not recognised; within, it is refused.
    before = time.process_time()
    body = _xml(_error(what="<what>&a29;</what>"))
    with pytest.raises(InsituError):
        _imported(tmp_path, body.replace("<valgrindoutput>", f"{declaration}<valgrindoutput>"))
    with pytest.raises(InsituError, match=r"document type|not well-formed"):
        _imported(tmp_path, body.replace("<pid>", f"{declaration}<pid>"))
    with pytest.raises(InsituError, match="document type"):
        from insitu.convert.formats.memcheck import import_memcheck
        from insitu.convert.formats.registry import ImportOptions
        from insitu.session.manifest import Manifest
        from insitu.session.writer import MemoryTables, SessionWriter

        path = tmp_path / "declared.xml"
        path.write_text(body.replace("<valgrindoutput>", f"{declaration}<valgrindoutput>"))
        import_memcheck(path, SessionWriter(MemoryTables(), Manifest()), ImportOptions())
    assert time.process_time() - before < 5
