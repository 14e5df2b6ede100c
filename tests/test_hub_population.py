"""The synthetic county: valid, repeatable, alive, and about nobody."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nhs_number
import pytest

from fhir import validation
from fhir.wire import decode
from hub import population
from hub.demonstration import nhs_numbers, words
from hub.demonstration.people import TROUBLES
from hub.population import ORDER, Recipe
from monitoring import limits
from monitoring.readings import readings

AS_OF = datetime(2026, 11, 21, 21, 0, tzinfo=UTC)
JSON = dict[str, Any]


@pytest.fixture(scope="module")
def county() -> dict[str, list[JSON]]:
    """Sixty people, by type."""
    found: dict[str, list[JSON]] = {name: [] for name in ORDER}
    for name, some in population.lines(Recipe(60, AS_OF, days=10)):
        found[name] += [json.loads(line) for line in some]
    return found


def everything(county: dict[str, list[JSON]]) -> Iterator[JSON]:
    for some in county.values():
        yield from some


class TestFiles:
    def test_same_recipe_gives_the_same_bytes(self, tmp_path: Path) -> None:
        one = population.write(Recipe(20, AS_OF, seed=7, days=3), tmp_path / "one")
        two = population.write(Recipe(20, AS_OF, seed=7, days=3), tmp_path / "two")
        assert [path.read_bytes() for path in one.files] == [path.read_bytes() for path in two.files]
        other = population.write(Recipe(20, AS_OF, seed=8, days=3), tmp_path / "other")
        assert one.files[3].read_bytes() != other.files[3].read_bytes()

    def test_compressed_files_are_the_same_every_time_too(self, tmp_path: Path) -> None:
        one = population.write(Recipe(5, AS_OF, days=2), tmp_path / "one", zipped=True)
        two = population.write(Recipe(5, AS_OF, days=2), tmp_path / "two", zipped=True)
        assert [path.read_bytes() for path in one.files] == [path.read_bytes() for path in two.files]

    def test_files_are_named_in_the_order_of_loading(self, tmp_path: Path) -> None:
        made = population.write(Recipe(5, AS_OF, days=2), tmp_path)
        assert [path.name.split("-")[1].split(".")[0] for path in made.files] == list(ORDER)
        assert sorted(tmp_path.iterdir()) == list(made.files)
        assert made.counts["Patient"] == 5

    def test_a_number_of_readings_comes_out_exactly(self) -> None:
        recipe = Recipe(40, AS_OF, readings=12_345)
        assert sum(len(some) for name, some in population.lines(recipe) if name == "Observation") == 12_345


class TestResources:
    def test_every_resource_is_valid(self, county: dict[str, list[JSON]]) -> None:
        for resource in everything(county):
            validation.parse(json.dumps(resource).encode())

    def test_every_resource_says_that_it_is_synthetic(self, county: dict[str, list[JSON]]) -> None:
        tags = {tuple(coding["code"] for coding in one["meta"]["security"]) for one in everything(county)}
        assert tags == {("HTEST",)}

    def test_ids_are_unique_and_every_reference_leads_somewhere(self, county: dict[str, list[JSON]]) -> None:
        named = [f"{one['resourceType']}/{one['id']}" for one in everything(county)]
        assert len(named) == len(set(named))
        there = set(named)

        def references(node: Any) -> Iterator[str]:
            if isinstance(node, dict):
                if isinstance(node.get("reference"), str):
                    yield node["reference"]
                for child in node.values():
                    yield from references(child)
            elif isinstance(node, list):
                for child in node:
                    yield from references(child)

        assert {one for resource in everything(county) for one in references(resource)} - there == set()

    def test_files_only_refer_backwards(self, county: dict[str, list[JSON]]) -> None:
        """So that a file can be loaded when those before it are there."""
        place = {name: number for number, name in enumerate(ORDER)}
        for name, some in county.items():
            text = json.dumps(some)
            later = [other for other in ORDER if place[other] > place[name] and f'"reference": "{other}/' in text]
            assert later == [], name


class TestPeople:
    def test_nhs_numbers_are_valid_and_from_the_test_range(self, county: dict[str, list[JSON]]) -> None:
        numbers = [patient["identifier"][0]["value"] for patient in county["Patient"]]
        assert len(set(numbers)) == 60
        for number in numbers:
            assert nhs_number.is_valid(number)
            assert "9990000000" <= number <= "9999999999"

    def test_the_whole_range_of_numbers_is_valid_and_without_repetition(self) -> None:
        numbers = list(nhs_numbers.numbers(3))
        assert len(set(numbers)) == len(numbers) > 900_000
        assert all(nhs_number.is_valid(number) for number in numbers[::997])
        assert "9999999999" not in numbers

    def test_addresses_and_telephones_belong_to_nobody(self, county: dict[str, list[JSON]]) -> None:
        for patient in county["Patient"]:
            assert patient["address"][0]["postalCode"].startswith("ZZ")
            assert patient["telecom"][0]["value"].startswith("07700 900")

    def test_three_hubs_and_seventeen_practices(self, county: dict[str, list[JSON]]) -> None:
        kinds = Counter(one["type"][0]["coding"][0]["code"] for one in county["Organization"])
        assert kinds["hub"] == 3
        assert kinds["practice"] == 17
        practices = [one for one in county["Organization"] if "partOf" in one]
        assert len({one["partOf"]["reference"] for one in practices}) == 3

    def test_every_role_is_staffed(self, county: dict[str, list[JSON]]) -> None:
        roles = {one["code"][0]["coding"][0]["code"] for one in county["PractitionerRole"]}
        assert {"768820003", "432100008", "62247001", "224540001", "90655003", "734293001", "106328005"} <= roles
        assert {"information-governance", "operations", "social-prescribing-link-worker"} <= roles

    def test_most_people_of_a_small_county_have_a_plan_and_few_of_a_large_one(self) -> None:
        small, large = population.Mix.of(50), population.Mix.of(110_000)
        assert (small.complex, small.enhanced) == (30, 15)
        assert (large.complex, large.enhanced) == (1500, 5000)


class TestPlans:
    def test_everyone_with_a_plan_has_approved_and_has_a_team(self, county: dict[str, list[JSON]]) -> None:
        planned = {plan["subject"]["reference"] for plan in county["CarePlan"]}
        approved = {
            consent["patient"]["reference"]
            for consent in county["Consent"]
            if consent["status"] == "active" and consent["provision"]["type"] == "permit"
        }
        assert planned == approved == {team["subject"]["reference"] for team in county["CareTeam"]}
        assert len(planned) == 54

    def test_goals_are_the_patients_words(self, county: dict[str, list[JSON]]) -> None:
        assert all(goal["expressedBy"]["reference"] == goal["subject"]["reference"] for goal in county["Goal"])
        assert len({goal["description"]["text"] for goal in county["Goal"]}) > 30

    def test_plans_differ(self, county: dict[str, list[JSON]]) -> None:
        matters = {plan["extension"][0]["valueString"] for plan in county["CarePlan"]}
        assert len(matters) > 12
        origins = words.WHAT_MATTERS_BY_ORIGIN.values()
        assert matters <= {*words.WHAT_MATTERS, *(text for texts in origins for text in texts)}

    def test_limits_are_understood_and_set_by_somebody(self, county: dict[str, list[JSON]]) -> None:
        monitoring = [one for one in county["ServiceRequest"] if one["id"].startswith("order-")]
        orders = [limits.from_service_request(one) for one in monitoring]
        personal = [order for order in orders if order is not None and order.personal]
        assert None not in orders
        assert len(personal) > 5
        assert all(order.set_by and order.reason and order.review_on for order in personal)
        assert any(order is not None and order.scale == 2 for order in orders)

    def test_some_tasks_are_overdue_and_some_are_not(self, county: dict[str, list[JSON]]) -> None:
        late = [task["restriction"]["period"]["end"] < AS_OF.isoformat() for task in county["Task"]]
        assert 0 < sum(late) < len(late)


class TestReadings:
    def test_nothing_is_measured_in_the_future(self, county: dict[str, list[JSON]]) -> None:
        moments = [datetime.fromisoformat(one["effectiveDateTime"]) for one in county["Observation"]]
        assert max(moments) <= AS_OF
        assert max(moments) > AS_OF - timedelta(hours=2)
        assert min(moments) > AS_OF - timedelta(days=13)

    def test_every_reading_is_understood_without_doubt(self, county: dict[str, list[JSON]]) -> None:
        found = [r for one in county["Observation"] for r in readings(one, AS_OF, from_device=True, synthetic=True)]
        assert {reading.quality for reading in found} == {"ok"}
        assert {reading.measure for reading in found} == {
            "systolic", "diastolic", "pulse", "spo2", "oxygen", "respiratory-rate", "consciousness", "temperature",
            "weight", "glucose",
        }  # fmt: skip

    def test_times_follow_the_clocks(self) -> None:
        recipe = Recipe(3, datetime(2026, 10, 27, 21, tzinfo=UTC), days=4)
        some = [json.loads(line) for name, lines in population.lines(recipe) if name == "Observation" for line in lines]
        offsets = {one["effectiveDateTime"][:10]: one["effectiveDateTime"][-6:] for one in some}
        assert offsets["2026-10-24"] == "+01:00"
        assert offsets["2026-10-26"] == "+00:00"
        assert len({one["id"] for one in some}) == len(some)

    def test_one_in_fourteen_gets_worse(self) -> None:
        recipe = Recipe(1500, AS_OF)
        profiles = [person.profile for person, _ in recipe.people(recipe.staff()) if person.profile]
        share = sum(1 for profile in profiles if profile.trouble) / len(profiles)
        assert 0.05 < share < 0.08
        assert {profile.trouble for profile in profiles} == {None, *TROUBLES}

    def test_the_worsening_worsen(self, county: dict[str, list[JSON]]) -> None:
        """The second person of every county becomes short of oxygen, the fourth gets an infection, the fifth a hypo."""

        def last(person: int, measure: str) -> float:
            mine = [one for one in county["Observation"] if one["subject"]["reference"].endswith(f"-{person:06d}")]
            found = [r for one in mine for r in readings(one, AS_OF, synthetic=True) if r.measure == measure]
            value = max(found, key=lambda reading: reading.at).value
            assert value is not None
            return value

        assert last(2, "spo2") <= 91
        assert last(4, "temperature") >= 38
        assert last(4, "respiratory-rate") >= 21
        assert last(5, "glucose") < 3.9


class TestThePast:
    """A few people have a year behind them, so that charts of a year tell something."""

    def test_is_a_year_of_mornings_with_notes_and_never_in_the_future(self) -> None:
        plain = dict(_by_id(Recipe(3, AS_OF)))
        told = dict(_by_id(Recipe(3, AS_OF, long=3)))
        assert plain.items() <= told.items()
        added = [told[id_] for id_ in told.keys() - plain.keys()]
        assert {one["resourceType"] for one in added} == {"Observation"}
        at = sorted(datetime.fromisoformat(one["effectiveDateTime"]) for one in added)
        assert timedelta(days=320) < AS_OF - at[0] < timedelta(days=370)
        assert at[-1] <= AS_OF
        for one in added[::50]:
            validation.check(one)
        assert any("valueString" in one for one in added)
        assert any(one["status"] == "entered-in-error" for one in added)


def _by_id(recipe: Recipe) -> Iterator[tuple[str, JSON]]:
    for _, some in population.lines(recipe):
        for line in some:
            resource = decode(line.encode())
            yield f"{resource['resourceType']}/{resource['id']}", resource
