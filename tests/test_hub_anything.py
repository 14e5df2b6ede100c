"""Whatever is valid FHIR is stored or refused with a reason, by every door; nothing makes the hub fail."""

from collections import Counter

import pytest
from anything import Anything
from rest import Caller, Fresh, Rest, running

from fhir.types import SERVED
from fhir.validation import check
from fhir.wire import decode

# Types that the hub reads more of than it stores, and so can stumble over.
READ_BY_THE_HUB = (
    "Patient", "RelatedPerson", "CarePlan", "CareTeam", "Consent", "Goal", "Task", "ServiceRequest", "Flag", "Device",
    "Observation", "Communication", "QuestionnaireResponse", "Organization", "Practitioner", "PractitionerRole",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
async def test_random_valid_resources(fresh_url: Fresh, seed: int) -> None:
    async with running(fresh_url()) as rest:
        patients = [await rest.patient() for _ in range(2)]
        administrator = await rest.user("administrator", "Practitioner/admin")
        device = await rest.device(patients[0])
        made = Anything(seed, patients)
        types = [*READ_BY_THE_HUB * 4, *made.chance.sample(sorted(SERVED), 40)]
        answers: Counter[int] = Counter()
        for type_name in types:
            resource = made.resource(type_name)
            check(resource)
            callers: list[Caller] = [rest.system, administrator]
            if type_name == "Observation":
                resource["subject"] = {"reference": f"Patient/{patients[0]}"}
                callers.append(device)
            caller = made.chance.choice(callers)
            bundle = {
                "resourceType": "Bundle",
                "type": made.chance.choice(["batch", "transaction"]),
                "entry": [{"request": {"method": "POST", "url": type_name}, "resource": resource}],
            }
            path, body = made.chance.choice([(f"/{type_name}", resource), ("", bundle)])
            # `Caller` fails the test when the answer is a 5xx.
            answers[(await caller("POST", path, body)).status_code] += 1
        assert answers[201] > 30
        assert set(answers) <= {200, 201, 400, 403, 409, 422}
        await everything_can_be_read(rest, administrator, patients)


async def everything_can_be_read(rest: Rest, administrator: Caller, patients: list[str]) -> None:
    for type_name in READ_BY_THE_HUB:
        for query in ("_sort=-_lastUpdated&_total=accurate", "_lastUpdated=ge2020", "_summary=data"):
            page = decode((await administrator("GET", f"/{type_name}?{query}")).content)
            assert page["type"] == "searchset"
        assert (await administrator("GET", f"/{type_name}/_history")).status_code == 200
    for patient in patients:
        assert (await administrator("GET", f"/Patient/{patient}/Observation?_include=*")).status_code == 200
