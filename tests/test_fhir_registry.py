"""The registry: every served type, from the definitions, cheaply."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from fhir.resources.R4B import get_fhir_model_class

from fhir import registry
from fhir.bodies import relative
from fhir.paths import alternatives, compile_path
from fhir.registry import KINDS, ONLY_PATIENT, SPECS
from fhir.tables import HEAVY, metadata
from fhir.types import SERVED

DATA = Path(registry.__file__).parent / "data"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("search_parameters", DATA / "search_parameters.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_served_type_has_a_spec_and_a_table() -> None:
    assert set(SPECS) == SERVED
    for type_, spec in SPECS.items():
        assert spec.table.name == f"r_{type_.lower()}"
        assert metadata.tables[spec.table.name] is spec.table
        assert {"_id", "_lastUpdated", "_tag", "_security", "_profile", "_source"} <= spec.params.keys()
        assert [f"d_{date.replace('-', '_')}" for date in spec.dates] == [
            column.name for column in spec.table.columns if column.name.startswith("d_")
        ]


def test_data_is_what_the_generator_makes_of_the_definitions(shared_data: Path) -> None:
    module = generator()
    made = module.text(module.compact(shared_data / "hl7-definitions"))
    assert (DATA / "search-parameters.json").read_text() == made


def test_no_parameter_of_the_definitions_is_dropped_in_silence(shared_data: Path) -> None:
    definitions = json.loads((shared_data / "hl7-definitions" / "search-parameters.json").read_text())
    for definition in definitions:
        # The one example among the definitions names an element of another type than its own.
        if "expression" not in definition or definition["code"] == "part-agree":
            continue
        for base in definition.get("base", ()):
            if base not in SPECS:
                continue
            spec = SPECS[base]
            assert definition["type"] in KINDS
            assert definition["code"] in spec.params, f"{base}.{definition['code']}"


def test_every_expression_compiles() -> None:
    for spec in SPECS.values():
        plain = [param.expression for param in spec.params.values() if param.type not in ("composite", "special")]
        for expression in (*plain, *spec.patient_paths):
            for path in alternatives(expression):
                assert compile_path(path).head.name


def test_components_of_composites_are_parameters_and_stand_somewhere() -> None:
    composites = [(spec, param) for spec in SPECS.values() for param in spec.params.values() if param.components]
    assert len(composites) > 40
    for spec, param in composites:
        for code, path in param.components:
            kind = spec.params[code].type
            assert path.startswith("%resource") or [
                found for part in alternatives(path) for found in relative(f"Part.{part}", kind)
            ], f"{spec.type}.{param.code}: {path}"


def test_every_parameter_is_answered_by_entries_that_are_written() -> None:
    for spec in SPECS.values():
        for param in spec.params.values():
            assert param.stored
            for name in param.stored:
                assert spec.params[name].stored == (name,), f"{spec.type}.{param.code} -> {name}"
                assert spec.params[name].type == param.type


@pytest.mark.parametrize(
    ("type_", "paths"),
    [
        ("Patient", ()),
        ("Observation", ("Observation.subject",)),
        ("Task", ("Task.for",)),
        ("Coverage", ("Coverage.beneficiary",)),
        ("Device", ("Device.patient",)),
        ("Consent", ("Consent.patient",)),
        ("AuditEvent", ("AuditEvent.agent.who", "AuditEvent.entity.what")),
        ("Appointment", ("Appointment.participant.actor",)),
        ("ResearchSubject", ("ResearchSubject.individual",)),
        ("Binary", ("Binary.securityContext",)),
        ("Group", ()),
        ("Organization", ()),
        ("ValueSet", ()),
    ],
)
def test_whom_a_resource_is_about(type_: str, paths: tuple[str, ...]) -> None:
    assert SPECS[type_].patient_paths == paths


def test_every_type_of_the_patient_compartment_knows_its_patient(shared_data: Path) -> None:
    definition = json.loads((shared_data / "hl7-definitions" / "CompartmentDefinition-patient.json").read_text())
    inside = {item["code"] for item in definition["resource"] if item.get("param")} & SERVED
    assert {type_ for type_ in inside if not SPECS[type_].in_patient_compartment} == {"Group"}


def test_one_patient_means_one_reference() -> None:
    """A list would make `patient_id` hold the first of several, and a search by it lose the others."""
    for spec in SPECS.values():
        if spec.one_patient:
            element = spec.patient_paths[0].split(".")[1]
            fields = get_fhir_model_class(spec.type).model_fields
            named = next(field for name, field in fields.items() if (field.alias or name) == element or name == element)
            assert "List[" not in str(named.annotation) and "list[" not in str(named.annotation), spec.patient_paths


def test_restricted_references_share_the_entries_of_the_open_ones() -> None:
    observation = SPECS["Observation"].params
    assert observation["patient"].expression == f"Observation.subject{ONLY_PATIENT}"
    assert observation["patient"].stored == ("subject",)
    assert observation["combo-code"].stored == ("code", "component-code")
    assert observation["patient"].targets == {"Patient"}


def test_heavy_types_are_served() -> None:
    assert set(HEAVY) < SERVED
    assert list(HEAVY) == sorted(HEAVY)


def test_import_is_cheap_and_leaves_the_models_alone() -> None:
    program = (
        "import time, sys, sqlalchemy, sqlalchemy.dialects.postgresql, msgspec\n"
        "begin = time.process_time()\nimport fhir.registry\n"
        "print(time.process_time() - begin, any(name.startswith('fhir.resources') for name in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, models = result.stdout.split()
    assert models == "False"
    assert float(seconds) < 0.3
