"""Who asks: the Actor of a request."""

from dataclasses import dataclass

from hub.roles import PERMISSIONS, ROLES


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. Every flow, query and audit row has one.

    `kind` is user, device, system or patient (patients and carers). `reference` is what records are signed with, such
    as `Practitioner/x`. `subjects` are the references by which rows of `access` match: the actor's own and those of
    the organisations they work for. `csrf` is set for sessions of the web pages only.
    """

    kind: str
    id: str
    name: str
    role: str
    reference: str
    subjects: tuple[str, ...]
    hub_id: str | None = None
    csrf: str | None = None

    def can(self, permission: str) -> bool:
        """Whether the actor's role owns *permission*, one of `hub.roles.PERMISSIONS` (KeyError for any other word)."""
        PERMISSIONS[permission]
        role = ROLES.get(self.role)
        return role is not None and permission in role.permissions


ENGINE = Actor(
    kind="system",
    id="care-hub-engine",
    name="Care Hub",
    role="engine",
    reference="Device/care-hub-engine",
    subjects=("Device/care-hub-engine",),
)

IMPORTER = Actor(
    kind="system",
    id="care-hub-import",
    name="Care Hub import",
    role="importer",
    reference="Device/care-hub-import",
    subjects=("Device/care-hub-import",),
)
