"""The table of operations: a row is asked for at its levels, for its types, with its methods, and is declared so."""

from starlette.responses import Response

from hub.interactions import Call
from hub.operations import OPERATIONS, Operation, asked, declared


async def _answer(call: Call) -> Response:
    return Response()


EVERYTHING = Operation("everything", ("instance",), _answer, "urn:everything", frozenset({"Patient"}), ("GET",))
META = Operation("meta", ("system", "type", "instance"), _answer, "urn:meta", documentation="tags")
EXPORT = Operation("export", ("system", "type"), _answer, "urn:export", frozenset({"Patient", "Group"}), parts=1)
TABLE = (EVERYTHING, META, EXPORT)


class TestPaths:
    def test_each_level_is_found_and_no_other(self) -> None:
        assert asked(["Patient", "7", "$everything"], TABLE) is EVERYTHING
        assert asked(["$meta"], TABLE) is asked(["Observation", "$meta"], TABLE) is META
        assert asked(["$export", "job-1"], TABLE) is EXPORT
        for path in (
            ["$everything"],
            ["Patient", "$everything"],
            ["Group", "7", "$everything"],
            ["Patient", "7", "$everything", "more"],
            ["Observation", "$export"],
            ["Nonsense", "$meta"],
            ["Patient", "no id!", "$meta"],
            ["Patient", "7", "_history", "$meta"],
            ["Patient", "7"],
            [],
        ):
            assert asked(path, TABLE) is None, path


class TestDeclared:
    def test_the_statement_names_them_where_they_are_answered(self) -> None:
        meta = {"name": "meta", "definition": "urn:meta", "documentation": "tags"}
        assert declared(None, TABLE) == [meta, {"name": "export", "definition": "urn:export"}]
        assert [one["name"] for one in declared("Patient", TABLE)] == ["everything", "meta", "export"]
        assert declared("Observation", TABLE) == [meta]

    def test_no_two_rows_answer_one_address(self) -> None:
        seen = set()
        for one in OPERATIONS:
            for level in one.levels:
                for type_ in one.types or {None}:
                    assert (one.name, level, type_) not in seen
                    seen.add((one.name, level, type_))
