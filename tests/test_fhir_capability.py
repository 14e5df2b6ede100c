"""The CapabilityStatement tells only the truth: everything it names is answered."""

from typing import Any, ClassVar

from fhir.capability import statement
from fhir.registry import SPECS
from fhir.search import across, search
from fhir.store import Sql
from fhir.types import LEFT_OUT, SERVED
from fhir.validation import check
from hub.db import Tx
from hub.fhir_routes import offered
from hub.operations import OPERATIONS, declared

BASE = "https://hub.example/fhir"
VALUE = {"date": "2026-11-21", "reference": "Patient/x", "number": "1.5", "quantity": "1.5"}
SPECIAL = {"near": "50|2", "_filter": "_id eq x"}
# These name what must be stored here; tests/test_fhir_search.py has them.
OF_SETS = (":in", ":not-in", ":above", ":below")


def everything(type_: str, alias: str) -> Sql | None:
    return Sql("TRUE")


def resources() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = statement(BASE, declared)["rest"][0]["resource"]
    return found


def test_conforms_and_names_every_type() -> None:
    made = statement(BASE, declared)
    check(made)
    assert {resource["type"] for resource in resources()} == SERVED
    assert all(type_ in made["rest"][0]["documentation"] for type_ in LEFT_OUT)
    assert made["url"] == f"{BASE}/metadata"
    assert statement("https://other.example/fhir", declared)["implementation"]["url"] == "https://other.example/fhir"


async def test_every_search_parameter_and_modifier_is_answered(tx: Tx) -> None:
    asked = 0
    for resource in resources():
        for param in resource["searchParam"]:
            names = [param["name"]]
            modifiers = param.get("documentation", "").removeprefix("modifiers ").split(", ")
            for modifier in modifiers if param["name"] in ("_id", "code", "subject", "date", "name", "url") else []:
                names.append(param["name"] + modifier)
            for name in names:
                if name.endswith(OF_SETS):
                    continue
                value = "true" if name.endswith(":missing") else VALUE.get(param["type"], "x")
                if param["type"] == "composite":
                    parts = SPECS[resource["type"]].params[name].components
                    kinds = [SPECS[resource["type"]].params[part].type for part, _ in parts]
                    value = "$".join(VALUE.get(kind, "x") for kind in kinds)
                value = SPECIAL.get(name, value)
                page = await search(
                    tx.pg, resource["type"], [(name, value), ("_count", "1")], everything, BASE, b"s", 10
                )
                assert page.type == "searchset"
                asked += 1
    assert asked > 2_300


async def test_every_include_is_answered(tx: Tx) -> None:
    for resource in resources():
        for control in ("_include", "_revinclude"):
            for name in resource.get(f"search{'Include' if control == '_include' else 'RevInclude'}", ()):
                await search(tx.pg, resource["type"], [(control, name), ("_count", "1")], everything, BASE, b"s", 10)
        assert {"create", "read", "search-type"} <= {one["code"] for one in resource["interaction"]}


class TestNothingAnsweredIsMissing:
    """What the routes answer is what the statement names, type by type and for the whole system."""

    ROUTES: ClassVar[dict[tuple[str, tuple[str, ...]], tuple[str, ...]]] = {
        ("GET", ()): ("search-type",),
        ("POST", ()): ("create",),
        ("PUT", ()): ("update",),
        ("PATCH", ()): ("patch",),
        ("DELETE", ()): ("delete",),
        ("POST", ("_search",)): ("search-type",),
        ("GET", ("_history",)): ("history-type",),
        ("GET", ("x",)): ("read",),
        ("PUT", ("x",)): ("update",),
        ("PATCH", ("x",)): ("patch",),
        ("DELETE", ("x",)): ("delete",),
        ("GET", ("x", "_history")): ("history-instance",),
        ("GET", ("x", "_history", "1")): ("vread",),
    }

    def test_interactions(self) -> None:
        paths = {rest for _, rest in self.ROUTES}
        for resource in resources():
            answered = {(method, rest) for rest in paths for method in offered([resource["type"], *rest])}
            assert answered == set(self.ROUTES)
            named = {code["code"] for code in resource["interaction"]}
            assert named == {code for codes in self.ROUTES.values() for code in codes}
            assert resource["conditionalCreate"] is resource["conditionalUpdate"] is True

    def test_interactions_of_the_system(self) -> None:
        codes = {"search-system": ("GET", []), "transaction": ("POST", []), "batch": ("POST", []),
                 "history-system": ("GET", ["_history"])}  # fmt: skip
        named = {one["code"] for one in statement(BASE, declared)["rest"][0]["interaction"]}
        assert named == set(codes)
        assert all(method in offered(path) for method, path in codes.values())
        assert set(offered([])) == {"GET", "POST"}

    def test_operations(self) -> None:
        rest = statement(BASE, declared)["rest"][0]
        for operation in OPERATIONS:
            said = {"system": rest["operation"]} if "system" in operation.levels else {}
            types = operation.types or SERVED
            if {"type", "instance"} & set(operation.levels):
                said |= {one["type"]: one.get("operation", []) for one in resources() if one["type"] in types}
            for where, found in said.items():
                assert (operation.name, operation.definition) in [(one["name"], one["definition"]) for one in found], (
                    where
                )
            for level in operation.levels:
                path = {"system": [], "type": [min(types)], "instance": [min(types), "x"]}[level]
                assert set(offered([*path, f"${operation.name}"])) == set(operation.methods)

    def test_search_parameters(self) -> None:
        for resource in resources():
            spec = SPECS[resource["type"]]
            assert {one["name"]: one["type"] for one in resource["searchParam"]} == {
                code: param.type for code, param in spec.params.items()
            }


async def test_every_parameter_of_a_system_search_is_answered(tx: Tx) -> None:
    rest = statement(BASE, declared)["rest"][0]
    assert {"_id", "_lastUpdated", "_tag", "_profile", "_type"} <= {one["name"] for one in rest["searchParam"]}
    for param in rest["searchParam"]:
        value = {"_type": "Patient"} | SPECIAL | {"_lastUpdated": "2026-11-21"}
        asked = [(param["name"], value.get(param["name"], "x")), ("_count", "1")]
        assert (await across(tx.pg, asked, everything, BASE, b"s", 10)).type == "searchset"


def test_security_names_the_token_endpoint_and_no_sign_in_that_is_not_there() -> None:
    security = statement(BASE, declared, (), "https://hub.example/oauth/token")["rest"][0]["security"]
    [oauth] = security["extension"]
    assert oauth["extension"] == [{"url": "token", "valueUri": "https://hub.example/oauth/token"}]
    assert "Nobody signs in through OAuth" in security["description"]
    assert "extension" not in statement(BASE, declared)["rest"][0]["security"]
