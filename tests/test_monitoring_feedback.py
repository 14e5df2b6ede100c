"""What a person is told at once: plain, urgent where it is, never reassuring, nor that somebody looks who does not."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from monitoring_cases import NOW
from test_monitoring_flags import finding
from test_monitoring_hours import ALWAYS, NEVER

from care_plans.reading_age import reading_age
from monitoring.cover import NONE_OF_ITS_OWN, Cover
from monitoring.doubts import LATE_READING, TEST, Doubt
from monitoring.feedback import WORDS, feedback, watching

DAY = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)  # a Friday
NIGHT = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
CHECK = Doubt("check-reading", "x", "Observation.value")


class TestFeedback:
    @pytest.mark.parametrize(
        ("found", "kind", "told"),
        [
            ([finding(88)], "red", "call 999"),
            ([replace(finding(88), advice=None)], "red", "call 999"),
            ([finding(94)], "repeat", "measure again"),
            ([finding(94, before=94)], "amber", "111"),
            ([finding(94), finding(88)], "red", "Check again straight away"),
            ([replace(finding(94), repeat=False, advice=None)], "information", "do not wait"),
            ([replace(finding(88), kind="operational")], "none", "do not wait"),
            ([], "none", "do not wait"),
        ],
    )
    def test_the_gravest_speaks(self, found: list[object], kind: str, told: str) -> None:
        said = feedback(found, [], NONE_OF_ITS_OWN, DAY)  # type: ignore[arg-type]
        assert said.kind == kind and told in said.next[0]
        assert said.urgent == (kind in ("red", "amber", "repeat"))

    @pytest.mark.parametrize(("doubt", "kind"), [(CHECK, "check"), (LATE_READING, "late"), (TEST, "test")])
    def test_a_reading_that_no_rule_looks_at_says_so(self, doubt: Doubt, kind: str) -> None:
        assert feedback([], [doubt], NONE_OF_ITS_OWN, DAY).kind == kind

    def test_hazard_false_reassurance_no_words_of_comfort(self) -> None:
        said = " ".join([*WORDS["meaning"].values(), *WORDS["next"].values()]).casefold()
        for word in ("normal", "fine", "good", "healthy", "no problem", "don't worry", "nothing to worry"):
            assert word not in said
        assert "That does not mean that all is well" in feedback([], [], NONE_OF_ITS_OWN, DAY).meaning

    def test_every_kind_has_its_words_and_they_are_plain(self) -> None:
        assert WORDS["meaning"].keys() == WORDS["next"].keys()
        for said in (WORDS["meaning"], WORDS["next"], WORDS["watching"]):
            age = reading_age(" ".join(said.values()))
            assert age is not None and age <= 11


class TestHazardAlertToAbsentStaff:
    def test_at_night_it_says_that_nobody_looks_until_when_and_what_to_do(self) -> None:
        said = watching(NONE_OF_ITS_OWN, NIGHT)
        assert said.startswith("Nobody is looking at your readings now. We look at them again on Monday at 9am.")
        assert "111" in said and "999" in said

    def test_on_call_is_a_number_to_ring_and_nobody_who_watches(self) -> None:
        said = watching(Cover(on_call=("Practitioner/n",), on_call_phone="01935 100"), NIGHT)
        assert said.startswith("Nobody is looking") and "ring 01935 100 or 111" in said

    def test_by_day_it_says_until_when_and_promises_nothing_at_once(self) -> None:
        said = watching(NONE_OF_ITS_OWN, DAY)
        assert said.startswith("We are open until 5pm.") and "not at once" in said

    @pytest.mark.parametrize("hours", [NEVER, ALWAYS])
    def test_nobody_is_said_to_look_all_the_time(self, hours: object) -> None:
        assert "Nobody looks at your readings all the time" in watching(Cover(hours=hours), NOW)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("at", "said"),
        [
            (datetime(2026, 11, 20, 8, 0, tzinfo=UTC), "today at 9am"),
            (datetime(2026, 11, 19, 20, 0, tzinfo=UTC), "tomorrow at 9am"),
            (datetime(2026, 12, 24, 20, 0, tzinfo=UTC), "on Tuesday at 9am"),
        ],
    )
    def test_when_it_opens(self, at: datetime, said: str) -> None:
        assert f"again {said}." in watching(NONE_OF_ITS_OWN, at)
