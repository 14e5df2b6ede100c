"""Scopes: what is understood, and that they only ever narrow a role."""

import pytest

from hub import scopes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("system/Observation.rs", "system/Observation.rs"),
        ("system/*.read", "system/*.rs"),
        ("system/Patient.write system/Patient.rs", "system/Patient.cruds"),
        ("system/*.*", "system/*.cruds"),
        ("system/Patient.cu", "system/Patient.cu"),
    ],
)
def test_understood(text: str, said: str) -> None:
    assert str(scopes.parse(text)) == said


@pytest.mark.parametrize(
    "text",
    ["", "openid", "user/Patient.rs", "patient/Patient.rs", "system/Patient.", "system/Patient.sr", "system/Nothing.rs",
     "system/Patient.r", "system/Patient.s", "system/Patient.rs?status=active", "system/patient.rs"],
)  # fmt: skip
def test_not_understood(text: str) -> None:
    with pytest.raises(scopes.Unknown):
        scopes.parse(text)


def test_a_scope_never_adds_to_a_role() -> None:
    asked = scopes.parse("system/Patient.rs system/AuditEvent.cud")
    assert str(scopes.granted(asked, "ehr-system")) == "system/Patient.rs"
    with pytest.raises(scopes.Unknown):
        scopes.granted(scopes.parse("system/Patient.cruds"), "device")


def test_no_scope_reaches_subscriptions() -> None:
    """What arrives later would be limited by the account, not by the token."""
    assert not scopes.parse("system/*.cruds").allows("Subscription", "c")
