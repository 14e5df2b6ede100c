"""Edits from what a page sends: names and texts in, one `Edit` out, or a refusal that names the field."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import date
from typing import Any

from care_plans import edits
from care_plans.edits import Edit
from fhir.outcome import refuse

KINDS: Mapping[str, type] = {
    "set-title": edits.SetTitle,
    "set-what-matters": edits.SetWhatMatters,
    "set-if-worse": edits.SetIfWorse,
    "set-next-review": edits.SetNextReview,
    "add-goal": edits.AddGoal,
    "change-goal": edits.ChangeGoal,
    "close-goal": edits.CloseGoal,
    "reopen-goal": edits.ReopenGoal,
    "add-activity": edits.AddActivity,
    "change-activity": edits.ChangeActivity,
    "set-activity-status": edits.SetActivityStatus,
    "record-agreement": edits.RecordAgreement,
    "activate": edits.Activate,
    "suspend": edits.Suspend,
    "complete": edits.Complete,
}
"""The word in the form's `kind` -> the edit. The other fields of the form are named as those of the edit."""

DATES = frozenset({"on", "due"})
TRUE = frozenset({"on", "yes", "true", "1"})


def edit(kind: str, form: Mapping[str, str], new_id: Callable[[], str]) -> Edit:
    """The edit that a form asks for. Unknown fields are let be; a missing `id` of an addition comes from *new_id*.

    A date comes as `2026-12-03`, or as three fields `on-day`, `on-month`, `on-year` (the NHS.UK date input). A tick box
    `by_patient` counts only beside `by_patient-asked`, as browsers send nothing for an empty box.
    """
    form_type = KINDS.get(kind)
    if form_type is None:
        raise refuse(422, "value", f"'{kind}' is not an edit of a plan; it is one of {', '.join(KINDS)}.", "kind")
    values: dict[str, Any] = {}
    for field in fields(form_type):
        name = field.name
        if name in DATES:
            if kind != "change-goal" or any(key == name or key.startswith(f"{name}-") for key in form):
                values[name] = _date(form, name)
        elif name == "by_patient":
            values[name] = form.get(name, "") in TRUE or (name not in form and f"{name}-asked" not in form)
        elif name in ("id", "key") and not form.get(name):
            if not kind.startswith("add-"):
                raise refuse(422, "required", f"'{name}' is missing: which part of the plan is meant?", name)
            values[name] = new_id()
        elif name in form:
            values[name] = form[name]
        elif field.default is MISSING:
            # Empty text is for `apply` to judge: some sections may be cleared.
            values[name] = ""
    if kind == "record-agreement" and values["on"] is None:
        raise refuse(422, "required", "Say on which day it was agreed.", "on")
    made: Edit = form_type(**values)
    return made


def _date(form: Mapping[str, str], name: str) -> date | None:
    parts = [form.get(f"{name}-{part}", "").strip() for part in ("year", "month", "day")]
    whole = form.get(name, "").strip()
    if not whole and not any(parts):
        return None
    try:
        return date.fromisoformat(whole) if whole else date(*(int(part) for part in parts))
    except ValueError:
        given = whole or " ".join(reversed(parts)).strip()
        raise refuse(
            422, "value", f"'{given}' is not a date. Write day, month and year, such as 3 12 2026.", name
        ) from None
