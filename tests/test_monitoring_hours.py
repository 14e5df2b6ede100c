"""When a hub is open: weekdays in London, bank holidays, closures, the two days a year that are longer and shorter."""

from datetime import UTC, date, datetime, timedelta

import pytest

from monitoring.hours import DEFAULT, MIDNIGHT, OFFICE, Closure, Hours, bank_holiday, clock

FRIDAY = datetime(2026, 11, 20, 16, 50, tzinfo=UTC)
ALWAYS = Hours((((0, MIDNIGHT),),) * 7, bank_holidays=False)
NEVER = Hours(((),) * 7)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


class TestOpen:
    @pytest.mark.parametrize(
        ("at", "opens"),
        [
            (utc(2026, 11, 20, 8, 59), utc(2026, 11, 20, 9)),
            (utc(2026, 11, 20, 9), utc(2026, 11, 20, 9)),
            (utc(2026, 11, 20, 16, 59), utc(2026, 11, 20, 16, 59)),
            (utc(2026, 11, 20, 17), utc(2026, 11, 23, 9)),
            (utc(2026, 12, 24, 17), utc(2026, 12, 29, 9)),  # Christmas on a Friday, Boxing Day given on Monday
            (utc(2026, 7, 3, 7, 59), utc(2026, 7, 3, 8)),  # summer time
        ],
    )
    def test_the_next_opening(self, at: datetime, opens: datetime) -> None:
        assert DEFAULT.opens(at) == opens
        assert DEFAULT.open_at(at) == (at == opens)

    def test_hazard_timezone_an_opening_is_at_nine_in_london_before_and_after_the_clocks_change(self) -> None:
        early = Hours((((9 * 60, 17 * 60),),) * 7)
        assert early.opens(utc(2026, 3, 28, 20)) == utc(2026, 3, 29, 8)
        assert early.opens(utc(2026, 10, 24, 20)) == utc(2026, 10, 25, 9)

    def test_never_and_always(self) -> None:
        assert NEVER.opens(FRIDAY) is None and NEVER.after(FRIDAY, timedelta(minutes=15)) is None
        assert ALWAYS.opens(FRIDAY) == FRIDAY
        assert ALWAYS.after(FRIDAY, timedelta(hours=30)) == FRIDAY + timedelta(hours=30)

    def test_a_closure_of_the_hubs_own(self) -> None:
        shut = Hours(DEFAULT.week, closures=(Closure(date(2026, 11, 23), date(2026, 11, 24), "Training"),))
        assert shut.opens(FRIDAY + timedelta(hours=1)) == utc(2026, 11, 25, 9)
        assert shut.day(date(2026, 11, 24)).why == "Training"


class TestCloses:
    def test_at_the_end_of_the_span(self) -> None:
        assert DEFAULT.closes(FRIDAY) == utc(2026, 11, 20, 17)
        assert DEFAULT.closes(utc(2026, 11, 21, 12)) is None and ALWAYS.closes(FRIDAY) is None

    def test_midnight_does_not_close_a_hub_that_works_through_it(self) -> None:
        through = Hours((((0, MIDNIGHT),), ((0, 420),), *((),) * 5), bank_holidays=False)
        assert through.closes(utc(2026, 11, 23, 12)) == utc(2026, 11, 24, 7)


class TestClock:
    def test_four_hours_of_a_friday_afternoon_end_on_monday(self) -> None:
        assert DEFAULT.after(FRIDAY, timedelta(hours=4)) == utc(2026, 11, 23, 12, 50)

    def test_at_night_it_stands_still(self) -> None:
        assert DEFAULT.after(utc(2026, 11, 20, 22), timedelta(minutes=15)) == utc(2026, 11, 23, 9, 15)

    def test_a_delay_that_ends_with_the_day_ends_on_it(self) -> None:
        assert DEFAULT.after(utc(2026, 11, 20, 16, 45), timedelta(minutes=15)) == utc(2026, 11, 20, 17)

    def test_a_day_with_a_break(self) -> None:
        split = Hours((((540, 720), (780, 1020)),) * 7, bank_holidays=False)
        assert split.after(utc(2026, 11, 20, 11, 50), timedelta(minutes=20)) == utc(2026, 11, 20, 13, 10)


class TestWords:
    def test_as_patients_read_them(self) -> None:
        assert DEFAULT.words() == "Monday to Friday, 9am to 5pm, but not on bank holidays"
        assert ALWAYS.words() == "every day, day and night"
        assert NEVER.words() is None
        odd = Hours((*((OFFICE,),) * 4, ((540, 750),), ((600, 720),), ()), bank_holidays=False)
        assert odd.words() == "Monday to Thursday, 9am to 5pm; Friday, 9am to 12:30pm; Saturday, 10am to midday"

    @pytest.mark.parametrize(("minutes", "said"), [(0, "midnight"), (60, "1am"), (810, "1:30pm"), (1440, "midnight")])
    def test_clock(self, minutes: int, said: str) -> None:
        assert clock(minutes) == said

    def test_a_fortnight_ahead(self) -> None:
        found = DEFAULT.preview(date(2026, 12, 21))
        assert len(found) == 14
        assert [(one.on.day, one.why) for one in found if one.why] == [
            (25, "Christmas Day"),
            (26, "Boxing Day"),
            (28, "Boxing Day (observed)"),
            (1, "New Year's Day"),
        ]

    def test_a_holiday_of_scotland_is_none_of_england(self) -> None:
        assert bank_holiday(date(2026, 11, 30)) is None and bank_holiday(date(2026, 8, 31)) is not None


@pytest.mark.parametrize(
    "week",
    [((OFFICE,),) * 6, (((1020, 540),), *((),) * 6), (((540, 720), (700, 900)),) + ((),) * 6, (((0, 1441),),) * 7],
)
def test_hours_that_cannot_be(week: tuple[tuple[tuple[int, int], ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"day"):
        Hours(week)
