"""Personal limits: what a monitoring order may say, and that no door lets a dangerous one through."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from monitoring_cases import JSON

from fhir.outcome import Refusal
from fhir.wire import decode, encode
from hub.db import Tx
from monitoring import state
from monitoring.limits import (
    DEFAULTS,
    SCALE_2_DEFAULT,
    Limits,
    Order,
    check,
    from_service_request,
    in_force,
    project_limits,
    to_service_request,
)
from monitoring.measures import MEASURES

ORDER = Order(
    service_request_id="s1",
    patient_id="p1",
    measure="spo2",
    limits=Limits(low_red=85, low_amber=88),
    scale=2,
    every_hours=12,
    set_by="Practitioner/g1",
    reason="Hypercapnic failure in 2025, target 88 to 92 %",
    review_on=date(2027, 2, 1),
)


def problems(order: Order) -> list[str]:
    try:
        check(order)
    except Refusal as refusal:
        assert refusal.status == 422
        return [issue.diagnostics for issue in refusal.issues]
    return []


class TestOrder:
    def test_there_and_back(self) -> None:
        stored = decode(encode(to_service_request(ORDER, "Dr Green")))
        assert from_service_request(stored) == ORDER

    @pytest.mark.parametrize("key", [key for key, measure in MEASURES.items() if not measure.answers])
    def test_there_and_back_for_each_measure(self, key: str) -> None:
        low, high = MEASURES[key].plausible
        order = replace(
            ORDER, measure=key, scale=None, limits=Limits(*(low + (high - low) * part / 8 for part in (1, 2, 5, 7)))
        )
        assert from_service_request(decode(encode(to_service_request(order)))) == order

    def test_without_limits(self) -> None:
        order = Order("s1", "p1", "weight", every_hours=24, set_by="Practitioner/g1")
        found = from_service_request(to_service_request(order))
        assert found == order
        assert not found.personal

    @pytest.mark.parametrize(
        ("repeat", "hours"),
        [
            ({"frequency": 3, "period": 1, "periodUnit": "d"}, 8),
            ({"frequency": 1, "period": 1, "periodUnit": "wk"}, 168),
            ({"frequency": 2, "period": 1, "periodUnit": "a"}, None),
            ({"frequency": 1, "period": Decimal("1E+400"), "periodUnit": "d"}, None),
            ({"frequency": 1, "period": Decimal("1E-100"), "periodUnit": "d"}, None),
            ({"frequency": 1, "period": -1, "periodUnit": "d"}, None),
            ({}, None),
        ],
    )
    def test_how_often(self, repeat: JSON, hours: float | None) -> None:
        resource = to_service_request(replace(ORDER, every_hours=None)) | {"occurrenceTiming": {"repeat": repeat}}
        found = from_service_request(resource)
        assert found is not None and found.every_hours == hours

    def test_blood_pressure_as_a_whole(self) -> None:
        panel = {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}
        resource = to_service_request(Order("s1", "p1", "systolic", every_hours=12)) | {"code": panel}
        found = from_service_request(resource)
        assert found is not None and found.measure == "systolic"
        limited = to_service_request(replace(ORDER, measure="systolic", scale=None, limits=Limits(high_red=180)))
        with pytest.raises(Refusal, match="not on the panel"):
            from_service_request(limited | {"code": panel})

    @pytest.mark.parametrize(
        "change",
        [
            {"category": []},
            {"category": [{"coding": [{"system": "http://snomed.info/sct", "code": "108252007"}]}]},
            {"code": {"coding": [{"system": "http://loinc.org", "code": "4548-4"}]}},
            {"code": {"text": "Weigh yourself"}},
        ],
    )
    def test_other_service_requests_are_not_ours(self, change: JSON) -> None:
        assert from_service_request(to_service_request(ORDER) | change) is None

    def test_a_revoked_order_is_not_active(self) -> None:
        found = from_service_request(to_service_request(ORDER) | {"status": "revoked"})
        assert found is not None and not found.active


class TestCheck:
    def test_a_good_order(self) -> None:
        assert problems(ORDER) == []

    @pytest.mark.parametrize(
        "limits",
        [
            Limits(low_red=90, low_amber=88),
            Limits(low_red=88, low_amber=88),
            Limits(low_amber=96, high_amber=95),
            Limits(high_amber=98, high_red=97),
            Limits(low_red=97, high_red=96),
        ],
    )
    def test_out_of_order(self, limits: Limits) -> None:
        (problem,) = problems(replace(ORDER, limits=limits))
        assert "must be below" in problem

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"set_by": None}, "named clinician"),
            ({"set_by": "Organization/h1"}, "named clinician"),
            ({"set_by": "Patient/p1"}, "named clinician"),
            ({"reason": None}, "need a reason"),
            ({"reason": "  "}, "need a reason"),
            ({"review_on": None}, "review date"),
            ({"limits": Limits(low_red=20)}, "believable range"),
            ({"scale": 3}, "1 or 2"),
        ],
    )
    def test_what_is_missing_or_wrong(self, change: dict[str, Any], said: str) -> None:
        (problem,) = problems(replace(ORDER, **change))
        assert said in problem

    @pytest.mark.parametrize("change", [{"set_by": None}, {"set_by": "Device/d1"}, {"reason": ""}, {"review_on": None}])
    def test_hazard_scale_2_misuse(self, change: dict[str, Any]) -> None:
        """Scale 2 alone, without limits, needs the named clinician, the reason and the review date too."""
        assert problems(replace(ORDER, limits=Limits(), **change)) != []
        assert problems(replace(ORDER, limits=Limits())) == []

    def test_hazard_scale_2_misuse_on_another_measure(self) -> None:
        (problem,) = problems(replace(ORDER, measure="pulse", limits=Limits()))
        assert "Only oxygen saturation" in problem

    def test_every_problem_at_once(self) -> None:
        assert len(problems(replace(ORDER, set_by=None, reason=None, review_on=None))) == 3

    def test_words_take_no_limits(self) -> None:
        assert problems(replace(ORDER, measure="consciousness", scale=None))[0].endswith("takes no limits.")

    def test_hazard_wrong_unit_of_a_limit(self) -> None:
        order = replace(ORDER, measure="glucose", scale=None, limits=Limits(low_red=4))
        resource = to_service_request(order)
        resource["extension"][0]["extension"][0]["valueQuantity"] |= {"code": "mg/dL", "value": 72}
        with pytest.raises(Refusal, match="limits of Glucose are in mmol/L"):
            from_service_request(resource)

    def test_a_limit_beyond_all_numbers(self) -> None:
        resource = to_service_request(replace(ORDER, active=False))
        resource["extension"][0]["extension"][0]["valueQuantity"]["value"] = Decimal("1E+400")
        with pytest.raises(Refusal, match="not a number"):
            from_service_request(resource)

    def test_no_door_lets_a_bad_order_in(self) -> None:
        resource = to_service_request(ORDER)
        del resource["reasonCode"]
        with pytest.raises(Refusal, match="need a reason"):
            from_service_request(resource)

    @pytest.mark.parametrize("limits", [*DEFAULTS.values(), SCALE_2_DEFAULT])
    def test_the_defaults_are_in_order_and_sourced(self, limits: Limits) -> None:
        given = [bound for bound in limits.bounds if bound is not None]
        assert given == sorted(set(given))
        assert limits.source


class TestInForce:
    OWN = Limits(low_red=85)

    @pytest.mark.parametrize(
        ("measure", "own", "scale", "holds"),
        [
            ("spo2", None, None, DEFAULTS["spo2"]),
            ("spo2", Limits(), 1, DEFAULTS["spo2"]),
            ("spo2", Limits(), 2, SCALE_2_DEFAULT),
            ("spo2", OWN, 2, OWN),
            ("glucose", None, 2, DEFAULTS["glucose"]),
            ("steps", None, None, None),
        ],
    )
    def test_which_limits_hold(self, measure: str, own: Limits | None, scale: int | None, holds: Limits | None) -> None:
        assert in_force(measure, own, scale) == holds


class TestProjection:
    async def active(self, tx: Tx) -> dict[str, Order]:
        return (await state.load_orders(tx.pg, ["p1"])).get("p1", {})

    async def test_there_and_back(self, tx: Tx) -> None:
        await project_limits(tx.pg, [ORDER])
        assert await self.active(tx) == {"spo2": ORDER}

    async def test_a_change_replaces(self, tx: Tx) -> None:
        await project_limits(tx.pg, [ORDER])
        changed = replace(ORDER, limits=Limits(low_red=80), reason="Reviewed")
        await project_limits(tx.pg, [changed])
        assert await self.active(tx) == {"spo2": changed}

    async def test_the_last_of_two_active_orders_counts(self, tx: Tx) -> None:
        newer = replace(ORDER, service_request_id="s2", limits=Limits(low_red=80))
        await project_limits(tx.pg, [ORDER])
        await project_limits(tx.pg, [newer])
        assert await self.active(tx) == {"spo2": newer}
        await project_limits(tx.pg, [replace(newer, service_request_id="s3"), replace(newer, service_request_id="s4")])
        assert (await self.active(tx))["spo2"].service_request_id == "s4"

    @pytest.mark.parametrize(
        "end",
        [
            lambda tx: project_limits(tx.pg, [], ["s1"]),
            lambda tx: project_limits(tx.pg, [replace(ORDER, active=False)]),
        ],
    )
    async def test_the_end_of_an_order(self, tx: Tx, end: Callable[[Tx], Any]) -> None:
        await project_limits(tx.pg, [ORDER])
        await end(tx)
        assert await self.active(tx) == {}
