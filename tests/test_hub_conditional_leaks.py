"""Criteria of conditional writes must not tell of what the caller may not see: whether it is there, nor how often."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rest import Caller, Fresh, Rest, running
from test_hub_conditional import bundle, entry, known_by, patient, reason

from fhir.store import Change, new_id
from fhir.wire import decode
from hub import flows
from hub.identity import IMPORTER


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url()) as made:
        yield made


class TestLeaks:
    @pytest.fixture
    async def secret(self, rest: Rest) -> str:
        """An identifier that two people have, of whom only `system` knows."""
        value = new_id()
        for _ in range(2):
            await rest.patient(identifier=known_by(value))
        return value

    @pytest.fixture
    async def coordinator(self, rest: Rest) -> Caller:
        """Of another hub: may register people, and is in nobody's care."""
        return await rest.user("care-coordinator", f"Practitioner/{new_id()}", ("Organization/elsewhere",))

    async def alike(self, caller: Caller, method: str, path: str, body: Any, secret: str, **headers: str) -> set[Any]:
        """What is answered when the criteria meet others' records, and when they meet nothing at all."""
        answers = []
        for value in (secret, new_id()):
            sent = {name.replace("_", "-"): text.replace("VALUE", value) for name, text in headers.items()}
            answer = await caller(method, path.replace("VALUE", value), body, sent)
            issues = decode(answer.content).get("issue", []) if answer.content else []
            told = tuple(one["diagnostics"].replace(value, "VALUE") for one in issues)
            answers.append((answer.status_code, told, answer.headers.get("etag")))
        return set(answers)

    async def test_create(self, rest: Rest, secret: str, coordinator: Caller) -> None:
        told = await self.alike(
            coordinator, "POST", "/Patient", patient(), secret, if_none_exist="identifier=urn:c|VALUE"
        )
        assert told == {(201, (), 'W/"1"')}

    async def test_update_patch_and_delete(self, rest: Rest, secret: str, coordinator: Caller) -> None:
        path = "/Patient?identifier=urn:c|VALUE"
        json_patch = {"content_type": "application/json-patch+json"}
        update = await self.alike(coordinator, "PUT", path, patient(), secret)
        assert update == {(201, (), 'W/"1"')}
        stale = await self.alike(coordinator, "PUT", path, patient(), secret, if_match='W/"1"')
        assert {status for status, *_ in stale} == {412}
        ids = {text for _, told, _ in stale for text in told}
        assert all("does not exist" in text for text in ids), ids
        for method, body in (("DELETE", None), ("PATCH", b'[{"op":"test","path":"/gender","value":"male"}]')):
            assert len(await self.alike(coordinator, method, path, body, secret, **json_patch)) == 1
        assert await rest.rows(
            "SELECT count(*) FROM r_patient WHERE keys @> ARRAY[%s]", f"identifier=urn:c|{secret}"
        ) == [(2,)]

    async def test_references_and_chains(self, rest: Rest, secret: str, coordinator: Caller) -> None:
        for reference in (
            "Patient?identifier=urn:c|VALUE",
            "Patient?_has:Observation:patient:status=final&identifier=urn:c|VALUE",
        ):
            told = set()
            for value in (secret, new_id()):
                condition = {"resourceType": "Condition", "subject": {"reference": reference.replace("VALUE", value)}}
                answer = await coordinator("POST", "", bundle("transaction", entry("POST", "Condition", condition)))
                told.add((answer.status_code, reason(answer).replace(value, "VALUE")))
            assert len(told) == 1
            assert {status for status, _ in told} == {412}

    async def test_in_bundles(self, rest: Rest, secret: str, coordinator: Caller) -> None:
        answers = []
        for value in (secret, new_id()):
            criteria = f"identifier=urn:c|{value}"
            answer = await coordinator(
                "POST",
                "",
                bundle(
                    "batch",
                    entry("POST", "Patient", patient(), ifNoneExist=criteria),
                    entry("DELETE", f"Patient?{criteria}"),
                    entry("PUT", f"Patient?{criteria}", patient()),
                    entry("GET", f"Patient?{criteria}"),
                ),
            )
            entries = decode(answer.content)["entry"]
            answers.append(
                ([one["response"]["status"] for one in entries], len(entries[3]["resource"].get("entry", ())))
            )
        assert answers[0] == answers[1]

    @pytest.mark.parametrize("who", ["patient", "device", "nobody"])
    async def test_others(self, rest: Rest, secret: str, who: str) -> None:
        own = await rest.patient()
        caller = {
            "patient": await rest.user("patient", f"Patient/{own}"),
            "device": await rest.device(own),
            "nobody": rest.nobody,
        }[who]
        criteria = "identifier=urn:c|VALUE"
        calls = [
            ("POST", "/Patient", patient(), {"if_none_exist": criteria}),
            ("PUT", f"/Patient?{criteria}", patient(), {}),
            ("DELETE", f"/Patient?{criteria}", None, {}),
            ("PATCH", f"/Patient?{criteria}", b"[]", {"content_type": "application/json-patch+json"}),
        ]
        for method, path, body, headers in calls:
            told = await self.alike(caller, method, path, body, secret, **headers)
            assert len(told) == 1, (method, told)
            assert {status for status, *_ in told} <= {401, 403, 404}, (method, told)

    async def test_what_criteria_met_stands_in_the_trail_even_when_the_request_is_refused(self, rest: Rest) -> None:
        value = new_id()
        id_ = await rest.patient(identifier=known_by(value))
        refused = await rest.system("PUT", f"/Patient?identifier=urn:c|{value}", patient(), {"if-match": 'W/"9"'})
        assert refused.status_code == 412
        found = await rest.rows("SELECT action FROM audit WHERE patient_id = %s AND actor = 'Device/ehr'", id_)
        assert found == [("search",)]

    async def test_hazard_wrong_patient_a_record_of_another_is_not_taken_over(
        self, rest: Rest, coordinator: Caller
    ) -> None:
        """Criteria that meet nothing the caller sees, and an id that is somebody's."""
        theirs = new_id()
        async with rest.database.transaction() as tx:
            await flows.write(tx, IMPORTER, [Change("create", "Patient", theirs, patient(id=theirs))])
        answer = await coordinator("PUT", f"/Patient?identifier=urn:c|{new_id()}", patient(id=theirs, gender="male"))
        assert answer.status_code == 404
        assert (await rest.system("GET", f"/Patient/{theirs}")).headers["etag"] == 'W/"1"'
