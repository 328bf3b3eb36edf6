"""Records that wait to be shown: in small pieces, and left out when somebody asks to stop."""

import struct

import pytest

from insitu.record.delivery import Delivery, Leaving
from insitu.record.interrupts import Interrupts

RECORD = struct.pack("<II", 1000, 0) + bytes(1000)
RECORDS = RECORD * 1000


def test_what_is_taken_at_once_is_delivered_in_pieces_of_whole_records() -> None:
    got: list[bytes] = []
    delivery = Delivery(got.append)
    delivery.take(memoryview(RECORDS))
    delivery.some(0.0)  # a time that is over
    assert got == [] and delivery
    delivery.rest(Leaving(None))
    assert not delivery and b"".join(got) == RECORDS
    assert max(map(len, got)) <= 1 << 16 and not any(len(each) % len(RECORD) for each in got)
    delivery.close()


def test_a_record_larger_than_a_piece_is_one() -> None:
    got: list[bytes] = []
    delivery = Delivery(got.append)
    large = struct.pack("<II", 100_000, 0) + bytes(100_000)
    delivery.take(memoryview(large))
    delivery.rest(Leaving(None))
    assert got == [large]
    delivery.close()


def test_a_signal_ends_the_delivery_and_what_is_left_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    interrupts, got = Interrupts(), list[bytes]()

    def deliver(data: bytes) -> None:
        got.append(data)
        interrupts.count = 1

    delivery = Delivery(deliver)
    delivery.take(memoryview(RECORDS))
    delivery.rest(Leaving(interrupts, 0.0))
    assert len(got) == 1
    left = (len(RECORDS) - len(got[0])) >> 10
    said = f"insitu: interrupted: {left} KiB of records not shown (-o NAME.insitu records all)\n"
    assert capsys.readouterr().err == said
    delivery.close()
    interrupts.__exit__(None, None, None)


def test_the_end_of_the_time_ends_the_delivery_as_a_signal_does(capsys: pytest.CaptureFixture[str]) -> None:
    interrupts, got = Interrupts(), list[bytes]()
    delivery = Delivery(got.append)
    delivery.take(memoryview(RECORDS))
    interrupts.time_over = True
    delivery.rest(Leaving(interrupts, 0.0))
    assert not got
    left = len(RECORDS) >> 10
    said = f"insitu: the time is over: {left} KiB of records not shown (-o NAME.insitu records all)\n"
    assert capsys.readouterr().err == said
    interrupts.time_over = False  # of the next run
    delivery.rest(Leaving(interrupts, 0.0))
    assert b"".join(got) == RECORDS
    delivery.close()
    interrupts.__exit__(None, None, None)
