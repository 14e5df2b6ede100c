"""Questionnaires: what is asked is valid FHIR with its source, and answers are scored only when they are all there."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from test_monitoring_measures import mod_10

from fhir.outcome import Refusal
from fhir.validation import check
from fhir.wire import decode, encode
from monitoring.measures import LOINC, MEASURES
from monitoring.questionnaires import INSTRUMENTS, Instrument, instrument_of, observation_id, observations, score

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
JSON = dict[str, Any]


def response(key: str, *answers: JSON | int | None, **more: Any) -> JSON:
    """A finished response; each of *answers* is an answer, the place of an option, or None for a question left open."""
    items = []
    for (link, asked), given in zip(INSTRUMENTS[key].items.items(), answers, strict=False):
        if isinstance(given, int):
            option = asked["answerOption"][given]["valueCoding"]
            given = {"valueCoding": {"system": option["system"], "code": option["code"]}}
        items.append({"linkId": link, **({"answer": [given]} if given else {})})
    return {
        "resourceType": "QuestionnaireResponse",
        "id": "r1",
        "questionnaire": INSTRUMENTS[key].definition["url"],
        "status": "completed",
        "subject": {"reference": "Patient/p1"},
        "authored": "2026-11-21T11:00:00Z",
        "item": items,
        **more,
    }


def values(one: JSON) -> dict[str, int]:
    scored = score(one)
    assert scored is not None
    return {measure: int(value) for measure, value in scored.values.items()}


class TestDefinitions:
    @pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=INSTRUMENTS)
    def test_are_valid_and_say_whose_they_are(self, instrument: Instrument) -> None:
        definition = decode(encode(instrument.definition))
        check(definition)
        assert definition["copyright"] and definition["purpose"] and definition["version"]
        assert instrument.source
        assert set(instrument.parts) <= set(instrument.items)

    def test_loinc_codes_pass_mod_10(self) -> None:
        codes = [
            coding["code"]
            for one in INSTRUMENTS.values()
            for holder in (one.definition, *one.items.values())
            for coding in holder.get("code", ())
            if coding["system"] == LOINC
        ]
        assert len(codes) == 18 and all(mod_10(code) for code in codes)

    @pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=INSTRUMENTS)
    def test_the_options_span_the_believable_range(self, instrument: Instrument) -> None:
        if instrument.total is None:
            return
        least = values(response(instrument.key, *[0] * len(instrument.items)))[instrument.total]
        most = values(response(instrument.key, *[len(_options(instrument)) - 1] * len(instrument.items)))
        assert (least, most[instrument.total]) == MEASURES[instrument.total].plausible

    def test_of_the_licensed_one_only_the_result_is_asked(self) -> None:
        assert {one["type"] for one in INSTRUMENTS["eq-5d"].items.values()} == {"decimal", "integer"}


def _options(instrument: Instrument) -> list[JSON]:
    found: list[JSON] = next(iter(instrument.items.values()))["answerOption"]
    return found


class TestScore:
    @pytest.mark.parametrize(
        ("key", "total", "word"),
        [
            ("phq-9", 4, "minimal"), ("phq-9", 5, "mild"), ("phq-9", 9, "mild"), ("phq-9", 10, "moderate"),
            ("phq-9", 14, "moderate"), ("phq-9", 15, "moderately severe"), ("phq-9", 19, "moderately severe"),
            ("phq-9", 20, "severe"), ("phq-9", 27, "severe"), ("gad-7", 4, "minimal"), ("gad-7", 5, "mild"),
            ("gad-7", 10, "moderate"), ("gad-7", 14, "moderate"), ("gad-7", 15, "severe"),
            ("ucla-3", 5, "not lonely"), ("ucla-3", 6, "lonely"),
        ],
    )  # fmt: skip
    def test_bands(self, key: str, total: int, word: str) -> None:
        assert INSTRUMENTS[key].word(total) == word

    def test_adds_up_and_keeps_item_9_apart(self) -> None:
        assert values(response("phq-9", 1, 2, 3, 0, 0, 1, 0, 0, 1)) == {"phq-9": 8, "phq-9-item-9": 1}

    @pytest.mark.parametrize("left_open", range(9))
    def test_missing_value_is_never_scored_as_normal(self, left_open: int) -> None:
        """Hazard: a question left open counts as zero, and the total looks better than the person is."""
        given: list[int | None] = [3] * 9
        given[left_open] = None
        scored = score(response("phq-9", *given))
        assert scored is not None and "phq-9" not in scored.values
        assert scored.unanswered == (list(INSTRUMENTS["phq-9"].items)[left_open],)

    @pytest.mark.parametrize("status", ["in-progress", "stopped"])
    def test_an_unfinished_form_has_no_total_but_item_9_counts(self, status: str) -> None:
        assert values(response("phq-9", *[2] * 9, status=status)) == {"phq-9-item-9": 2}

    def test_a_total_that_was_sent_along_is_not_believed(self) -> None:
        one = response("phq-9", *[1] * 9)
        one["item"].append({"linkId": "44261-6", "answer": [{"valueInteger": 0}]})
        assert values(one)["phq-9"] == 9

    @pytest.mark.parametrize("answer", [{"valueInteger": 3}, {"valueDecimal": Decimal("3")}])
    def test_points_as_numbers(self, answer: JSON) -> None:
        assert values(response("gad-7", *[answer] * 7)) == {"gad-7": 21}

    def test_link_ids_of_the_library_of_medicine(self) -> None:
        one = response("phq-9", *[1] * 9, questionnaire="http://example.org/depression")
        for item in one["item"]:
            item["linkId"] = f"/44249-1/{item['linkId']}"
        assert instrument_of(one) is INSTRUMENTS["phq-9"]
        assert values({**one, "item": [{"linkId": "group", "item": one["item"]}]})["phq-9"] == 9

    def test_another_form_is_not_scored(self) -> None:
        assert score({"questionnaire": "http://example.org/x", "item": [{"linkId": "1"}]}) is None
        assert score(response("phq-9", *[1] * 9, status="entered-in-error")) is None

    @pytest.mark.parametrize(
        "answers",
        [
            [{"valueCoding": {"code": "LA9999-9"}}],
            [{"valueInteger": 4}],
            [{"valueString": "Several days"}],
            [{"valueInteger": 1}, {"valueInteger": 2}],
        ],
    )
    def test_an_answer_that_is_no_option_is_refused(self, answers: list[JSON]) -> None:
        one = response("phq-9", *[1] * 9)
        one["item"][2]["answer"] = answers
        with pytest.raises(Refusal, match="44259-0") as refused:
            score(one)
        assert refused.value.issues[0].expression == "QuestionnaireResponse.item.where(linkId='44259-0').answer"

    @pytest.mark.parametrize(("index", "good"), [("-0.594", True), ("1", True), ("1.001", False), ("96", False)])
    def test_an_entered_result_is_within_its_range(self, index: str, good: bool) -> None:
        one = response("eq-5d", {"valueDecimal": Decimal(index)}, {"valueInteger": 70})
        if good:
            scored = score(one)
            assert scored is not None and scored.values["eq-5d-index"] == Decimal(index)
        else:
            with pytest.raises(Refusal, match="index"):
                score(one)


class TestObservations:
    def test_of_a_form(self) -> None:
        total, ninth = observations(response("phq-9", *[2] * 9, author={"reference": "Patient/p1"}), NOW)
        assert total["code"]["coding"][0]["code"] == "44261-6"
        assert total["valueQuantity"]["value"] == 18 and total["interpretation"] == [{"text": "moderately severe"}]
        assert ninth["id"] == observation_id("r1", "phq-9-item-9") and "interpretation" not in ninth
        assert total["derivedFrom"] == [{"reference": "QuestionnaireResponse/r1"}]
        assert total["performer"] == [{"reference": "Patient/p1"}]
        for one in (total, ninth):
            check(decode(encode(one)))

    @pytest.mark.parametrize("authored", [None, "2026-11-21", "2026-11-21T12:11:00Z", "2026-11-21T11:00:00"])
    def test_need_the_time_of_answering(self, authored: str | None) -> None:
        one = response("gad-7", *[1] * 7)
        del one["authored"]
        if authored:
            one["authored"] = authored
        with pytest.raises(Refusal) as refused:
            observations(one, NOW)
        assert refused.value.issues[0].expression == "QuestionnaireResponse.authored"
