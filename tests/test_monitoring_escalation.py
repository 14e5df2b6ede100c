"""What time does to a flag: the chain is told one after the other, a snooze ends, what nobody confirms falls away."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from monitoring_cases import acknowledge, hours
from test_monitoring_flags import NURSE, finding, opened
from test_monitoring_moves import standing, waiting

from monitoring.cover import NONE_OF_ITS_OWN, Cover
from monitoring.decision import decide
from monitoring.escalation import AGAIN, MOST_MOVES, fall_due, lapses, timed
from monitoring.flags import Flag, called, to_fhir
from monitoring.hours import Hours
from monitoring.moves import move
from monitoring.outcomes import NOT_CONFIRMED
from monitoring.states import CONFIRMING, ENDED, ESCALATED, OPEN, RESOLVED, SNOOZED

MORNING = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)  # a Friday
NIGHT = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)
MONDAY = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def red(now: datetime = MORNING, cover: Cover = NONE_OF_ITS_OWN) -> Flag:
    return timed(None, opened(finding(88), now), cover, now)


def amber(now: datetime = MORNING, cover: Cover = NONE_OF_ITS_OWN) -> Flag:
    return timed(None, opened(finding(94, before=94), now), cover, now)


def at(flag: Flag) -> datetime:
    assert flag.due is not None
    return flag.due


class TestChain:
    def test_red_waits_for_a_quarter_of_an_hour_and_amber_for_four_working_hours(self) -> None:
        assert at(red()) == MORNING + 15 * MINUTE
        assert at(amber()) == MORNING + hours(4)
        assert at(amber(MORNING + hours(5))) == MONDAY + hours(2)

    def test_each_step_tells_the_next_and_the_last_is_told_again(self) -> None:
        flag, now, said = red(), MORNING, []
        for _ in range(4):
            now = at(flag)
            after = fall_due(flag, NONE_OF_ITS_OWN, now)
            assert called(to_fhir(flag), to_fhir(after)) == "escalated"
            flag = after
            said.append(flag.moves[-1]["why"])
        assert [one.partition(": ")[2] for one in said] == [
            "told to the clinicians of the team",
            "told to the duty clinician of the hub",
            "told to the duty clinician of the hub again",
            "told to the duty clinician of the hub again",
        ]
        assert (flag.state, flag.level) == (ESCALATED, 4) and at(flag) - now == AGAIN

    def test_hazard_alert_not_seen_unacknowledged_never_expires(self) -> None:
        flag = red(cover=Cover(on_call=("Practitioner/night",)))
        for _ in range(300):
            flag = fall_due(flag, NONE_OF_ITS_OWN, at(flag))
            assert flag.live and flag.due is not None
        assert len(flag.moves) == MOST_MOVES and flag.moves[0]["to"] == OPEN

    def test_who_acknowledges_stops_it(self) -> None:
        before = fall_due(red(), NONE_OF_ITS_OWN, MORNING + 15 * MINUTE)
        after = timed(before, acknowledge(before, NURSE, MORNING, "On it"), NONE_OF_ITS_OWN, MORNING)
        assert after.due is None and after.acknowledged_by == NURSE

    def test_hazard_alert_to_absent_staff_at_night_the_clock_stands_still(self) -> None:
        assert at(red(NIGHT)) == MONDAY + 15 * MINUTE
        assert at(red(NIGHT, Cover(on_call=("Practitioner/night",)))) == NIGHT + 15 * MINUTE
        never = Cover(hours=Hours(((),) * 7))
        assert at(red(NIGHT, never)) == NIGHT + 15 * MINUTE

    def test_local_delays(self) -> None:
        local = Cover(red=5 * MINUTE, amber=hours(1))
        assert (at(red(cover=local)), at(amber(cover=local))) == (MORNING + 5 * MINUTE, MORNING + hours(1))

    def test_information_has_no_clock(self) -> None:
        assert timed(None, replace(opened(), severity=1), NONE_OF_ITS_OWN, MORNING).due is None

    def test_a_further_reading_does_not_wind_it_back_and_a_graver_one_winds_it_on(self) -> None:
        flag = amber()
        more = decide(flag, finding(93, before=94), MORNING + hours(1), id="x")
        assert more is not None and timed(flag, more.flag, NONE_OF_ITS_OWN, MORNING + hours(1)).due == flag.due
        worse = decide(flag, finding(88), MORNING + hours(1), id="x")
        assert worse is not None
        assert timed(flag, worse.flag, NONE_OF_ITS_OWN, MORNING + hours(1)).due == MORNING + hours(1) + 15 * MINUTE


class TestConfirming:
    def test_never_confirmed_it_falls_away_and_says_so(self) -> None:
        flag = timed(None, replace(waiting(), refreshed=MORNING), NONE_OF_ITS_OWN, MORNING)
        assert flag.state == CONFIRMING and at(flag) == MORNING + hours(24)
        assert not lapses(flag, MORNING + hours(23)) and lapses(flag, MORNING + hours(24))
        gone = fall_due(flag, NONE_OF_ITS_OWN, MORNING + hours(25), repeated=False)
        assert (gone.state, gone.outcome, gone.due, gone.resolved_at) == (RESOLVED, NOT_CONFIRMED, None, flag.due)
        assert gone.resolved_why == "No second reading came within 24 hours"
        other = fall_due(flag, NONE_OF_ITS_OWN, MORNING + hours(25), repeated=True)
        assert other.resolved_why == "The readings that came did not confirm it"


class TestSnooze:
    def test_its_end_opens_it_again_and_starts_the_chain_anew(self) -> None:
        before = fall_due(red(), NONE_OF_ITS_OWN, MORNING + 15 * MINUTE)
        until = MORNING + hours(3)
        put_off = move(before, SNOOZED, NURSE, MORNING, "She sleeps", until=until)
        put_off = timed(before, put_off, NONE_OF_ITS_OWN, MORNING)
        assert put_off.due == until
        woken = fall_due(put_off, NONE_OF_ITS_OWN, until + MINUTE)
        assert (woken.state, woken.level, woken.due) == (OPEN, 0, until + 16 * MINUTE)
        assert called(to_fhir(put_off), to_fhir(woken)) == "reopened"


def test_what_has_ended_has_no_clock() -> None:
    for state in ENDED:
        assert timed(None, standing(state), NONE_OF_ITS_OWN, MORNING).due is None
