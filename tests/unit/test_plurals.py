"""Numbers and their nouns, in the sentences that users read."""

from insitu.plurals import counted, plural
from insitu.views.losses import loss_text
from insitu.views.quantity import amount, rest


def test_one_is_singular_and_all_others_are_plural() -> None:
    assert [counted(number, "sample") for number in (0, 1, 2)] == ["0 samples", "1 sample", "2 samples"]
    assert [plural(number, "entry", "entries") for number in (1, 3)] == ["entry", "entries"]


def test_amounts_rests_and_losses_of_one_are_singular() -> None:
    assert [amount(number, "samples") for number in (1, 1_080)] == ["1 sample", "1,080 samples"]
    assert amount(1, "cpu-cycles") == "1 cpu-cycles"  # the name of an event stays as it is
    assert rest(1, "row") == "# 1 more row; --limit 0 shows all"
    assert loss_text({"ring buffer": 1}).startswith("LOST 1 record (")
