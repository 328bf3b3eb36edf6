"""A guest's logs keep their last bytes, and take no more of the disk than these."""

from pathlib import Path

from insitu.lab.guests.bounded_logs import drop_all_but

PAGE = 4096


def test_the_blocks_of_all_but_the_last_bytes_are_given_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a" * 100 * PAGE)
        writer.write(b"the end")
        drop_all_but(log, PAGE)
        assert log.stat().st_blocks * 512 <= 3 * PAGE
        writer.write(b", and more")
    data = log.read_bytes()
    assert len(data) == 100 * PAGE + 17  # positions stay
    assert data.endswith(b"a" * 4000 + b"the end, and more")
    assert data.startswith(b"\0" * 90 * PAGE)


def test_a_small_log_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a" * 2 * PAGE)
    drop_all_but(tmp_path / "log", 2 * PAGE)
    assert (tmp_path / "log").read_bytes() == b"a" * 2 * PAGE
