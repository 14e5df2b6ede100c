"""Edits from what a page sends."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import date
from typing import get_args

import pytest

from care_plans import edits, forms
from care_plans.edits import Edit
from fhir.outcome import Refusal


def edit(kind: str, **form: str) -> Edit:
    return forms.edit(kind, {key.replace("__", "-"): value for key, value in form.items()}, lambda: "new")


class TestRefused:
    @pytest.mark.parametrize(
        ("kind", "form", "field"),
        [
            ("delete-everything", {}, "kind"),
            ("change-goal", {"text": "x"}, "id"),
            ("set-activity-status", {"status": "completed"}, "key"),
            ("set-next-review", {"on": "3 December"}, "on"),
            ("set-next-review", {"on-day": "31", "on-month": "2", "on-year": "2027"}, "on"),
            ("set-next-review", {"on-day": "3"}, "on"),
            ("record-agreement", {"by": "Ann", "how": "in person"}, "on"),
        ],
    )
    def test_it_names_the_field(self, kind: str, form: Mapping[str, str], field: str) -> None:
        with pytest.raises(Refusal) as caught:
            forms.edit(kind, form, lambda: "new")
        assert caught.value.status == 422
        assert caught.value.issues[0].expression == field


class TestEdit:
    def test_every_edit_has_its_form(self) -> None:
        assert set(forms.KINDS.values()) == set(get_args(Edit))

    @pytest.mark.parametrize("kind", forms.KINDS)
    def test_every_form_with_all_fields_makes_its_edit(self, kind: str) -> None:
        form = {field.name: "2026-12-03" if field.name in forms.DATES else "x" for field in fields(forms.KINDS[kind])}
        assert type(forms.edit(kind, form, lambda: "new")) is forms.KINDS[kind]

    def test_a_new_goal_gets_an_id(self) -> None:
        assert edit("add-goal", text="Walk") == edits.AddGoal("new", "Walk")

    def test_the_page_may_bring_the_id(self) -> None:
        assert edit("add-goal", id="g7", text="Walk") == edits.AddGoal("g7", "Walk")

    def test_an_empty_tick_box_is_a_no_only_when_it_was_on_the_page(self) -> None:
        assert edit("add-goal", text="Walk", by_patient__asked="1") == edits.AddGoal("new", "Walk", by_patient=False)
        ticked = edit("add-goal", text="Walk", by_patient="on", by_patient__asked="1")
        assert ticked == edits.AddGoal("new", "Walk", by_patient=True)

    def test_a_date_in_three_fields(self) -> None:
        form = {"on__day": "3", "on__month": "12", "on__year": "2026"}
        assert edit("set-next-review", **form) == edits.SetNextReview(date(2026, 12, 3))

    def test_an_empty_date_clears(self) -> None:
        assert edit("set-next-review", on="") == edits.SetNextReview(None)

    def test_a_goals_date_is_kept_when_the_page_has_no_such_field(self) -> None:
        assert edit("change-goal", id="g", text="Run") == edits.ChangeGoal("g", "Run", due="keep")
        assert edit("change-goal", id="g", text="Run", due="") == edits.ChangeGoal("g", "Run", due=None)

    def test_what_was_seen_travels_even_when_it_was_empty(self) -> None:
        assert edit("change-goal", id="g", text="Run", was="") == edits.ChangeGoal("g", "Run", was="")

    def test_a_text_that_was_not_sent_is_empty(self) -> None:
        assert edit("set-what-matters") == edits.SetWhatMatters("")

    def test_fields_of_the_page_itself_are_let_be(self) -> None:
        assert edit("activate", csrf="secret", version="3") == edits.Activate()
