"""`Observation/$lastn` and `$stats`: the newest of each code, and what many readings come to."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from rest import Caller, Fresh, Rest, running

from fhir.latest import _groups
from fhir.store import Change, new_id
from fhir.validation import check
from fhir.wire import decode
from hub import flows
from hub.identity import IMPORTER

JSON = dict[str, Any]
LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


def pulse(patient_id: str, value: str, days: float, **elements: Any) -> JSON:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"code": "vital-signs"}]}],
        "code": {"coding": [{"system": LOINC, "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": (NOW - timedelta(days=days)).isoformat(),
        "valueQuantity": {
            "value": Decimal(value),
            "system": "http://unitsofmeasure.org",
            "code": "/min",
            "unit": "/min",
        },
        **elements,
    }


def coded(*codings: tuple[str, str], text: str | None = None) -> JSON:
    found: JSON = {"coding": [{"system": system, "code": code} for system, code in codings]} if codings else {}
    return {"code": found | ({"text": text} if text else {}), "valueString": "x", "valueQuantity": None}


def lab(patient_id: str, days: float, *codings: tuple[str, str], text: str | None = None, **elements: Any) -> JSON:
    made = {**pulse(patient_id, "1", days), **coded(*codings, text=text), **elements}
    return {name: value for name, value in made.items() if value is not None and name != "category"}


async def put(rest: Rest, *resources: JSON) -> list[str]:
    changes = [Change("create", one["resourceType"], new_id(), one) for one in resources]
    async with rest.database.transaction() as tx:
        await flows.write(tx, IMPORTER, changes)
    return [change.id for change in changes]


async def lastn(caller: Caller, query: str) -> list[str]:
    response = await caller("GET", f"/Observation/$lastn?{query}")
    assert response.status_code == 200, response.text
    bundle = decode(response.content)
    assert bundle["total"] == len(bundle.get("entry", ()))
    return [entry["resource"]["id"] for entry in bundle.get("entry", ())]


class TestLastn:
    async def test_the_newest_of_each_code(self, rest: Rest) -> None:
        person = await rest.patient()
        old, new, lab_one = await put(
            rest, pulse(person, "70", 3), pulse(person, "80", 1), lab(person, 2, ("http://lab", "na"))
        )
        assert set(await lastn(rest.system, f"patient={person}")) == {new, lab_one}
        assert await lastn(rest.system, f"patient={person}&code=8867-4&max=5") == [new, old]
        assert await lastn(rest.system, f"subject=Patient/{person}&category=vital-signs") == [new]

    async def test_codes_that_share_a_coding_are_one(self, rest: Rest) -> None:
        person = await rest.patient()
        one, two = ("http://one", "a"), ("http://two", "b")
        _, _, newest, plain, worded, _ = await put(
            rest,
            lab(person, 3, one),
            lab(person, 2, one, two),
            lab(person, 1, two),
            lab(person, 4, ("http://three", "a")),
            lab(person, 5, text="Mood"),
            lab(person, 6, text="Mood"),
        )
        assert set(await lastn(rest.system, f"patient={person}")) == {newest, plain, worded}

    async def test_hazard_withdrawn_value_taken_for_todays(self, rest: Rest) -> None:
        person = await rest.patient()
        good, wrong = await put(
            rest, lab(person, 2, ("http://lab", "k")), lab(person, 1, ("http://lab", "k"), status="entered-in-error")
        )
        assert await lastn(rest.system, f"patient={person}") == [good]
        assert await lastn(rest.system, f"patient={person}&status=entered-in-error") == [wrong]

    async def test_each_of_several_people(self, rest: Rest) -> None:
        one, other = await rest.patient(), await rest.patient()
        first, second = await put(rest, pulse(one, "70", 1), pulse(other, "80", 2))
        assert set(await lastn(rest.system, f"patient={one},{other}")) == {first, second}

    async def test_posted(self, rest: Rest) -> None:
        person = await rest.patient()
        [made] = await put(rest, pulse(person, "70", 1))
        given = [{"name": "patient", "valueString": person}, {"name": "max", "valuePositiveInt": 3}]
        answered = await rest.system("POST", "/Observation/$lastn", {"resourceType": "Parameters", "parameter": given})
        assert [entry["resource"]["id"] for entry in decode(answered.content)["entry"]] == [made]

    @pytest.mark.parametrize("query", ["", "code=8867-4", "patient=1&max=0", "patient=1&max=x", "patient=1&cod=x"])
    async def test_what_is_missing_or_not_understood(self, rest: Rest, query: str) -> None:
        assert (await rest.system("GET", f"/Observation/$lastn?{query}")).status_code == 400

    async def test_nobody_else_sees_it(self, rest: Rest) -> None:
        person, other = await rest.patient(), await rest.patient()
        await put(rest, pulse(person, "70", 1))
        path = f"patient={person}"
        assert (await rest.nobody("GET", f"/Observation/$lastn?{path}")).status_code == 401
        assert (await (await rest.device(person))("GET", f"/Observation/$lastn?{path}")).status_code == 403
        coordinator = await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",))
        assert await lastn(coordinator, path) == []
        assert await lastn(await rest.user("patient", f"Patient/{other}"), path) == []
        assert len(await lastn(await rest.user("patient", f"Patient/{person}"), path)) == 1
        rows = await rest.rows("SELECT action FROM audit WHERE patient_id = %s", person)
        assert ("lastn",) in rows

    def test_groups_join_by_way_of_a_third(self) -> None:
        joined = _groups(["code=a|1", "code=a|1\x1fcode=b|2", "code=b|2", "code=c|3"])
        assert joined["code=a|1"] == joined["code=b|2"] != joined["code=c|3"]


async def stats(caller: Caller, query: str) -> list[JSON]:
    response = await caller("GET", f"/Observation/$stats?{query}")
    assert response.status_code == 200, response.text
    found = decode(response.content)
    check(found)
    return list(found["parameter"])


def components(observation: JSON) -> JSON:
    return {
        one["code"]["coding"][0]["code"]: one.get("valueQuantity", {}).get("value", one.get("valueInteger"))
        for one in observation["component"]
    }


ALL = "average,maximum,minimum,count,total-count,median,std-dev,variance,sum,20-percent,80-percent,4-lower,4-upper"


class TestStats:
    async def test_every_statistic_of_what_is_good(self, rest: Rest) -> None:
        person = await rest.patient()
        values = ["60", "70", "80", "90"]
        made = await put(rest, *[pulse(person, value, days + 1) for days, value in enumerate(values)])
        await put(rest, pulse(person, "75", 2, status="entered-in-error"))
        [one] = await stats(rest.system, f"subject=Patient/{person}&code=8867-4&statistic={ALL}")
        found = one["resource"]
        assert one["name"] == "statistics"
        shown = components(found)
        assert (shown["average"], shown["maximum"], shown["minimum"]) == (75, 90, 60)
        assert (shown["median"], shown["sum"], shown["count"]) == (75, 300, 4)
        assert shown["variance"] == Decimal("166.6667")
        assert (shown["4-lower"], shown["4-upper"]) == (Decimal("67.5"), Decimal("82.5"))
        assert found["component"][0]["valueQuantity"]["code"] == "/min"
        assert found["effectivePeriod"]["end"].startswith((NOW - timedelta(days=1)).date().isoformat())
        several = await stats(rest.system, f"subject=Patient/{person}&code=8867-4&statistic=count&include=true&limit=2")
        assert [part["name"] for part in several] == ["statistics", "source", "source"]
        assert several[1]["resource"]["id"] == made[0]

    async def test_a_duration_and_a_period(self, rest: Rest) -> None:
        person = await rest.patient()
        await put(rest, pulse(person, "60", 1), pulse(person, "90", 10))
        path = f"subject=Patient/{person}&code=8867-4&statistic=average"
        [recent] = await stats(rest.system, f"{path}&duration=48")
        assert components(recent["resource"]) == {"average": 60}
        given = [
            {"name": "subject", "valueUri": f"Patient/{person}"},
            {"name": "coding", "valueCoding": {"system": LOINC, "code": "8867-4"}},
            {"name": "statistic", "valueCode": "average"},
            {"name": "period", "valuePeriod": {"end": (NOW - timedelta(days=5)).date().isoformat()}},
        ]
        answered = await rest.system("POST", "/Observation/$stats", {"resourceType": "Parameters", "parameter": given})
        assert components(decode(answered.content)["parameter"][0]["resource"]) == {"average": 90}

    async def test_hazard_withdrawn_value_taken_for_todays_no_reading_is_no_value_and_no_zero(self, rest: Rest) -> None:
        person = await rest.patient()
        [one] = await stats(rest.system, f"subject=Patient/{person}&code=8867-4&statistic=average,count")
        average, count = one["resource"]["component"]
        assert average["dataAbsentReason"]["coding"][0]["code"] == "unknown"
        assert "valueQuantity" not in average
        assert count["valueInteger"] == 0

    @pytest.mark.parametrize(
        ("query", "status", "said"),
        [
            ("code=8867-4&statistic=average", 400, "subject"),
            ("subject=Group/1&code=8867-4&statistic=average", 400, "subject"),
            ("subject=Patient/{}&statistic=average", 400, "code"),
            ("subject=Patient/{}&code=8867-4", 400, "statistic"),
            ("subject=Patient/{}&code=8867-4&statistic=skew", 400, "skew"),
            ("subject=Patient/{}&code=1-8&statistic=average", 422, "1-8"),
            ("subject=Patient/{}&code=80288-4&statistic=average", 422, "words"),
            ("subject=Patient/{}&code=8867-4&statistic=average&duration=-1", 400, "duration"),
            ("subject=Patient/unknown&code=8867-4&statistic=average", 404, "Patient/unknown"),
        ],
    )
    async def test_refusals(self, rest: Rest, query: str, status: int, said: str) -> None:
        path = f"/Observation/$stats?{query.format(await rest.patient())}"
        answered = await rest.system("GET", path)
        assert answered.status_code == status
        assert said in answered.text

    async def test_nobody_else_sees_it(self, rest: Rest) -> None:
        person = await rest.patient()
        await put(rest, pulse(person, "70", 1))
        path = f"/Observation/$stats?subject=Patient/{person}&code=8867-4&statistic=count"
        assert (await rest.nobody("GET", path)).status_code == 401
        assert (await (await rest.device(person))("GET", path)).status_code == 403
        coordinator = await rest.user("care-coordinator", "Practitioner/elsewhere", ("Organization/elsewhere",))
        assert (await coordinator("GET", path)).status_code == 404
        assert (await (await rest.user("social-worker", "Practitioner/sw"))("GET", path)).status_code in (403, 404)
        assert (await (await rest.user("patient", f"Patient/{person}"))("GET", path)).status_code == 200
        rows = await rest.rows("SELECT action FROM audit WHERE patient_id = %s", person)
        assert ("stats",) in rows
