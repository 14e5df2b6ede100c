"""What one request may ask for: each limit is told by an OperationOutcome, and none is passed in silence."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from rest import Fresh, Rest, running

from fhir import includes
from fhir.criteria import LONGEST_CHAIN, MOST_VALUES
from fhir.store import Sql
from fhir.wire import decode

PAGE = 5
JSON = dict[str, Any]


@pytest.fixture(scope="module")
async def rest(fresh_url: Fresh) -> AsyncIterator[Rest]:
    async with running(fresh_url(), max_page_size=PAGE, max_body_bytes=100_000) as made:
        for number in range(12):
            organisation: JSON = {"resourceType": "Organization", "id": f"o{number}", "name": f"O{number}"}
            if number:
                organisation["partOf"] = {"reference": f"Organization/o{number - 1}"}
            assert (await made.system("PUT", f"/Organization/o{number}", organisation)).status_code == 201
        yield made


def issue(answer: httpx.Response, status: int) -> JSON:
    assert answer.status_code == status
    [found] = decode(answer.content)["issue"]
    assert found["severity"] == "error"
    return dict(found)


async def test_a_body(rest: Rest) -> None:
    answer = await rest.system("POST", "/Patient", b" " * 100_001)
    assert issue(answer, 413)["code"] == "too-long"


@pytest.mark.parametrize("path", ["/Organization?_count=1000", "/Organization/_history?_count=1000", "?_count=1000",
                                  "/_history?_count=1000"])  # fmt: skip
async def test_a_page_is_cut_and_goes_on(rest: Rest, path: str) -> None:
    page = decode((await rest.system("GET", path)).content)
    assert len(page["entry"]) == PAGE
    assert "next" in {link["relation"] for link in page["link"]}


async def test_parameters_values_and_links_of_a_chain(rest: Rest) -> None:
    many = "&".join(["_tag=x"] * 501)
    assert issue(await rest.system("GET", f"/Patient?{many}"), 400)["diagnostics"]
    values = ",".join(["x"] * (MOST_VALUES + 1))
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await rest.system("POST", "/Patient/_search", f"_tag={values}".encode(), form)
    assert issue(answer, 400)["code"] == "too-costly"
    for links, refused in ((LONGEST_CHAIN, False), (LONGEST_CHAIN + 1, True)):
        answer = await rest.system("GET", f"/Organization?{'partof.' * links}name=O0")
        if refused:
            assert issue(answer, 400)["code"] == "too-costly"
        else:
            [entry] = decode(answer.content)["entry"]
            assert entry["resource"]["id"] == f"o{LONGEST_CHAIN}"
    answer = await rest.system("GET", f"/Organization?{'_has:Organization:partof:' * (LONGEST_CHAIN + 1)}name=O9")
    assert issue(answer, 400)["code"] == "too-costly"


async def test_levels_of_includes_are_cut_and_told_of(rest: Rest) -> None:
    page = decode((await rest.system("GET", "/Organization?_id=o11&_include:iterate=Organization:partof")).content)
    found = [(entry["search"]["mode"], entry["resource"].get("id")) for entry in page["entry"]]
    followed = [id_ for mode, id_ in found if mode == "include"]
    assert followed == [f"o{number}" for number in range(10, 10 - includes.MOST_LEVELS, -1)]
    [outcome] = [entry["resource"] for entry in page["entry"] if entry["search"]["mode"] == "outcome"]
    assert outcome["issue"][0]["severity"] == "warning"
    assert outcome["issue"][0]["code"] == "too-costly"
    short = decode((await rest.system("GET", "/Organization?_id=o8&_include:iterate=Organization:partof")).content)
    assert [entry["search"]["mode"] for entry in short["entry"]] == ["match"] + ["include"] * 8


async def test_resources_of_includes(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(includes, "MOST_INCLUDED", 3)
    answer = await rest.system("GET", "/Organization?_id=o11&_include:iterate=Organization:partof")
    assert issue(answer, 400)["code"] == "too-costly"


async def test_a_question_that_takes_too_long_is_stopped(fresh_url: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by PostgreSQL itself, and the connection is good again."""

    def slow(actor: object) -> Any:
        return lambda type_, alias, *_: Sql("(SELECT pg_sleep(30)) IS NOT NULL")

    async with running(fresh_url(), statement_timeout_ms=500, pool_size=2) as rest:
        assert await rest.system("PUT", "/Organization/o", {"resourceType": "Organization", "id": "o", "name": "O"})
        with monkeypatch.context() as patched:
            patched.setattr("hub.interactions.visible", slow)
            for path in ("/Organization?name=O", "/Organization/o/_history", "/_history"):
                answer = await rest.client.get(f"/fhir{path}", headers=rest.system._headers)
                assert issue(answer, 503)["code"] == "too-costly", path
        assert len(decode((await rest.system("GET", "/Organization?name=O")).content)["entry"]) == 1
