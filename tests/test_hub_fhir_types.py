"""Every served type over HTTP: written, read, found, changed, followed through its history, deleted."""

from collections.abc import AsyncIterator

import pytest
from minimal import minimal
from rest import Caller, Fresh, Rest, running

from fhir.compiled import fits
from fhir.store import new_id
from fhir.types import LEFT_OUT, SERVED
from fhir.validation import check
from fhir.wire import decode

# What the hub refuses by its own rules without an approval behind it, or without something to deliver.
RULED = {"CarePlan", "Subscription"}


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


@pytest.fixture(scope="module")
async def administrator(rest: Rest) -> Caller:
    return await rest.user("administrator", "Practitioner/admin")


@pytest.mark.parametrize("type_name", sorted(SERVED))
def test_the_smallest_resource_of_a_type_conforms(type_name: str) -> None:
    check(minimal(type_name))
    # The rules of its parts look at the whole, which is left to the full half.
    assert fits(minimal(type_name)) or type_name == "StructureDefinition"


@pytest.mark.parametrize("type_name", sorted(SERVED - RULED))
async def test_the_life_of_a_resource_of_each_type(administrator: Caller, type_name: str) -> None:
    id_ = new_id()
    path = f"/{type_name}/{id_}"
    resource = minimal(type_name, id=id_)
    made = await administrator("PUT", path, resource)
    assert made.status_code == 201, made.text
    stored = decode(made.content)
    assert {**stored, "meta": {}} == {**resource, "meta": {}}
    assert (await administrator("GET", path)).content == made.content
    found = decode((await administrator("GET", f"/{type_name}?_id={id_}")).content)
    assert [entry["resource"] for entry in found["entry"]] == [stored]
    changed = await administrator("PUT", path, {**resource, "language": "en"}, {"if-match": 'W/"1"'})
    assert changed.status_code == 200, changed.text
    history = decode((await administrator("GET", f"{path}/_history")).content)
    assert [entry["response"]["etag"] for entry in history["entry"]] == ['W/"2"', 'W/"1"']
    assert (await administrator("DELETE", path)).status_code == 204
    assert (await administrator("GET", path)).status_code == 410


@pytest.mark.parametrize("type_name", sorted(LEFT_OUT))
async def test_a_type_that_is_not_served_says_why(rest: Rest, type_name: str) -> None:
    for answer in (
        await rest.system("GET", f"/{type_name}/x"),
        await rest.system("POST", f"/{type_name}", {"resourceType": type_name}),
    ):
        assert answer.status_code == 404
        assert LEFT_OUT[type_name] in decode(answer.content)["issue"][0]["diagnostics"]
