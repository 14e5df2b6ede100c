"""The 259 official R4 examples and the Synthea bundles: accepted, and given back as they came."""

import json
import os
from pathlib import Path

import pytest

from fhir.compiled import fits
from fhir.inspection import inspect
from fhir.validation import parse
from fhir.wire import decode, encode

SHARED = Path(os.environ.get("CAREHUB_SHARED", Path(__file__).parents[2] / "shared")) / "data"
EXAMPLES = sorted((SHARED / "hl7-examples").glob("*/*.json"))
BUNDLES = sorted((SHARED / "synthea").glob("*.json"))


def test_the_examples_are_there() -> None:
    assert len(EXAMPLES) == 259
    assert len(BUNDLES) >= 40


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_official_example_that_goes_in_comes_out_equal(path: Path) -> None:
    raw = path.read_bytes()
    parsed = parse(raw, expected_type=path.parent.name)
    # Numbers are compared as they are written.
    assert json.loads(encode(parsed.resource), parse_float=str) == json.loads(raw, parse_float=str)
    assert inspect(parsed.resource) == []


def test_the_fast_half_knows_most_examples_by_itself() -> None:
    accepted = sum(fits(decode(path.read_bytes())) for path in EXAMPLES)
    # What refers to a contained resource goes to the full half.
    assert accepted >= 200


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem[:24])
def test_synthea_bundles_conform(path: Path) -> None:
    parsed = parse(path.read_bytes(), "Bundle")
    assert fits(parsed.resource)
