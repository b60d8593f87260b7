"""When a scheduled message is sent: the arithmetic, held against a plain reading of the rules."""

import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.limits import DELAY_MS_MAX
from braidmq.broker.schedule import CRON_CHARACTERS_MAX, REPEAT_MAX, Timing

MINUTE = 60_000
HOUR = 60 * MINUTE


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NOON = at("2026-11-23T12:00:00")


def times(timing: Timing, count: int, created: int = NOON) -> list[int]:
    """When it is sent, if it is sent in time, from when it was scheduled."""
    found = [timing.first_ms(created)]
    while len(found) < count and found[-1]:
        found.append(timing.next_ms(created, len(found), found[-1]))
    return [time - created for time in found if time]


def test_a_delay_is_once():
    assert times(Timing(delay_ms=1_500), 9) == [1_500]
    assert times(Timing(), 9) == [0]


def test_repeats_come_a_period_after_each_other():
    assert times(Timing(1_000, 300, 3), 9) == [1_000, 1_300, 1_600, 1_900]
    # ActiveMQ: without a delay the first one comes after a period.
    assert times(Timing(0, 300, 2), 9) == [300, 600, 900]
    assert times(Timing(0, 300), 9) == [300]
    assert times(Timing(50, 10, -1), 5) == [50, 60, 70, 80, 90]


def test_what_was_missed_is_not_made_up_for_one_by_one():
    forever = Timing(0, 100, -1)
    assert forever.next_ms(0, 1, 1_234) == 1_300
    # But what is to come so many times does, later.
    assert Timing(0, 100, 2).next_ms(0, 1, 1_234) == 1_300
    assert Timing(0, 100, 2).next_ms(0, 3, 1_500) == 0


def test_the_grid_does_not_drift():
    assert Timing(0, 100, -1).next_ms(0, 1, 107) == 200
    assert Timing(0, 100, -1).next_ms(0, 7, 100) == 200  # exactly at a time: it was sent


@given(
    st.integers(0, 10**6),
    st.integers(1, 10**4),
    st.integers(0, 20),
    st.lists(st.integers(0, 10**5), max_size=30),
)
def test_a_plain_schedule_is_sent_as_often_as_it_should_and_only_at_its_times(
    delay, period, repeat, lateness
):
    timing = Timing(delay, period, repeat)
    first = timing.first_ms(NOON)
    assert first == NOON + (delay or period)
    due, fired, sent = first, 0, []
    while due:
        now = due + (lateness[fired] if fired < len(lateness) else 0)
        sent.append(due)
        fired += 1
        following = timing.next_ms(NOON, fired, now)
        assert following == 0 or now < following <= now + period
        due = following
    assert len(sent) == repeat + 1 and sent == sorted(set(sent))
    assert all((time - first) % period == 0 for time in sent)


def test_cron_expressions_name_times_of_utc():
    assert times(Timing(cron="*/15 * * * *"), 3) == [15 * MINUTE, 30 * MINUTE, 45 * MINUTE]
    timing = Timing(cron="30 4 1 * MON")
    assert timing.first_ms(NOON) == at("2026-11-30T04:30:00")  # the 1st, or a Monday, as in cron
    assert Timing(cron="0 0 29 2 *").first_ms(NOON) == at("2028-02-29T00:00:00")
    assert Timing(cron="0 12 * * *").first_ms(NOON) == at("2026-11-24T12:00:00")
    assert Timing(cron="0 12 * * *").first_ms(NOON - 1) == NOON


def test_a_delay_is_added_to_each_time_of_a_cron_expression():
    timing = Timing(delay_ms=5_000, cron="0 * * * *")
    assert times(timing, 3) == [HOUR + 5_000, 2 * HOUR + 5_000, 3 * HOUR + 5_000]
    # A time before it was scheduled does not count, though its delay has not passed.
    assert timing.first_ms(NOON + 1_000) == NOON + HOUR + 5_000


def test_each_time_of_a_cron_expression_begins_a_burst():
    # The example of ActiveMQ: ten messages, a second apart, every hour.
    timing = Timing(1_000, 1_000, 9, "0 * * * *")
    expected = [HOUR + 1_000 * n for n in range(1, 11)] + [2 * HOUR + 1_000]
    assert times(timing, 11) == expected
    # Without a delay it begins a period later, as there.
    assert times(Timing(0, 1_000, 1, "0 * * * *"), 3) == [
        HOUR + 1_000,
        HOUR + 2_000,
        2 * HOUR + 1_000,
    ]


def test_a_burst_ends_where_the_next_begins():
    timing = Timing(0, 25_000, 9, "* * * * *")
    assert times(timing, 5) == [85_000, 110_000, 135_000, 145_000, 170_000]


def test_of_a_burst_what_was_missed_is_left_out():
    timing = Timing(1_000, 1_000, 9, "0 * * * *")
    late = NOON + HOUR + 8_500
    assert timing.next_ms(NOON, 1, late) == NOON + HOUR + 9_000
    assert timing.next_ms(NOON, 2, NOON + HOUR + 10_000) == NOON + 2 * HOUR + 1_000
    assert timing.next_ms(NOON, 1, NOON + 5 * HOUR + 30 * MINUTE) == NOON + 6 * HOUR + 1_000


CRONS = [
    "* * * * *",
    "*/7 3-5 * * *",
    "0 0 1 1 *",
    "59 23 31 12 *",
    "0 12 * * MON-FRI",
    "5,10 * * 2 *",
]


@given(
    st.sampled_from(CRONS),
    st.sampled_from([0, 1, 999, 61_000, HOUR]),
    st.sampled_from([1, 500, 20_000, HOUR]),
    st.integers(0, 5),
    st.integers(NOON - 10 * HOUR, NOON + 10**10),
)
def test_the_next_time_is_ahead_and_the_first_that_is(cron, delay, period, repeat, now):
    timing = Timing(delay, period if repeat else 0, repeat, cron)
    timing.check()
    following = timing.next_ms(NOON, 1, now)
    assert following > max(now, NOON)
    # Asked a moment before it, the answer is the same: nothing lies between.
    assert timing.next_ms(NOON, 1, following - 1) == following


@given(st.text(alphabet="0123456789*/,-#LW MONJA\x00٣", max_size=40))
def test_whatever_is_written_is_understood_or_refused(text):
    try:
        Timing(cron=f"{text} * * * *").check()
        Timing(cron=f"0 0 {text} * {text}").check()
    except InvalidArgument:
        pass


@pytest.mark.parametrize(
    ("timing", "text"),
    [
        (Timing(delay_ms=-1), "delay"),
        (Timing(delay_ms=DELAY_MS_MAX + 1), "delay"),
        (Timing(period_ms=-1), "period"),
        (Timing(period_ms=DELAY_MS_MAX + 1), "period"),
        (Timing(0, 1, -2), "repeats"),
        (Timing(0, 1, REPEAT_MAX + 1), "repeats"),
        (Timing(1_000, 0, 1), "has a period"),
        (Timing(0, 1_000, -1, "* * * * *"), "counted"),
        (Timing(cron="* * * *"), "5 fields"),
        (Timing(cron="0 * * * * *"), "5 fields"),
        (Timing(cron="@hourly"), "5 fields"),
        (Timing(cron="60 * * * *"), "Bad minute"),
        (Timing(cron="0 0 30 2 *"), "Bad day"),
        (Timing(cron="0 * * * " + "1," * CRON_CHARACTERS_MAX + "1"), "characters"),
    ],
)
def test_what_makes_no_sense_is_refused(timing, text):
    with pytest.raises(InvalidArgument, match=text):
        timing.check()


def test_the_largest_values_are_taken():
    Timing(DELAY_MS_MAX, DELAY_MS_MAX, REPEAT_MAX).check()
    Timing(0, 1, -1).check()
    longest = "10" + ",0" * 123 + " * * * *"
    assert len(longest) == CRON_CHARACTERS_MAX
    Timing(cron=longest).check()


def test_an_expression_that_names_no_time_has_no_first_one():
    assert Timing(cron="0 0 */20 * 1L").first_ms(at("2020-01-01T00:00:00")) == 0


def test_without_the_library_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(InvalidArgument, match=r"install braidmq\[schedules\]"):
        Timing(cron="* * * * *").check()
    Timing(5, 5, 5).check()
