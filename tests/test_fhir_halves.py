"""Nothing broken slips through, and the fast half of validation accepts and refuses exactly what the full one does."""

import json
import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from anything import Anything
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import mutants
from pydantic import ValidationError

from fhir.compiled import fits
from fhir.inspection import inspect
from fhir.outcome import Refusal
from fhir.structure import model_of
from fhir.types import SERVED
from fhir.validation import parse
from fhir.wire import decode, encode, survey_of

SHARED = Path(os.environ.get("CAREHUB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
EXAMPLES = sorted((SHARED / "hl7-examples").glob("*/*.json"))
SMALL = [path for path in EXAMPLES if path.stat().st_size < 20_000]

JSON = dict[str, Any]


def accepted(raw: bytes) -> bool:
    try:
        parse(raw)
    except Refusal:
        return False
    return True


def test_broken_examples_are_refused_and_both_halves_agree() -> None:
    total: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    named: Counter[bool] = Counter()
    for path in SMALL:
        for kind, mutant in mutants(decode(path.read_bytes())):
            total[kind] += 1
            issues = inspect(mutant)
            refused[kind] += bool(issues)
            if kind.startswith("invariant "):
                key = f" breaks {kind.partition(' ')[2]}: "
                named[any(key in issue.diagnostics for issue in issues)] += 1
            # The structs refuse all that is empty but objects, which the reader of JSON has seen.
            if fits(mutant) and not survey_of(mutant).hollow:
                assert issues == [], (path.name, kind)
    share = sum(refused.values()) / sum(total.values())
    print(f"\n{share:.2%} of {sum(total.values())} broken resources of {len(total)} kinds are refused")
    assert sum(total.values()) >= 2_000
    assert len(total) >= 60, "every kind of mutant occurs"
    assert share >= 0.99
    # A contained resource that contains another breaks dom-2 first.
    assert named[True] > 1_000
    assert named[True] >= 0.95 * named.total()
    assert all(refused[kind] >= 0.95 * total[kind] for kind in total), {k: (refused[k], total[k]) for k in total}


def test_what_fhir_resources_refuses_is_refused() -> None:
    """The package is the second opinion: it sees fewer errors, and none that we accept."""
    found = []
    compared = 0
    for path in SMALL[::12]:
        for kind, mutant in mutants(decode(path.read_bytes())):
            if inspect(mutant):
                continue
            compared += 1
            try:
                model_of(mutant["resourceType"]).model_validate(mutant)
            except ValidationError as error:
                found.append((path.name, kind, str(error)))
    assert found == []
    assert compared < 20


JUNK: list[Any] = [
    ..., None, "", " ", "x", "a b", "2026-02-30", "2026-11-21T09:30:00Z", "#x", "#", "Patient/1", "urn:uuid:x",
    0, 1, -1, True, False, 10**9, 2**31, [], {}, [None], [[]], [{}], ["x"], {"id": "x"}, {"reference": "#x"},
    {"extension": [{"url": "urn:x"}]}, {"url": "urn:x", "valueString": "x"}, {"resourceType": "Patient"},
    {"value": 1, "code": "kg"}, {"start": "2026-02", "end": "2026-01"}, {"coding": [{"code": "x"}]},
]  # fmt: skip
NAMES = [
    "id", "extension", "contained", "status", "value", "valueString", "_value", "code", "system", "start", "end",
    "resourceType", "meta", "text", "notAnElement", "dataAbsentReason", "reference", "_status", "profile",
]  # fmt: skip


def damaged(resource: JSON, chance: Random, times: int) -> JSON:
    """*resource*, edited at random: members replaced, removed, added, wrapped or unwrapped."""
    for _ in range(times):
        nodes: list[Any] = [resource]
        for node in nodes:
            nodes += [
                child for child in (node.values() if isinstance(node, dict) else node) if isinstance(child, dict | list)
            ]
        node = chance.choice(nodes)
        if isinstance(node, list):
            if node and chance.random() < 0.5:
                node.pop()
            else:
                node.append(chance.choice([one for one in JUNK if one is not ...]))
            continue
        key = chance.choice([*node, *NAMES]) if node else chance.choice(NAMES)
        content = chance.choice(JUNK)
        if content is ...:
            node.pop(key, None)
        else:
            node[key] = json.loads(json.dumps(content))
    return resource


class TestHalves:
    @settings(max_examples=250, deadline=None, derandomize=True)
    @given(
        st.sampled_from(["Observation"] * 20 + sorted(SERVED)),
        st.integers(0, 2**32),
        st.integers(0, 4),
    )
    def test_accept_and_refuse_the_same(self, type_name: str, seed: int, times: int) -> None:
        resource = damaged(Anything(seed, ["p1", "p2"]).resource(type_name), Random(seed), times)
        raw = encode(resource)
        full = inspect(decode(raw))
        if resource.get("resourceType") == type_name and fits(resource):
            assert full == [] or survey_of(resource).hollow
        assert accepted(raw) == accepted(msgspec.json.format(raw, indent=1)) == (not full)

    def test_random_ones_are_of_both_kinds(self) -> None:
        chance = Random(1)
        verdicts: Counter[bool] = Counter()
        for seed in range(300):
            resource = damaged(Anything(seed, ["p"]).resource("Observation"), chance, seed % 3)
            verdicts[accepted(encode(resource))] += 1
        assert min(verdicts[True], verdicts[False]) > 50

    @pytest.mark.parametrize("path", SMALL[::4], ids=lambda path: path.stem)
    def test_the_way_json_is_written_does_not_matter(self, path: Path) -> None:
        value = decode(path.read_bytes())
        compact = encode(value)
        spaced = compact.replace(b'":', b'" :').replace(b"{", b"{ ")
        if json.loads(compact, parse_float=str) == json.loads(spaced, parse_float=str):
            assert parse(compact) == parse(spaced)

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.data())
    def test_a_key_twice_is_seen_however_it_is_written(self, data: st.DataObject) -> None:
        texts = st.text(st.sampled_from('ab":\\{}[] \t'), max_size=4)
        members = data.draw(st.lists(st.tuples(texts, st.one_of(texts, st.lists(texts, max_size=2))), max_size=5))
        colon = data.draw(st.sampled_from([":", " :", ": ", "\t:\n"]))
        raw = "{" + ",".join(json.dumps(key) + colon + json.dumps(value) for key, value in members) + "}"
        twice = len({key for key, _ in members}) < len(members)
        try:
            found = decode(raw.encode())
        except Refusal as refusal:
            assert twice, raw
            assert "stands twice" in refusal.issues[0].diagnostics
        else:
            assert not twice, raw
            assert found == dict(members)
