"""What commands that record say and return at the end."""

import pytest

from insitu.commands._output import ended, status_of
from insitu.record.run import Outcome
from insitu.session.manifest import Manifest

WHOLE = object.__new__(Manifest)


def outcome(status: int = 0, failure: str = "", lost: int = 0) -> Outcome:
    return Outcome(status, 0, lost, ["a note"], failure, False)


@pytest.mark.parametrize(
    ("ran", "manifest", "status"),
    [
        (outcome(), WHOLE, 0),
        (outcome(), None, 1),
        (outcome(failure="the disk is full"), WHOLE, 1),
        (outcome(3), WHOLE, 3),
        (outcome(3, "the disk is full"), None, 3),
        (outcome(130), None, 130),
    ],
)
def test_a_recording_that_failed_or_was_not_converted_never_ends_with_0(ran, manifest, status):
    assert status_of(ran, manifest) == status


def test_a_run_that_failed_says_so_also_when_it_is_to_be_quiet(capsys):
    assert ended(outcome(failure="the disk is full", lost=2), "records lost: calls are missing", quiet=True) == 1
    said = capsys.readouterr().err
    assert "the disk is full" in said and "2 records lost: calls are missing" in said and "a note" not in said
