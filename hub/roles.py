"""Who may do what: one row per role, one word per permission, one area per FHIR type. Nothing else grants anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# What each permission lets its holder do. Pages and flows ask `actor.can("flag.acknowledge")`, never for a role.
PERMISSIONS: Mapping[str, str] = MappingProxyType(
    {
        "board.today": "open the Today board",
        "board.mdt": "open the MDT board",
        "person.search": "look for people by name, NHS number or date of birth",
        "person.register": "register a person and correct who they are",
        "flag.acknowledge": "acknowledge a flag",
        "cover.set": "say when a hub looks at flags, and who is told if nobody does",
        "flag.resolve": "resolve a flag or mark it a false alarm",
        "plan.edit": "write and change a plan and its goals",
        "plan.agree": "record that a plan was agreed, or agree one's own",
        "approval.record": "record a person's approval of being planned for",
        "team.assign": "put people into a care team",
        "task.assign": "give a task to someone",
        "task.answer": "accept, complete or decline a task",
        "referral.create": "refer a person",
        "limit.set": "set home monitoring and its limits",
        "rule.read": "see the rules of monitoring and who they watch",
        "rule.set": "compose rules of monitoring for the hub, make them live, retire them, order one for a person",
        "monitoring.pause": "pause home monitoring for a time, with a reason, and end the pause",
        "reading.write": "add readings",
        "reading.correct": "mark a reading as wrong",
        "message.write": "write messages",
        "clinical.write": "write the clinical record",
        "record.import": "write records on behalf of another system, as it sent them",
        "device.manage": "register devices, hand them to people, issue and revoke their keys",
        "directory.edit": "change organisations, staff, places and definitions",
        "account.manage": "make accounts and tokens, and end them",
        "audit.read": "read the audit trail and check its seals",
        "access.explain": "see who may see a person, and why",
        "emergency.access": "open the record of a person outside one's care for a few hours, with a reason",
        "emergency.review": "look into emergency openings and close them",
        "export": "export records in bulk",
        "subscription.listen": "be told through a websocket, while connected, of changes to what one may see",
        "subscription.send": "have the hub send changes to what one may see to another system",
        "subscription.stop": "see everybody's subscriptions and end them",
        "report.read": "read reports about the hub's work",
        "operations.read": "see the health of the service",
    }
)

# What the areas hold. A row of a SHARED area that is about nobody may be read by every role that reads the area;
# every row that is about somebody needs a care relationship with that person.
AREAS: Mapping[str, str] = MappingProxyType(
    {
        "identity": "who the person is, and those close to them",
        "consent": "approvals and objections",
        "plan": "plan, goals, team and questionnaires",
        "monitoring": "readings and flags",
        "triage": "risk scores and impressions made for staff",
        "clinical": "the clinical record",
        "referral": "referrals, monitoring orders, tasks and appointments",
        "messages": "messages",
        "device": "devices",
        "directory": "organisations, places, services",
        "staff": "people who work here",
        "definition": "templates, questionnaires, code lists, medicines",
        "protocol": "templates of plans, and the hub's own rules of monitoring",
        "financial": "claims, cover and accounts",
        "audit": "audit events that other systems sent",
        "subscription": "who asked to be told of what, and where to",
        "operations": "the workings of the service",
    }
)
SHARED_AREAS = frozenset({"directory", "staff", "definition", "protocol", "operations"})

_TYPES_OF: dict[str, str] = {
    "identity": "Patient RelatedPerson Person",
    "consent": "Consent",
    "plan": "CarePlan CareTeam Goal QuestionnaireResponse",
    "monitoring": "Observation Flag",
    "triage": "RiskAssessment ClinicalImpression GuidanceResponse",
    "clinical": """AdverseEvent AllergyIntolerance Basic Binary BodyStructure Bundle Composition Condition DetectedIssue
        DiagnosticReport DocumentManifest DocumentReference Encounter EpisodeOfCare FamilyMemberHistory Group
        ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation Linkage List MeasureReport Media
        MedicationAdministration MedicationDispense MedicationRequest MedicationStatement MessageHeader
        MolecularSequence NutritionOrder OperationOutcome Parameters Procedure Provenance RequestGroup
        ResearchSubject Specimen SupplyDelivery SupplyRequest VerificationResult VisionPrescription""",
    "referral": "ServiceRequest Task Appointment AppointmentResponse",
    "messages": "Communication CommunicationRequest",
    "device": "Device DeviceMetric DeviceRequest DeviceUseStatement",
    "directory": "Organization OrganizationAffiliation Location HealthcareService Endpoint Schedule Slot InsurancePlan",
    "staff": "Practitioner PractitionerRole",
    "definition": """ActivityDefinition BiologicallyDerivedProduct CapabilityStatement CatalogEntry ChargeItemDefinition
        CodeSystem CompartmentDefinition ConceptMap DeviceDefinition EventDefinition ExampleScenario GraphDefinition
        ImplementationGuide Library Measure Medication MedicationKnowledge MessageDefinition NamingSystem
        ObservationDefinition OperationDefinition Questionnaire ResearchDefinition
        ResearchElementDefinition ResearchStudy SearchParameter SpecimenDefinition StructureDefinition StructureMap
        Substance TerminologyCapabilities ValueSet""",
    "protocol": "PlanDefinition",
    "financial": """Account ChargeItem Claim ClaimResponse Contract Coverage CoverageEligibilityRequest
        CoverageEligibilityResponse EnrollmentRequest EnrollmentResponse ExplanationOfBenefit Invoice PaymentNotice
        PaymentReconciliation""",
    "audit": "AuditEvent",
    "subscription": "Subscription",
    "operations": "TestReport TestScript",
}

# FHIR type -> area. A type that is not here is invisible to everybody.
TYPE_AREAS: Mapping[str, str] = MappingProxyType(
    {type_: area for area, types in _TYPES_OF.items() for type_ in types.split()}
)

# Writing these takes the permission as well as the area.
TYPE_PERMISSIONS: Mapping[str, str] = MappingProxyType(
    {
        "Patient": "person.register",
        "RelatedPerson": "person.register",
        "Person": "person.register",
        "Consent": "approval.record",
        "CarePlan": "plan.edit",
        "Goal": "plan.edit",
        "CareTeam": "team.assign",
        "Observation": "reading.write",
        "Flag": "flag.acknowledge",
        "ServiceRequest": "referral.create",
        "Communication": "message.write",
        "CommunicationRequest": "message.write",
        "Device": "device.manage",
        "DeviceUseStatement": "device.manage",
    }
)

# Changing or removing these takes a further permission: whoever may add a reading may not rewrite one.
CHANGE_PERMISSIONS: Mapping[str, str] = MappingProxyType({"Observation": "reading.correct"})

# What the owner of a task may change in it to answer it, with or without a care relationship.
TASK_ANSWER = frozenset(
    {"meta", "status", "statusReason", "businessStatus", "note", "output", "executionPeriod", "lastModified"}
)

# What whoever wrote a reading by hand may change in it, without the permission above: that it was wrong, and why.
STRUCK = "entered-in-error"
STRIKE = frozenset({"status", "note"})

# Where a resource says who speaks. Patients, carers and devices may put only themselves there.
SPEAKERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Observation": ("performer",),
        "QuestionnaireResponse": ("author", "source"),
        "Communication": ("sender",),
    }
)


@dataclass(frozen=True, slots=True)
class Role:
    """One role. `reads` and `writes` hold areas; `also_writes` single types outside those areas, to add to, not change.

    `everyone`: not limited to people in whose care the actor is. `unlinked`: areas whose rows about nobody (a Device
    on the shelf, a Bundle) the role sees. `named`: types of which only rows that name the actor in one of these search
    parameters are visible (`_id` means the actor's own resource, `_owner` those that the actor's account made), with or
    without a care relationship. `team_only`:
    of the staff, only those in the care teams of people the actor may see.
    """

    name: str
    words: str
    permissions: frozenset[str]
    reads: frozenset[str]
    writes: frozenset[str] = frozenset()
    also_writes: frozenset[str] = frozenset()
    everyone: bool = False
    unlinked: frozenset[str] = frozenset()
    named: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    team_only: bool = False
    landing: str = "/"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ALL_AREAS = frozenset(AREAS)
_PUBLIC = _words("directory staff definition protocol")
_CARE = _words("identity consent plan monitoring triage clinical referral messages device") | _PUBLIC

_OWN_SUBSCRIPTIONS = MappingProxyType({"Subscription": ("_owner",)})

_ROLE_LIST = (
    Role(
        "care-coordinator",
        "Writes plans with people, keeps their team, tasks and messages together.",
        _words(
            """board.today board.mdt person.search person.register flag.acknowledge flag.resolve plan.edit plan.agree
            approval.record team.assign task.assign task.answer referral.create reading.write reading.correct
            monitoring.pause message.write device.manage access.explain emergency.access report.read
            rule.read subscription.listen"""
        ),
        reads=_CARE,
        writes=_words("identity consent plan monitoring referral messages device subscription"),
        unlinked=_words("device subscription"),
        named=_OWN_SUBSCRIPTIONS,
        landing="/today",
    ),
    Role(
        "health-coach",
        "Coaches people towards their own goals.",
        _words(
            """board.today person.search flag.acknowledge plan.edit task.assign task.answer referral.create
            monitoring.pause reading.write reading.correct message.write emergency.access
            rule.read"""
        ),
        reads=_CARE,
        writes=_words("plan monitoring referral messages"),
        landing="/today",
    ),
    Role(
        "clinician",
        "Doctor, nurse or therapist of the multidisciplinary team: decides, sets limits, writes the clinical record.",
        _words(
            """board.today board.mdt person.search person.register flag.acknowledge flag.resolve plan.edit plan.agree
            approval.record team.assign task.assign task.answer referral.create limit.set monitoring.pause
            reading.write reading.correct message.write clinical.write device.manage access.explain
            emergency.access report.read rule.read rule.set subscription.listen"""
        ),
        reads=_CARE,
        writes=_words(
            "identity consent plan monitoring triage clinical referral messages device protocol subscription"
        ),
        unlinked=_words("device subscription"),
        named=_OWN_SUBSCRIPTIONS,
        landing="/mdt",
    ),
    Role(
        "practice-staff",
        "Works at the person's GP practice: follows the plan, adds readings, tasks and messages.",
        _words(
            """person.search flag.acknowledge task.assign task.answer referral.create reading.write message.write
            emergency.access"""
        ),
        reads=_CARE,
        writes=_words("monitoring referral messages"),
        landing="/today",
    ),
    Role(
        "social-worker",
        "Social worker or other partner in the person's team: sees and edits the plan, not the clinical record.",
        _words("person.search plan.edit task.assign task.answer referral.create message.write"),
        reads=_words("identity consent plan referral messages") | _PUBLIC,
        writes=_words("plan referral messages"),
        landing="/today",
    ),
    Role(
        "voluntary-worker",
        "Works for a voluntary organisation: sees and answers only the tasks and referrals addressed to them or to it.",
        _words("task.answer"),
        reads=_words("directory definition protocol"),
        named={"ServiceRequest": ("performer",), "Task": ("owner",)},
        landing="/tasks",
    ),
    Role(
        "patient",
        "The person: sees their own record, agrees their plan, adds readings and messages.",
        _words("plan.agree reading.write message.write"),
        reads=_words("identity consent plan monitoring clinical referral messages device") | _PUBLIC,
        also_writes=_words("Observation QuestionnaireResponse Communication"),
        team_only=True,
        landing="/me",
    ),
    Role(
        "carer",
        "Someone close, named in the person's record: sees plan and readings and can add readings, not the clinical "
        "record, the messages or the other people close to the person.",
        _words("reading.write"),
        reads=_words("identity plan monitoring referral device") | _PUBLIC,
        also_writes=_words("Observation QuestionnaireResponse"),
        named={"RelatedPerson": ("_id",)},
        team_only=True,
        landing="/me",
    ),
    Role(
        "device",
        "A device or gateway: posts readings for the person who holds it, and sees only itself.",
        _words("reading.write"),
        reads=frozenset(),
        also_writes=_words("Observation"),
        named={"Device": ("_id",)},
    ),
    Role(
        "ehr-system",
        "Another record system: reads and writes the record as a whole.",
        _words(
            """person.search person.register plan.edit approval.record team.assign referral.create reading.write
            reading.correct message.write clinical.write device.manage directory.edit record.import export
            flag.acknowledge subscription.listen subscription.send"""
        ),
        reads=_ALL_AREAS - {"audit", "operations"},
        writes=_ALL_AREAS - {"audit", "operations"},
        everyone=True,
        unlinked=_ALL_AREAS - {"audit", "operations"},
        named=_OWN_SUBSCRIPTIONS,
    ),
    Role(
        "information-governance",
        "Checks who looked at what and whether people agreed; sees no clinical record.",
        _words("audit.read access.explain emergency.review report.read rule.read"),
        reads=_words("audit consent subscription") | _PUBLIC,
        everyone=True,
        unlinked=_words("audit consent subscription"),
        landing="/audit",
    ),
    Role(
        "operations",
        "Keeps devices and the service running; sees no clinical record.",
        _words(
            """device.manage operations.read report.read rule.read subscription.listen subscription.send
            subscription.stop"""
        ),
        reads=_words("device operations subscription") | _PUBLIC,
        writes=_words("device operations subscription"),
        everyone=True,
        unlinked=_words("device operations subscription"),
        landing="/devices",
    ),
    Role(
        "administrator",
        "Sets the hub up: accounts, devices, imports, exports and the directory. Sees everything; every look is kept.",
        frozenset(PERMISSIONS) - {"emergency.access"},
        reads=_ALL_AREAS,
        writes=_ALL_AREAS,
        everyone=True,
        unlinked=_ALL_AREAS,
        landing="/today",
    ),
    Role(
        "importer",
        "The hub itself while it imports files that an operator gave it.",
        frozenset(PERMISSIONS) - {"emergency.access", "account.manage", "audit.read"},
        reads=_ALL_AREAS,
        writes=_ALL_AREAS,
        everyone=True,
        unlinked=_ALL_AREAS,
    ),
    Role(
        "engine",
        "The hub itself while it evaluates readings: opens and refreshes flags.",
        _words("flag.acknowledge flag.resolve task.assign reading.correct message.write referral.create"),
        reads=_words("identity consent plan monitoring triage referral messages device") | _PUBLIC,
        writes=_words("monitoring triage referral messages"),
        everyone=True,
        unlinked=_words("device"),
    ),
)

ROLES: Mapping[str, Role] = MappingProxyType({role.name: role for role in _ROLE_LIST})

# Roles that only the hub itself may act in: no account can have them.
SYSTEM_ROLES = frozenset({"importer", "engine", "device"})
