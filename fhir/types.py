"""Which resource types the hub serves: those of FHIR R4 (4.0.1) that `fhir.resources.R4B` has with the same JSON shape.

The tests hold both lists against the stored R4 definitions and against the installed package.
"""

_NAMES = """
    Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic
    Binary BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry
    ChargeItem ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem Communication
    CommunicationRequest CompartmentDefinition Composition ConceptMap Condition Consent Contract Coverage
    CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device DeviceDefinition DeviceMetric
    DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference Encounter Endpoint
    EnrollmentRequest EnrollmentResponse EpisodeOfCare EventDefinition ExampleScenario ExplanationOfBenefit
    FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse HealthcareService ImagingStudy
    Immunization ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice
    Library Linkage List Location Measure MeasureReport Media Medication MedicationAdministration
    MedicationDispense MedicationKnowledge MedicationRequest MedicationStatement MessageDefinition MessageHeader
    MolecularSequence NamingSystem NutritionOrder Observation ObservationDefinition OperationDefinition
    OperationOutcome Organization OrganizationAffiliation Parameters Patient PaymentNotice PaymentReconciliation
    Person PlanDefinition Practitioner PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse
    RelatedPerson RequestGroup ResearchDefinition ResearchElementDefinition ResearchStudy ResearchSubject
    RiskAssessment Schedule SearchParameter ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition
    StructureMap Subscription Substance SupplyDelivery SupplyRequest Task TerminologyCapabilities TestReport
    TestScript ValueSet VerificationResult VisionPrescription
"""
SERVED: frozenset[str] = frozenset(_NAMES.split())

_SPLIT_UP = "R4 only: R4B replaced the medicinal product resources by MedicinalProductDefinition and its relatives"
_SUBSTANCE = "R4 only: R4B replaced the substance resources by SubstanceDefinition"
_SYNTHESIS = "R4 only: R4B replaced the evidence synthesis resources by Evidence"
_RESHAPED = "R4B gave this type another shape than R4, so a resource could not be read back as R4"
_NEWER = "new in R4B, unknown to R4 clients"
_ABSTRACT = "abstract: no resource has this type"

LEFT_OUT: dict[str, str] = {
    "DomainResource": _ABSTRACT,
    "Resource": _ABSTRACT,
    "Evidence": _RESHAPED,
    "EvidenceVariable": _RESHAPED,
    "EffectEvidenceSynthesis": _SYNTHESIS,
    "RiskEvidenceSynthesis": _SYNTHESIS,
    "MedicinalProduct": _SPLIT_UP,
    "MedicinalProductAuthorization": _SPLIT_UP,
    "MedicinalProductContraindication": _SPLIT_UP,
    "MedicinalProductIndication": _SPLIT_UP,
    "MedicinalProductIngredient": _SPLIT_UP,
    "MedicinalProductInteraction": _SPLIT_UP,
    "MedicinalProductManufactured": _SPLIT_UP,
    "MedicinalProductPackaged": _SPLIT_UP,
    "MedicinalProductPharmaceutical": _SPLIT_UP,
    "MedicinalProductUndesirableEffect": _SPLIT_UP,
    "SubstanceNucleicAcid": _SUBSTANCE,
    "SubstancePolymer": _SUBSTANCE,
    "SubstanceProtein": _SUBSTANCE,
    "SubstanceReferenceInformation": _SUBSTANCE,
    "SubstanceSourceMaterial": _SUBSTANCE,
    "SubstanceSpecification": _SUBSTANCE,
    "AdministrableProductDefinition": _NEWER,
    "Citation": _NEWER,
    "ClinicalUseDefinition": _NEWER,
    "EvidenceReport": _NEWER,
    "Ingredient": _NEWER,
    "ManufacturedItemDefinition": _NEWER,
    "MedicinalProductDefinition": _NEWER,
    "NutritionProduct": _NEWER,
    "PackagedProductDefinition": _NEWER,
    "RegulatedAuthorization": _NEWER,
    "SubscriptionStatus": _NEWER,
    "SubscriptionTopic": _NEWER,
    "SubstanceDefinition": _NEWER,
}
"""Every other resource type of R4 and R4B, and why it is not served."""
