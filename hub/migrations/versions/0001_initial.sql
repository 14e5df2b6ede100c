CREATE SEQUENCE resource_version_seq;
CREATE TABLE resource_version (
	type TEXT COLLATE "C" NOT NULL,
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	seq BIGINT DEFAULT nextval('resource_version_seq') NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	author TEXT COLLATE "C" NOT NULL,
	method TEXT COLLATE "C" NOT NULL,
	body TEXT,
	xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
	PRIMARY KEY (type, id, version)
)
 PARTITION BY LIST (type);
CREATE INDEX resource_version_patient_idx ON resource_version (patient_id, seq);
CREATE INDEX resource_version_seq_idx ON resource_version (seq);
COMMENT ON COLUMN resource_version.author IS 'reference of who wrote it, such as Practitioner/x';
COMMENT ON COLUMN resource_version.method IS 'POST, PUT, PATCH or DELETE';
COMMENT ON COLUMN resource_version.body IS 'the JSON as stored, meta included; null for a deletion';
CREATE TABLE resource_version_auditevent PARTITION OF resource_version FOR VALUES IN ('AuditEvent');
CREATE TABLE resource_version_careplan PARTITION OF resource_version FOR VALUES IN ('CarePlan');
CREATE TABLE resource_version_claim PARTITION OF resource_version FOR VALUES IN ('Claim');
CREATE TABLE resource_version_communication PARTITION OF resource_version FOR VALUES IN ('Communication');
CREATE TABLE resource_version_condition PARTITION OF resource_version FOR VALUES IN ('Condition');
CREATE TABLE resource_version_diagnosticreport PARTITION OF resource_version FOR VALUES IN ('DiagnosticReport');
CREATE TABLE resource_version_encounter PARTITION OF resource_version FOR VALUES IN ('Encounter');
CREATE TABLE resource_version_explanationofbenefit PARTITION OF resource_version FOR VALUES IN ('ExplanationOfBenefit');
CREATE TABLE resource_version_flag PARTITION OF resource_version FOR VALUES IN ('Flag');
CREATE TABLE resource_version_immunization PARTITION OF resource_version FOR VALUES IN ('Immunization');
CREATE TABLE resource_version_medicationrequest PARTITION OF resource_version FOR VALUES IN ('MedicationRequest');
CREATE TABLE resource_version_observation PARTITION OF resource_version FOR VALUES IN ('Observation');
CREATE TABLE resource_version_patient PARTITION OF resource_version FOR VALUES IN ('Patient');
CREATE TABLE resource_version_procedure PARTITION OF resource_version FOR VALUES IN ('Procedure');
CREATE TABLE resource_version_provenance PARTITION OF resource_version FOR VALUES IN ('Provenance');
CREATE TABLE resource_version_task PARTITION OF resource_version FOR VALUES IN ('Task');
CREATE TABLE resource_version_other PARTITION OF resource_version DEFAULT;
CREATE INDEX resource_version_other_type_seq ON resource_version_other (type, seq);
CREATE TABLE plan (
	id TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	status TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	title TEXT NOT NULL,
	review_on DATE,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	author TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX plan_review ON plan (review_on) WHERE status = 'active';
CREATE UNIQUE INDEX plan_one_active ON plan (patient_id) WHERE status = 'active';
COMMENT ON COLUMN plan.id IS 'id of the FHIR CarePlan';
CREATE TABLE plan_reader (
	plan_id TEXT COLLATE "C" NOT NULL,
	reader TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	at TIMESTAMP WITH TIME ZONE NOT NULL,
	PRIMARY KEY (plan_id, reader)
);
COMMENT ON COLUMN plan_reader.reader IS 'reference such as Practitioner/x or Patient/y';
CREATE TABLE approval (
	id TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	given BOOLEAN NOT NULL,
	denied BOOLEAN NOT NULL,
	given_by TEXT COLLATE "C",
	given_at TIMESTAMP WITH TIME ZONE NOT NULL,
	how TEXT,
	valid_from TIMESTAMP WITH TIME ZONE,
	valid_until TIMESTAMP WITH TIME ZONE,
	withdrawn_at TIMESTAMP WITH TIME ZONE,
	withdrawn_by TEXT COLLATE "C",
	withdrawn_why TEXT,
	PRIMARY KEY (id)
);
CREATE INDEX approval_patient ON approval (patient_id) WHERE given OR denied;
COMMENT ON COLUMN approval.id IS 'id of the FHIR Consent';
COMMENT ON COLUMN approval.given IS 'active, permits, and is about care planning';
COMMENT ON COLUMN approval.denied IS 'says no, or is a yes withdrawn; the latest decision counts';
COMMENT ON COLUMN approval.valid_until IS 'compared with now on every read: an approval ends by itself';
COMMENT ON COLUMN approval.withdrawn_by IS 'who said so: the person, or who decides for them';
CREATE TABLE team_member (
	care_team_id TEXT COLLATE "C" NOT NULL,
	member TEXT COLLATE "C" NOT NULL,
	role_code TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	role TEXT NOT NULL,
	name TEXT NOT NULL,
	since TIMESTAMP WITH TIME ZONE,
	until TIMESTAMP WITH TIME ZONE,
	PRIMARY KEY (care_team_id, member, role_code)
);
CREATE INDEX team_member_member ON team_member (member, role_code);
CREATE INDEX team_member_patient ON team_member (patient_id);
COMMENT ON COLUMN team_member.member IS 'Practitioner/x, Organization/y; #n: not on our record';
COMMENT ON COLUMN team_member.role_code IS 'SNOMED CT code, empty when none was given';
CREATE TABLE task (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	patient_id TEXT COLLATE "C",
	hub_id TEXT COLLATE "C",
	owner TEXT COLLATE "C",
	status TEXT COLLATE "C" NOT NULL,
	priority TEXT COLLATE "C",
	description TEXT NOT NULL,
	due TIMESTAMP WITH TIME ZONE,
	PRIMARY KEY (id)
);
CREATE INDEX task_open ON task (owner, due) WHERE status IN ('requested', 'received', 'accepted', 'ready', 'in-progress', 'on-hold');
CREATE INDEX task_open_hub ON task (hub_id, due) WHERE status IN ('requested', 'received', 'accepted', 'ready', 'in-progress', 'on-hold');
CREATE INDEX task_patient ON task (patient_id);
CREATE TABLE r_account (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_period TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_account_d_period ON r_account USING gist (d_period) WHERE d_period IS NOT NULL;
CREATE INDEX r_account_keys ON r_account USING gin (keys);
CREATE INDEX r_account_patient ON r_account (patient_id, d_period DESC NULLS LAST);
CREATE INDEX r_account_strings ON r_account USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_account_updated ON r_account (updated, id);
CREATE TABLE r_activitydefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_effective TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_activitydefinition_keys ON r_activitydefinition USING gin (keys);
CREATE INDEX r_activitydefinition_strings ON r_activitydefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_adverseevent (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_adverseevent_d_date ON r_adverseevent USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_adverseevent_keys ON r_adverseevent USING gin (keys);
CREATE INDEX r_adverseevent_patient ON r_adverseevent (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_adverseevent_updated ON r_adverseevent (updated, id);
CREATE TABLE r_allergyintolerance (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	d_last_date TSTZRANGE,
	d_onset TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_allergyintolerance_d_date ON r_allergyintolerance USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_allergyintolerance_d_last_date ON r_allergyintolerance USING gist (d_last_date) WHERE d_last_date IS NOT NULL;
CREATE INDEX r_allergyintolerance_d_onset ON r_allergyintolerance USING gist (d_onset) WHERE d_onset IS NOT NULL;
CREATE INDEX r_allergyintolerance_keys ON r_allergyintolerance USING gin (keys);
CREATE INDEX r_allergyintolerance_patient ON r_allergyintolerance (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_allergyintolerance_updated ON r_allergyintolerance (updated, id);
CREATE TABLE r_appointment (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_appointment_d_date ON r_appointment USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_appointment_keys ON r_appointment USING gin (keys);
CREATE INDEX r_appointment_patient ON r_appointment (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_appointment_updated ON r_appointment (updated, id);
CREATE TABLE r_appointmentresponse (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_appointmentresponse_keys ON r_appointmentresponse USING gin (keys);
CREATE INDEX r_appointmentresponse_patient ON r_appointmentresponse (patient_id);
CREATE INDEX r_appointmentresponse_updated ON r_appointmentresponse (updated, id);
CREATE TABLE r_auditevent (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_auditevent_d_date_end ON r_auditevent (coalesce(upper(d_date), 'infinity')) WHERE d_date IS NOT NULL;
CREATE INDEX r_auditevent_keys ON r_auditevent USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_auditevent_latest ON r_auditevent (d_date DESC NULLS LAST, id DESC);
CREATE INDEX r_auditevent_patient ON r_auditevent (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_auditevent_strings ON r_auditevent USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_auditevent_updated ON r_auditevent (updated, id);
CREATE TABLE r_basic (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_created TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_basic_d_created ON r_basic USING gist (d_created) WHERE d_created IS NOT NULL;
CREATE INDEX r_basic_keys ON r_basic USING gin (keys);
CREATE INDEX r_basic_patient ON r_basic (patient_id, d_created DESC NULLS LAST);
CREATE INDEX r_basic_updated ON r_basic (updated, id);
CREATE TABLE r_binary (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_binary_keys ON r_binary USING gin (keys);
CREATE INDEX r_binary_patient ON r_binary (patient_id);
CREATE INDEX r_binary_updated ON r_binary (updated, id);
CREATE TABLE r_biologicallyderivedproduct (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_biologicallyderivedproduct_keys ON r_biologicallyderivedproduct USING gin (keys);
CREATE TABLE r_bodystructure (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_bodystructure_keys ON r_bodystructure USING gin (keys);
CREATE INDEX r_bodystructure_patient ON r_bodystructure (patient_id);
CREATE INDEX r_bodystructure_updated ON r_bodystructure (updated, id);
CREATE TABLE r_bundle (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_timestamp TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_bundle_d_timestamp ON r_bundle USING gist (d_timestamp) WHERE d_timestamp IS NOT NULL;
CREATE INDEX r_bundle_keys ON r_bundle USING gin (keys);
CREATE INDEX r_bundle_updated ON r_bundle (updated, id);
CREATE TABLE r_capabilitystatement (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_capabilitystatement_keys ON r_capabilitystatement USING gin (keys);
CREATE INDEX r_capabilitystatement_strings ON r_capabilitystatement USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_careplan (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	d_activity_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_careplan_d_activity_date ON r_careplan USING gist (d_activity_date) WHERE d_activity_date IS NOT NULL;
CREATE INDEX r_careplan_d_date_end ON r_careplan (coalesce(upper(d_date), 'infinity')) WHERE d_date IS NOT NULL;
CREATE INDEX r_careplan_keys ON r_careplan USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_careplan_latest ON r_careplan (d_date DESC NULLS LAST, id DESC);
CREATE INDEX r_careplan_patient ON r_careplan (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_careplan_updated ON r_careplan (updated, id);
CREATE TABLE r_careteam (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_careteam_d_date ON r_careteam USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_careteam_keys ON r_careteam USING gin (keys);
CREATE INDEX r_careteam_patient ON r_careteam (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_careteam_updated ON r_careteam (updated, id);
CREATE TABLE r_catalogentry (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_catalogentry_keys ON r_catalogentry USING gin (keys);
CREATE TABLE r_chargeitem (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_entered_date TSTZRANGE,
	d_occurrence TSTZRANGE,
	low DOUBLE PRECISION,
	high DOUBLE PRECISION,
	PRIMARY KEY (id)
);
CREATE INDEX r_chargeitem_d_entered_date ON r_chargeitem USING gist (d_entered_date) WHERE d_entered_date IS NOT NULL;
CREATE INDEX r_chargeitem_d_occurrence ON r_chargeitem USING gist (d_occurrence) WHERE d_occurrence IS NOT NULL;
CREATE INDEX r_chargeitem_high ON r_chargeitem (high) WHERE high IS NOT NULL;
CREATE INDEX r_chargeitem_keys ON r_chargeitem USING gin (keys);
CREATE INDEX r_chargeitem_low ON r_chargeitem (low) WHERE low IS NOT NULL;
CREATE INDEX r_chargeitem_patient ON r_chargeitem (patient_id, d_entered_date DESC NULLS LAST);
CREATE INDEX r_chargeitem_updated ON r_chargeitem (updated, id);
CREATE TABLE r_chargeitemdefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_effective TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_chargeitemdefinition_keys ON r_chargeitemdefinition USING gin (keys);
CREATE INDEX r_chargeitemdefinition_strings ON r_chargeitemdefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_claim (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_created TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_claim_d_created_end ON r_claim (coalesce(upper(d_created), 'infinity')) WHERE d_created IS NOT NULL;
CREATE INDEX r_claim_keys ON r_claim USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_claim_latest ON r_claim (d_created DESC NULLS LAST, id DESC);
CREATE INDEX r_claim_patient ON r_claim (patient_id, d_created DESC NULLS LAST);
CREATE INDEX r_claim_updated ON r_claim (updated, id);
CREATE TABLE r_claimresponse (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_created TSTZRANGE,
	d_payment_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_claimresponse_d_created ON r_claimresponse USING gist (d_created) WHERE d_created IS NOT NULL;
CREATE INDEX r_claimresponse_d_payment_date ON r_claimresponse USING gist (d_payment_date) WHERE d_payment_date IS NOT NULL;
CREATE INDEX r_claimresponse_keys ON r_claimresponse USING gin (keys);
CREATE INDEX r_claimresponse_patient ON r_claimresponse (patient_id, d_created DESC NULLS LAST);
CREATE INDEX r_claimresponse_strings ON r_claimresponse USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_claimresponse_updated ON r_claimresponse (updated, id);
CREATE TABLE r_clinicalimpression (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_clinicalimpression_d_date ON r_clinicalimpression USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_clinicalimpression_keys ON r_clinicalimpression USING gin (keys);
CREATE INDEX r_clinicalimpression_patient ON r_clinicalimpression (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_clinicalimpression_updated ON r_clinicalimpression (updated, id);
CREATE TABLE r_codesystem (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_codesystem_keys ON r_codesystem USING gin (keys);
CREATE INDEX r_codesystem_strings ON r_codesystem USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_communication (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_received TSTZRANGE,
	d_sent TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_communication_d_received_end ON r_communication (coalesce(upper(d_received), 'infinity')) WHERE d_received IS NOT NULL;
CREATE INDEX r_communication_d_sent ON r_communication USING gist (d_sent) WHERE d_sent IS NOT NULL;
CREATE INDEX r_communication_keys ON r_communication USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_communication_latest ON r_communication (d_received DESC NULLS LAST, id DESC);
CREATE INDEX r_communication_patient ON r_communication (patient_id, d_received DESC NULLS LAST);
CREATE INDEX r_communication_updated ON r_communication (updated, id);
CREATE TABLE r_communicationrequest (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_authored TSTZRANGE,
	d_occurrence TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_communicationrequest_d_authored ON r_communicationrequest USING gist (d_authored) WHERE d_authored IS NOT NULL;
CREATE INDEX r_communicationrequest_d_occurrence ON r_communicationrequest USING gist (d_occurrence) WHERE d_occurrence IS NOT NULL;
CREATE INDEX r_communicationrequest_keys ON r_communicationrequest USING gin (keys);
CREATE INDEX r_communicationrequest_patient ON r_communicationrequest (patient_id, d_authored DESC NULLS LAST);
CREATE INDEX r_communicationrequest_updated ON r_communicationrequest (updated, id);
CREATE TABLE r_compartmentdefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_compartmentdefinition_keys ON r_compartmentdefinition USING gin (keys);
CREATE INDEX r_compartmentdefinition_strings ON r_compartmentdefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_composition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_period TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_composition_d_date ON r_composition USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_composition_d_period ON r_composition USING gist (d_period) WHERE d_period IS NOT NULL;
CREATE INDEX r_composition_keys ON r_composition USING gin (keys);
CREATE INDEX r_composition_patient ON r_composition (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_composition_strings ON r_composition USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_composition_updated ON r_composition (updated, id);
CREATE TABLE r_conceptmap (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_conceptmap_keys ON r_conceptmap USING gin (keys);
CREATE INDEX r_conceptmap_strings ON r_conceptmap USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_condition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_abatement_date TSTZRANGE,
	d_onset_date TSTZRANGE,
	d_recorded_date TSTZRANGE,
	low DOUBLE PRECISION,
	high DOUBLE PRECISION,
	PRIMARY KEY (id)
);
CREATE INDEX r_condition_d_abatement_date_end ON r_condition (coalesce(upper(d_abatement_date), 'infinity')) WHERE d_abatement_date IS NOT NULL;
CREATE INDEX r_condition_d_onset_date ON r_condition USING gist (d_onset_date) WHERE d_onset_date IS NOT NULL;
CREATE INDEX r_condition_d_recorded_date ON r_condition USING gist (d_recorded_date) WHERE d_recorded_date IS NOT NULL;
CREATE INDEX r_condition_high ON r_condition (high) WHERE high IS NOT NULL;
CREATE INDEX r_condition_keys ON r_condition USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_condition_latest ON r_condition (d_abatement_date DESC NULLS LAST, id DESC);
CREATE INDEX r_condition_low ON r_condition (low) WHERE low IS NOT NULL;
CREATE INDEX r_condition_patient ON r_condition (patient_id, d_abatement_date DESC NULLS LAST);
CREATE INDEX r_condition_strings ON r_condition USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_condition_updated ON r_condition (updated, id);
CREATE TABLE r_consent (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	d_period TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_consent_d_date ON r_consent USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_consent_d_period ON r_consent USING gist (d_period) WHERE d_period IS NOT NULL;
CREATE INDEX r_consent_keys ON r_consent USING gin (keys);
CREATE INDEX r_consent_patient ON r_consent (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_consent_updated ON r_consent (updated, id);
CREATE TABLE r_contract (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_issued TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_contract_d_issued ON r_contract USING gist (d_issued) WHERE d_issued IS NOT NULL;
CREATE INDEX r_contract_keys ON r_contract USING gin (keys);
CREATE INDEX r_contract_patient ON r_contract (patient_id, d_issued DESC NULLS LAST);
CREATE INDEX r_contract_updated ON r_contract (updated, id);
CREATE TABLE r_coverage (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	PRIMARY KEY (id)
);
CREATE INDEX r_coverage_keys ON r_coverage USING gin (keys);
CREATE INDEX r_coverage_patient ON r_coverage (patient_id);
CREATE INDEX r_coverage_strings ON r_coverage USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_coverage_updated ON r_coverage (updated, id);
CREATE TABLE r_coverageeligibilityrequest (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_created TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_coverageeligibilityrequest_d_created ON r_coverageeligibilityrequest USING gist (d_created) WHERE d_created IS NOT NULL;
CREATE INDEX r_coverageeligibilityrequest_keys ON r_coverageeligibilityrequest USING gin (keys);
CREATE INDEX r_coverageeligibilityrequest_patient ON r_coverageeligibilityrequest (patient_id, d_created DESC NULLS LAST);
CREATE INDEX r_coverageeligibilityrequest_updated ON r_coverageeligibilityrequest (updated, id);
CREATE TABLE r_coverageeligibilityresponse (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_created TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_coverageeligibilityresponse_d_created ON r_coverageeligibilityresponse USING gist (d_created) WHERE d_created IS NOT NULL;
CREATE INDEX r_coverageeligibilityresponse_keys ON r_coverageeligibilityresponse USING gin (keys);
CREATE INDEX r_coverageeligibilityresponse_patient ON r_coverageeligibilityresponse (patient_id, d_created DESC NULLS LAST);
CREATE INDEX r_coverageeligibilityresponse_strings ON r_coverageeligibilityresponse USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_coverageeligibilityresponse_updated ON r_coverageeligibilityresponse (updated, id);
CREATE TABLE r_detectedissue (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_identified TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_detectedissue_d_identified ON r_detectedissue USING gist (d_identified) WHERE d_identified IS NOT NULL;
CREATE INDEX r_detectedissue_keys ON r_detectedissue USING gin (keys);
CREATE INDEX r_detectedissue_patient ON r_detectedissue (patient_id, d_identified DESC NULLS LAST);
CREATE INDEX r_detectedissue_updated ON r_detectedissue (updated, id);
CREATE TABLE r_device (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	PRIMARY KEY (id)
);
CREATE INDEX r_device_keys ON r_device USING gin (keys);
CREATE INDEX r_device_patient ON r_device (patient_id);
CREATE INDEX r_device_strings ON r_device USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_device_updated ON r_device (updated, id);
CREATE TABLE r_devicedefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_devicedefinition_keys ON r_devicedefinition USING gin (keys);
CREATE TABLE r_devicemetric (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_devicemetric_keys ON r_devicemetric USING gin (keys);
CREATE TABLE r_devicerequest (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_authored_on TSTZRANGE,
	d_event_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_devicerequest_d_authored_on ON r_devicerequest USING gist (d_authored_on) WHERE d_authored_on IS NOT NULL;
CREATE INDEX r_devicerequest_d_event_date ON r_devicerequest USING gist (d_event_date) WHERE d_event_date IS NOT NULL;
CREATE INDEX r_devicerequest_keys ON r_devicerequest USING gin (keys);
CREATE INDEX r_devicerequest_patient ON r_devicerequest (patient_id, d_authored_on DESC NULLS LAST);
CREATE INDEX r_devicerequest_updated ON r_devicerequest (updated, id);
CREATE TABLE r_deviceusestatement (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_deviceusestatement_keys ON r_deviceusestatement USING gin (keys);
CREATE INDEX r_deviceusestatement_patient ON r_deviceusestatement (patient_id);
CREATE INDEX r_deviceusestatement_updated ON r_deviceusestatement (updated, id);
CREATE TABLE r_diagnosticreport (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	d_issued TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_diagnosticreport_d_date_end ON r_diagnosticreport (coalesce(upper(d_date), 'infinity')) WHERE d_date IS NOT NULL;
CREATE INDEX r_diagnosticreport_d_issued ON r_diagnosticreport USING gist (d_issued) WHERE d_issued IS NOT NULL;
CREATE INDEX r_diagnosticreport_keys ON r_diagnosticreport USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_diagnosticreport_latest ON r_diagnosticreport (d_date DESC NULLS LAST, id DESC);
CREATE INDEX r_diagnosticreport_patient ON r_diagnosticreport (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_diagnosticreport_updated ON r_diagnosticreport (updated, id);
CREATE TABLE r_documentmanifest (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_created TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_documentmanifest_d_created ON r_documentmanifest USING gist (d_created) WHERE d_created IS NOT NULL;
CREATE INDEX r_documentmanifest_keys ON r_documentmanifest USING gin (keys);
CREATE INDEX r_documentmanifest_patient ON r_documentmanifest (patient_id, d_created DESC NULLS LAST);
CREATE INDEX r_documentmanifest_strings ON r_documentmanifest USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_documentmanifest_updated ON r_documentmanifest (updated, id);
CREATE TABLE r_documentreference (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_period TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_documentreference_d_date ON r_documentreference USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_documentreference_d_period ON r_documentreference USING gist (d_period) WHERE d_period IS NOT NULL;
CREATE INDEX r_documentreference_keys ON r_documentreference USING gin (keys);
CREATE INDEX r_documentreference_patient ON r_documentreference (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_documentreference_strings ON r_documentreference USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_documentreference_updated ON r_documentreference (updated, id);
CREATE TABLE r_encounter (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	d_location_period TSTZRANGE,
	low DOUBLE PRECISION,
	high DOUBLE PRECISION,
	PRIMARY KEY (id)
);
CREATE INDEX r_encounter_d_date_end ON r_encounter (coalesce(upper(d_date), 'infinity')) WHERE d_date IS NOT NULL;
CREATE INDEX r_encounter_d_location_period ON r_encounter USING gist (d_location_period) WHERE d_location_period IS NOT NULL;
CREATE INDEX r_encounter_high ON r_encounter (high) WHERE high IS NOT NULL;
CREATE INDEX r_encounter_keys ON r_encounter USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_encounter_latest ON r_encounter (d_date DESC NULLS LAST, id DESC);
CREATE INDEX r_encounter_low ON r_encounter (low) WHERE low IS NOT NULL;
CREATE INDEX r_encounter_patient ON r_encounter (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_encounter_updated ON r_encounter (updated, id);
CREATE TABLE r_endpoint (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	PRIMARY KEY (id)
);
CREATE INDEX r_endpoint_keys ON r_endpoint USING gin (keys);
CREATE INDEX r_endpoint_strings ON r_endpoint USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_enrollmentrequest (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_enrollmentrequest_keys ON r_enrollmentrequest USING gin (keys);
CREATE INDEX r_enrollmentrequest_patient ON r_enrollmentrequest (patient_id);
CREATE INDEX r_enrollmentrequest_updated ON r_enrollmentrequest (updated, id);
CREATE TABLE r_enrollmentresponse (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_enrollmentresponse_keys ON r_enrollmentresponse USING gin (keys);
CREATE TABLE r_episodeofcare (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_episodeofcare_d_date ON r_episodeofcare USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_episodeofcare_keys ON r_episodeofcare USING gin (keys);
CREATE INDEX r_episodeofcare_patient ON r_episodeofcare (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_episodeofcare_updated ON r_episodeofcare (updated, id);
CREATE TABLE r_eventdefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_effective TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_eventdefinition_keys ON r_eventdefinition USING gin (keys);
CREATE INDEX r_eventdefinition_strings ON r_eventdefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_examplescenario (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_examplescenario_keys ON r_examplescenario USING gin (keys);
CREATE INDEX r_examplescenario_strings ON r_examplescenario USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_explanationofbenefit (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_created TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_explanationofbenefit_d_created_end ON r_explanationofbenefit (coalesce(upper(d_created), 'infinity')) WHERE d_created IS NOT NULL;
CREATE INDEX r_explanationofbenefit_keys ON r_explanationofbenefit USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_explanationofbenefit_latest ON r_explanationofbenefit (d_created DESC NULLS LAST, id DESC);
CREATE INDEX r_explanationofbenefit_patient ON r_explanationofbenefit (patient_id, d_created DESC NULLS LAST);
CREATE INDEX r_explanationofbenefit_strings ON r_explanationofbenefit USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_explanationofbenefit_updated ON r_explanationofbenefit (updated, id);
CREATE TABLE r_familymemberhistory (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_familymemberhistory_d_date ON r_familymemberhistory USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_familymemberhistory_keys ON r_familymemberhistory USING gin (keys);
CREATE INDEX r_familymemberhistory_patient ON r_familymemberhistory (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_familymemberhistory_updated ON r_familymemberhistory (updated, id);
CREATE TABLE r_flag (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_flag_d_date_end ON r_flag (coalesce(upper(d_date), 'infinity')) WHERE d_date IS NOT NULL;
CREATE INDEX r_flag_keys ON r_flag USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_flag_latest ON r_flag (d_date DESC NULLS LAST, id DESC);
CREATE INDEX r_flag_patient ON r_flag (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_flag_updated ON r_flag (updated, id);
CREATE TABLE r_goal (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_start_date TSTZRANGE,
	d_target_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_goal_d_start_date ON r_goal USING gist (d_start_date) WHERE d_start_date IS NOT NULL;
CREATE INDEX r_goal_d_target_date ON r_goal USING gist (d_target_date) WHERE d_target_date IS NOT NULL;
CREATE INDEX r_goal_keys ON r_goal USING gin (keys);
CREATE INDEX r_goal_patient ON r_goal (patient_id, d_start_date DESC NULLS LAST);
CREATE INDEX r_goal_updated ON r_goal (updated, id);
CREATE TABLE r_graphdefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_graphdefinition_keys ON r_graphdefinition USING gin (keys);
CREATE INDEX r_graphdefinition_strings ON r_graphdefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_group (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_group_keys ON r_group USING gin (keys);
CREATE INDEX r_group_updated ON r_group (updated, id);
CREATE TABLE r_guidanceresponse (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_guidanceresponse_keys ON r_guidanceresponse USING gin (keys);
CREATE INDEX r_guidanceresponse_patient ON r_guidanceresponse (patient_id);
CREATE INDEX r_guidanceresponse_updated ON r_guidanceresponse (updated, id);
CREATE TABLE r_healthcareservice (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	PRIMARY KEY (id)
);
CREATE INDEX r_healthcareservice_keys ON r_healthcareservice USING gin (keys);
CREATE INDEX r_healthcareservice_strings ON r_healthcareservice USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_healthcareservice_updated ON r_healthcareservice (updated, id);
CREATE TABLE r_imagingstudy (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_started TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_imagingstudy_d_started ON r_imagingstudy USING gist (d_started) WHERE d_started IS NOT NULL;
CREATE INDEX r_imagingstudy_keys ON r_imagingstudy USING gin (keys);
CREATE INDEX r_imagingstudy_patient ON r_imagingstudy (patient_id, d_started DESC NULLS LAST);
CREATE INDEX r_imagingstudy_updated ON r_imagingstudy (updated, id);
CREATE TABLE r_immunization (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_reaction_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_immunization_d_date_end ON r_immunization (coalesce(upper(d_date), 'infinity')) WHERE d_date IS NOT NULL;
CREATE INDEX r_immunization_d_reaction_date ON r_immunization USING gist (d_reaction_date) WHERE d_reaction_date IS NOT NULL;
CREATE INDEX r_immunization_keys ON r_immunization USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_immunization_latest ON r_immunization (d_date DESC NULLS LAST, id DESC);
CREATE INDEX r_immunization_patient ON r_immunization (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_immunization_strings ON r_immunization USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_immunization_updated ON r_immunization (updated, id);
CREATE TABLE r_immunizationevaluation (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_immunizationevaluation_d_date ON r_immunizationevaluation USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_immunizationevaluation_keys ON r_immunizationevaluation USING gin (keys);
CREATE INDEX r_immunizationevaluation_patient ON r_immunizationevaluation (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_immunizationevaluation_updated ON r_immunizationevaluation (updated, id);
CREATE TABLE r_immunizationrecommendation (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_immunizationrecommendation_d_date ON r_immunizationrecommendation USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_immunizationrecommendation_keys ON r_immunizationrecommendation USING gin (keys);
CREATE INDEX r_immunizationrecommendation_patient ON r_immunizationrecommendation (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_immunizationrecommendation_updated ON r_immunizationrecommendation (updated, id);
CREATE TABLE r_implementationguide (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_implementationguide_keys ON r_implementationguide USING gin (keys);
CREATE INDEX r_implementationguide_strings ON r_implementationguide USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_insuranceplan (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	PRIMARY KEY (id)
);
CREATE INDEX r_insuranceplan_keys ON r_insuranceplan USING gin (keys);
CREATE INDEX r_insuranceplan_strings ON r_insuranceplan USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_invoice (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	low DOUBLE PRECISION,
	high DOUBLE PRECISION,
	PRIMARY KEY (id)
);
CREATE INDEX r_invoice_d_date ON r_invoice USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_invoice_high ON r_invoice (high) WHERE high IS NOT NULL;
CREATE INDEX r_invoice_keys ON r_invoice USING gin (keys);
CREATE INDEX r_invoice_low ON r_invoice (low) WHERE low IS NOT NULL;
CREATE INDEX r_invoice_patient ON r_invoice (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_invoice_updated ON r_invoice (updated, id);
CREATE TABLE r_library (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_effective TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_library_keys ON r_library USING gin (keys);
CREATE INDEX r_library_strings ON r_library USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_linkage (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_linkage_keys ON r_linkage USING gin (keys);
CREATE TABLE r_list (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_list_d_date ON r_list USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_list_keys ON r_list USING gin (keys);
CREATE INDEX r_list_patient ON r_list (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_list_strings ON r_list USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_list_updated ON r_list (updated, id);
CREATE TABLE r_location (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	PRIMARY KEY (id)
);
CREATE INDEX r_location_keys ON r_location USING gin (keys);
CREATE INDEX r_location_strings ON r_location USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_location_updated ON r_location (updated, id);
CREATE TABLE r_measure (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_effective TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_measure_keys ON r_measure USING gin (keys);
CREATE INDEX r_measure_strings ON r_measure USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_measurereport (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	d_period TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_measurereport_d_date ON r_measurereport USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_measurereport_d_period ON r_measurereport USING gist (d_period) WHERE d_period IS NOT NULL;
CREATE INDEX r_measurereport_keys ON r_measurereport USING gin (keys);
CREATE INDEX r_measurereport_patient ON r_measurereport (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_measurereport_updated ON r_measurereport (updated, id);
CREATE TABLE r_media (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_created TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_media_d_created ON r_media USING gist (d_created) WHERE d_created IS NOT NULL;
CREATE INDEX r_media_keys ON r_media USING gin (keys);
CREATE INDEX r_media_patient ON r_media (patient_id, d_created DESC NULLS LAST);
CREATE INDEX r_media_updated ON r_media (updated, id);
CREATE TABLE r_medication (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_expiration_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_medication_d_expiration_date ON r_medication USING gist (d_expiration_date) WHERE d_expiration_date IS NOT NULL;
CREATE INDEX r_medication_keys ON r_medication USING gin (keys);
CREATE INDEX r_medication_updated ON r_medication (updated, id);
CREATE TABLE r_medicationadministration (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_effective_time TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_medicationadministration_d_effective_time ON r_medicationadministration USING gist (d_effective_time) WHERE d_effective_time IS NOT NULL;
CREATE INDEX r_medicationadministration_keys ON r_medicationadministration USING gin (keys);
CREATE INDEX r_medicationadministration_patient ON r_medicationadministration (patient_id, d_effective_time DESC NULLS LAST);
CREATE INDEX r_medicationadministration_updated ON r_medicationadministration (updated, id);
CREATE TABLE r_medicationdispense (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_whenhandedover TSTZRANGE,
	d_whenprepared TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_medicationdispense_d_whenhandedover ON r_medicationdispense USING gist (d_whenhandedover) WHERE d_whenhandedover IS NOT NULL;
CREATE INDEX r_medicationdispense_d_whenprepared ON r_medicationdispense USING gist (d_whenprepared) WHERE d_whenprepared IS NOT NULL;
CREATE INDEX r_medicationdispense_keys ON r_medicationdispense USING gin (keys);
CREATE INDEX r_medicationdispense_patient ON r_medicationdispense (patient_id, d_whenhandedover DESC NULLS LAST);
CREATE INDEX r_medicationdispense_updated ON r_medicationdispense (updated, id);
CREATE TABLE r_medicationknowledge (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_medicationknowledge_keys ON r_medicationknowledge USING gin (keys);
CREATE TABLE r_medicationrequest (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	d_authoredon TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_medicationrequest_d_authoredon ON r_medicationrequest USING gist (d_authoredon) WHERE d_authoredon IS NOT NULL;
CREATE INDEX r_medicationrequest_d_date_end ON r_medicationrequest (coalesce(upper(d_date), 'infinity')) WHERE d_date IS NOT NULL;
CREATE INDEX r_medicationrequest_keys ON r_medicationrequest USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_medicationrequest_latest ON r_medicationrequest (d_date DESC NULLS LAST, id DESC);
CREATE INDEX r_medicationrequest_patient ON r_medicationrequest (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_medicationrequest_updated ON r_medicationrequest (updated, id);
CREATE TABLE r_medicationstatement (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_effective TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_medicationstatement_d_effective ON r_medicationstatement USING gist (d_effective) WHERE d_effective IS NOT NULL;
CREATE INDEX r_medicationstatement_keys ON r_medicationstatement USING gin (keys);
CREATE INDEX r_medicationstatement_patient ON r_medicationstatement (patient_id, d_effective DESC NULLS LAST);
CREATE INDEX r_medicationstatement_updated ON r_medicationstatement (updated, id);
CREATE TABLE r_messagedefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_messagedefinition_keys ON r_messagedefinition USING gin (keys);
CREATE INDEX r_messagedefinition_strings ON r_messagedefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_messageheader (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	PRIMARY KEY (id)
);
CREATE INDEX r_messageheader_keys ON r_messageheader USING gin (keys);
CREATE INDEX r_messageheader_strings ON r_messageheader USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_messageheader_updated ON r_messageheader (updated, id);
CREATE TABLE r_molecularsequence (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	low DOUBLE PRECISION,
	high DOUBLE PRECISION,
	PRIMARY KEY (id)
);
CREATE INDEX r_molecularsequence_high ON r_molecularsequence (high) WHERE high IS NOT NULL;
CREATE INDEX r_molecularsequence_keys ON r_molecularsequence USING gin (keys);
CREATE INDEX r_molecularsequence_low ON r_molecularsequence (low) WHERE low IS NOT NULL;
CREATE INDEX r_molecularsequence_patient ON r_molecularsequence (patient_id);
CREATE INDEX r_molecularsequence_updated ON r_molecularsequence (updated, id);
CREATE TABLE r_namingsystem (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_period TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_namingsystem_keys ON r_namingsystem USING gin (keys);
CREATE INDEX r_namingsystem_strings ON r_namingsystem USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_nutritionorder (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_datetime TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_nutritionorder_d_datetime ON r_nutritionorder USING gist (d_datetime) WHERE d_datetime IS NOT NULL;
CREATE INDEX r_nutritionorder_keys ON r_nutritionorder USING gin (keys);
CREATE INDEX r_nutritionorder_patient ON r_nutritionorder (patient_id, d_datetime DESC NULLS LAST);
CREATE INDEX r_nutritionorder_updated ON r_nutritionorder (updated, id);
CREATE TABLE r_observation (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_value_date TSTZRANGE,
	low DOUBLE PRECISION,
	high DOUBLE PRECISION,
	PRIMARY KEY (id)
);
CREATE INDEX r_observation_d_date_end ON r_observation (coalesce(upper(d_date), 'infinity')) WHERE d_date IS NOT NULL;
CREATE INDEX r_observation_d_value_date ON r_observation USING gist (d_value_date) WHERE d_value_date IS NOT NULL;
CREATE INDEX r_observation_high ON r_observation (high) WHERE high IS NOT NULL;
CREATE INDEX r_observation_keys ON r_observation USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_observation_latest ON r_observation (d_date DESC NULLS LAST, id DESC);
CREATE INDEX r_observation_low ON r_observation (low) WHERE low IS NOT NULL;
CREATE INDEX r_observation_patient ON r_observation (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_observation_strings ON r_observation USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_observation_updated ON r_observation (updated, id);
CREATE TABLE r_observationdefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_observationdefinition_keys ON r_observationdefinition USING gin (keys);
CREATE TABLE r_operationdefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_operationdefinition_keys ON r_operationdefinition USING gin (keys);
CREATE INDEX r_operationdefinition_strings ON r_operationdefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_operationoutcome (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_operationoutcome_keys ON r_operationoutcome USING gin (keys);
CREATE TABLE r_organization (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	PRIMARY KEY (id)
);
CREATE INDEX r_organization_keys ON r_organization USING gin (keys);
CREATE INDEX r_organization_strings ON r_organization USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_organization_updated ON r_organization (updated, id);
CREATE TABLE r_organizationaffiliation (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_organizationaffiliation_keys ON r_organizationaffiliation USING gin (keys);
CREATE TABLE r_parameters (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_parameters_keys ON r_parameters USING gin (keys);
CREATE TABLE r_patient (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_birthdate TSTZRANGE,
	d_death_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_patient_d_birthdate_end ON r_patient (coalesce(upper(d_birthdate), 'infinity')) WHERE d_birthdate IS NOT NULL;
CREATE INDEX r_patient_d_death_date ON r_patient USING gist (d_death_date) WHERE d_death_date IS NOT NULL;
CREATE INDEX r_patient_keys ON r_patient USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_patient_latest ON r_patient (d_birthdate DESC NULLS LAST, id DESC);
CREATE INDEX r_patient_patient ON r_patient (patient_id, d_birthdate DESC NULLS LAST);
CREATE INDEX r_patient_strings ON r_patient USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_patient_updated ON r_patient (updated, id);
CREATE TABLE r_paymentnotice (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_created TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_paymentnotice_keys ON r_paymentnotice USING gin (keys);
CREATE TABLE r_paymentreconciliation (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_created TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_paymentreconciliation_keys ON r_paymentreconciliation USING gin (keys);
CREATE INDEX r_paymentreconciliation_strings ON r_paymentreconciliation USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_person (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_birthdate TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_person_d_birthdate ON r_person USING gist (d_birthdate) WHERE d_birthdate IS NOT NULL;
CREATE INDEX r_person_keys ON r_person USING gin (keys);
CREATE INDEX r_person_patient ON r_person (patient_id, d_birthdate DESC NULLS LAST);
CREATE INDEX r_person_strings ON r_person USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_person_updated ON r_person (updated, id);
CREATE TABLE r_plandefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_effective TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_plandefinition_keys ON r_plandefinition USING gin (keys);
CREATE INDEX r_plandefinition_strings ON r_plandefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_practitioner (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	PRIMARY KEY (id)
);
CREATE INDEX r_practitioner_keys ON r_practitioner USING gin (keys);
CREATE INDEX r_practitioner_strings ON r_practitioner USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_practitioner_updated ON r_practitioner (updated, id);
CREATE TABLE r_practitionerrole (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_practitionerrole_d_date ON r_practitionerrole USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_practitionerrole_keys ON r_practitionerrole USING gin (keys);
CREATE INDEX r_practitionerrole_updated ON r_practitionerrole (updated, id);
CREATE TABLE r_procedure (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_procedure_d_date_end ON r_procedure (coalesce(upper(d_date), 'infinity')) WHERE d_date IS NOT NULL;
CREATE INDEX r_procedure_keys ON r_procedure USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_procedure_latest ON r_procedure (d_date DESC NULLS LAST, id DESC);
CREATE INDEX r_procedure_patient ON r_procedure (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_procedure_updated ON r_procedure (updated, id);
CREATE TABLE r_provenance (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_recorded TSTZRANGE,
	d_when TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_provenance_d_recorded_end ON r_provenance (coalesce(upper(d_recorded), 'infinity')) WHERE d_recorded IS NOT NULL;
CREATE INDEX r_provenance_d_when ON r_provenance USING gist (d_when) WHERE d_when IS NOT NULL;
CREATE INDEX r_provenance_keys ON r_provenance USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_provenance_latest ON r_provenance (d_recorded DESC NULLS LAST, id DESC);
CREATE INDEX r_provenance_patient ON r_provenance (patient_id, d_recorded DESC NULLS LAST);
CREATE INDEX r_provenance_updated ON r_provenance (updated, id);
CREATE TABLE r_questionnaire (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_effective TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_questionnaire_keys ON r_questionnaire USING gin (keys);
CREATE INDEX r_questionnaire_strings ON r_questionnaire USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_questionnaireresponse (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_authored TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_questionnaireresponse_d_authored ON r_questionnaireresponse USING gist (d_authored) WHERE d_authored IS NOT NULL;
CREATE INDEX r_questionnaireresponse_keys ON r_questionnaireresponse USING gin (keys);
CREATE INDEX r_questionnaireresponse_patient ON r_questionnaireresponse (patient_id, d_authored DESC NULLS LAST);
CREATE INDEX r_questionnaireresponse_updated ON r_questionnaireresponse (updated, id);
CREATE TABLE r_relatedperson (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_birthdate TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_relatedperson_d_birthdate ON r_relatedperson USING gist (d_birthdate) WHERE d_birthdate IS NOT NULL;
CREATE INDEX r_relatedperson_keys ON r_relatedperson USING gin (keys);
CREATE INDEX r_relatedperson_patient ON r_relatedperson (patient_id, d_birthdate DESC NULLS LAST);
CREATE INDEX r_relatedperson_strings ON r_relatedperson USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_relatedperson_updated ON r_relatedperson (updated, id);
CREATE TABLE r_requestgroup (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_authored TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_requestgroup_d_authored ON r_requestgroup USING gist (d_authored) WHERE d_authored IS NOT NULL;
CREATE INDEX r_requestgroup_keys ON r_requestgroup USING gin (keys);
CREATE INDEX r_requestgroup_patient ON r_requestgroup (patient_id, d_authored DESC NULLS LAST);
CREATE INDEX r_requestgroup_updated ON r_requestgroup (updated, id);
CREATE TABLE r_researchdefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_effective TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_researchdefinition_keys ON r_researchdefinition USING gin (keys);
CREATE INDEX r_researchdefinition_strings ON r_researchdefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_researchelementdefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	d_effective TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_researchelementdefinition_keys ON r_researchelementdefinition USING gin (keys);
CREATE INDEX r_researchelementdefinition_strings ON r_researchelementdefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_researchstudy (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_researchstudy_keys ON r_researchstudy USING gin (keys);
CREATE INDEX r_researchstudy_strings ON r_researchstudy USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_researchsubject (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_researchsubject_d_date ON r_researchsubject USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_researchsubject_keys ON r_researchsubject USING gin (keys);
CREATE INDEX r_researchsubject_patient ON r_researchsubject (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_researchsubject_updated ON r_researchsubject (updated, id);
CREATE TABLE r_riskassessment (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	low DOUBLE PRECISION,
	high DOUBLE PRECISION,
	PRIMARY KEY (id)
);
CREATE INDEX r_riskassessment_d_date ON r_riskassessment USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_riskassessment_high ON r_riskassessment (high) WHERE high IS NOT NULL;
CREATE INDEX r_riskassessment_keys ON r_riskassessment USING gin (keys);
CREATE INDEX r_riskassessment_low ON r_riskassessment (low) WHERE low IS NOT NULL;
CREATE INDEX r_riskassessment_patient ON r_riskassessment (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_riskassessment_updated ON r_riskassessment (updated, id);
CREATE TABLE r_schedule (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_schedule_d_date ON r_schedule USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_schedule_keys ON r_schedule USING gin (keys);
CREATE INDEX r_schedule_patient ON r_schedule (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_schedule_updated ON r_schedule (updated, id);
CREATE TABLE r_searchparameter (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_searchparameter_keys ON r_searchparameter USING gin (keys);
CREATE INDEX r_searchparameter_strings ON r_searchparameter USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_servicerequest (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_authored TSTZRANGE,
	d_occurrence TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_servicerequest_d_authored ON r_servicerequest USING gist (d_authored) WHERE d_authored IS NOT NULL;
CREATE INDEX r_servicerequest_d_occurrence ON r_servicerequest USING gist (d_occurrence) WHERE d_occurrence IS NOT NULL;
CREATE INDEX r_servicerequest_keys ON r_servicerequest USING gin (keys);
CREATE INDEX r_servicerequest_patient ON r_servicerequest (patient_id, d_authored DESC NULLS LAST);
CREATE INDEX r_servicerequest_updated ON r_servicerequest (updated, id);
CREATE TABLE r_slot (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_start TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_slot_d_start ON r_slot USING gist (d_start) WHERE d_start IS NOT NULL;
CREATE INDEX r_slot_keys ON r_slot USING gin (keys);
CREATE INDEX r_slot_updated ON r_slot (updated, id);
CREATE TABLE r_specimen (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_collected TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_specimen_d_collected ON r_specimen USING gist (d_collected) WHERE d_collected IS NOT NULL;
CREATE INDEX r_specimen_keys ON r_specimen USING gin (keys);
CREATE INDEX r_specimen_patient ON r_specimen (patient_id, d_collected DESC NULLS LAST);
CREATE INDEX r_specimen_updated ON r_specimen (updated, id);
CREATE TABLE r_specimendefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_specimendefinition_keys ON r_specimendefinition USING gin (keys);
CREATE TABLE r_structuredefinition (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_structuredefinition_keys ON r_structuredefinition USING gin (keys);
CREATE INDEX r_structuredefinition_strings ON r_structuredefinition USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_structuremap (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_structuremap_keys ON r_structuremap USING gin (keys);
CREATE INDEX r_structuremap_strings ON r_structuremap USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_subscription (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	PRIMARY KEY (id)
);
CREATE INDEX r_subscription_keys ON r_subscription USING gin (keys);
CREATE INDEX r_subscription_strings ON r_subscription USING gin (strings) WHERE strings IS NOT NULL;
CREATE INDEX r_subscription_updated ON r_subscription (updated, id);
CREATE TABLE r_substance (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_expiry TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_substance_keys ON r_substance USING gin (keys);
CREATE TABLE r_supplydelivery (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_supplydelivery_keys ON r_supplydelivery USING gin (keys);
CREATE INDEX r_supplydelivery_patient ON r_supplydelivery (patient_id);
CREATE INDEX r_supplydelivery_updated ON r_supplydelivery (updated, id);
CREATE TABLE r_supplyrequest (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_supplyrequest_d_date ON r_supplyrequest USING gist (d_date) WHERE d_date IS NOT NULL;
CREATE INDEX r_supplyrequest_keys ON r_supplyrequest USING gin (keys);
CREATE INDEX r_supplyrequest_patient ON r_supplyrequest (patient_id, d_date DESC NULLS LAST);
CREATE INDEX r_supplyrequest_updated ON r_supplyrequest (updated, id);
CREATE TABLE r_task (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_authored_on TSTZRANGE,
	d_modified TSTZRANGE,
	d_period TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_task_d_authored_on_end ON r_task (coalesce(upper(d_authored_on), 'infinity')) WHERE d_authored_on IS NOT NULL;
CREATE INDEX r_task_d_modified ON r_task USING gist (d_modified) WHERE d_modified IS NOT NULL;
CREATE INDEX r_task_d_period ON r_task USING gist (d_period) WHERE d_period IS NOT NULL;
CREATE INDEX r_task_keys ON r_task USING gin (keys) WITH (gin_pending_list_limit = 1024);
CREATE INDEX r_task_latest ON r_task (d_authored_on DESC NULLS LAST, id DESC);
CREATE INDEX r_task_patient ON r_task (patient_id, d_authored_on DESC NULLS LAST);
CREATE INDEX r_task_updated ON r_task (updated, id);
CREATE TABLE r_terminologycapabilities (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_terminologycapabilities_keys ON r_terminologycapabilities USING gin (keys);
CREATE INDEX r_terminologycapabilities_strings ON r_terminologycapabilities USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_testreport (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_issued TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_testreport_keys ON r_testreport USING gin (keys);
CREATE INDEX r_testreport_strings ON r_testreport USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_testscript (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_testscript_keys ON r_testscript USING gin (keys);
CREATE INDEX r_testscript_strings ON r_testscript USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_valueset (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	strings TSVECTOR,
	d_date TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_valueset_keys ON r_valueset USING gin (keys);
CREATE INDEX r_valueset_strings ON r_valueset USING gin (strings) WHERE strings IS NOT NULL;
CREATE TABLE r_verificationresult (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX r_verificationresult_keys ON r_verificationresult USING gin (keys);
CREATE TABLE r_visionprescription (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	updated TIMESTAMP WITH TIME ZONE NOT NULL,
	patient_id TEXT COLLATE "C",
	keys TEXT[] COLLATE "C" NOT NULL,
	d_datewritten TSTZRANGE,
	PRIMARY KEY (id)
);
CREATE INDEX r_visionprescription_d_datewritten ON r_visionprescription USING gist (d_datewritten) WHERE d_datewritten IS NOT NULL;
CREATE INDEX r_visionprescription_keys ON r_visionprescription USING gin (keys);
CREATE INDEX r_visionprescription_patient ON r_visionprescription (patient_id, d_datewritten DESC NULLS LAST);
CREATE INDEX r_visionprescription_updated ON r_visionprescription (updated, id);
CREATE TABLE reading (
	observation_id TEXT COLLATE "C" NOT NULL,
	measure TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	at TIMESTAMP WITH TIME ZONE NOT NULL,
	value DOUBLE PRECISION,
	word TEXT COLLATE "C",
	given TEXT COLLATE "C",
	device_id TEXT COLLATE "C",
	quality TEXT COLLATE "C" NOT NULL,
	why TEXT,
	received TIMESTAMP WITH TIME ZONE NOT NULL,
	seq BIGINT NOT NULL,
	PRIMARY KEY (observation_id, measure)
);
CREATE INDEX reading_device ON reading (device_id, received DESC) WHERE device_id IS NOT NULL;
CREATE INDEX reading_window ON reading (patient_id, measure, at DESC) INCLUDE (value, quality);
COMMENT ON COLUMN reading.measure IS 'key of monitoring.measures.MEASURES';
COMMENT ON COLUMN reading.at IS 'when it was measured';
COMMENT ON COLUMN reading.value IS 'in the measure''s one UCUM unit; null where the answer is a word';
COMMENT ON COLUMN reading.word IS 'coded answer: alert|confused|voice|pain|unresponsive, air|oxygen';
COMMENT ON COLUMN reading.given IS 'number and unit as sent, such as ''208.1 [lb_av]''';
COMMENT ON COLUMN reading.quality IS 'ok | check | sandbox | wrong';
COMMENT ON COLUMN reading.why IS 'what is doubtful about a reading of quality check';
COMMENT ON COLUMN reading.seq IS 'when it was evaluated, among the `seq` of resource_version';
CREATE TABLE reading_replaced (
	observation_id TEXT COLLATE "C" NOT NULL,
	measure TEXT COLLATE "C" NOT NULL,
	seq BIGINT NOT NULL,
	until BIGINT NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	at TIMESTAMP WITH TIME ZONE NOT NULL,
	value DOUBLE PRECISION,
	word TEXT COLLATE "C",
	quality TEXT COLLATE "C" NOT NULL,
	why TEXT,
	received TIMESTAMP WITH TIME ZONE NOT NULL,
	PRIMARY KEY (observation_id, measure, seq)
);
CREATE INDEX reading_replaced_patient ON reading_replaced (patient_id);
COMMENT ON COLUMN reading_replaced.until IS 'when it was replaced, counted as `seq` is';
CREATE TABLE receipt (
	key BYTEA NOT NULL,
	observation_id TEXT COLLATE "C" NOT NULL,
	digest BYTEA NOT NULL,
	PRIMARY KEY (key)
);
COMMENT ON COLUMN receipt.key IS 'blake2b-16 of device, person, code, instant and identifier';
COMMENT ON COLUMN receipt.digest IS 'blake2b-16 of the values: tells a resend from a correction';
CREATE TABLE refusal (
	id TEXT COLLATE "C" NOT NULL,
	at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
	device_id TEXT COLLATE "C",
	actor TEXT COLLATE "C" NOT NULL,
	reason TEXT COLLATE "C" NOT NULL,
	detail TEXT NOT NULL,
	expression TEXT COLLATE "C",
	raw BYTEA NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX refusal_device ON refusal (device_id, at DESC);
COMMENT ON COLUMN refusal.reason IS 'code such as wrong-unit, future-time, unassigned-device';
CREATE TABLE monitoring_limit (
	service_request_id TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	measure TEXT COLLATE "C" NOT NULL,
	low_red DOUBLE PRECISION,
	low_amber DOUBLE PRECISION,
	high_amber DOUBLE PRECISION,
	high_red DOUBLE PRECISION,
	scale SMALLINT,
	every_hours REAL,
	set_by TEXT COLLATE "C",
	reason TEXT,
	review_on DATE,
	active BOOLEAN NOT NULL,
	windows TEXT COLLATE "C" DEFAULT '' NOT NULL,
	starts TIMESTAMP WITH TIME ZONE,
	ends TIMESTAMP WITH TIME ZONE,
	shared BOOLEAN DEFAULT false NOT NULL,
	PRIMARY KEY (service_request_id)
);
CREATE UNIQUE INDEX monitoring_limit_active ON monitoring_limit (patient_id, measure) WHERE active;
COMMENT ON COLUMN monitoring_limit.scale IS '2 where a named clinician set NEWS2 SpO2 scale 2, else null';
COMMENT ON COLUMN monitoring_limit.every_hours IS 'how often a reading is expected';
COMMENT ON COLUMN monitoring_limit.windows IS 'monitoring.schedules.Schedule.text';
COMMENT ON COLUMN monitoring_limit.starts IS 'readings are asked for from here on';
COMMENT ON COLUMN monitoring_limit.ends IS 'and until here';
COMMENT ON COLUMN monitoring_limit.shared IS 'the person sees the limits';
CREATE TABLE missed (
	patient_id TEXT COLLATE "C" NOT NULL,
	measure TEXT COLLATE "C" NOT NULL,
	service_request_id TEXT COLLATE "C" NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	found TIMESTAMP WITH TIME ZONE NOT NULL,
	last_at TIMESTAMP WITH TIME ZONE,
	two_days BOOLEAN NOT NULL,
	PRIMARY KEY (patient_id, measure)
);
COMMENT ON COLUMN missed.kind IS 'missed: this measure; silent: nothing at all that was asked for';
COMMENT ON COLUMN missed.found IS 'when a check first found it';
COMMENT ON COLUMN missed.last_at IS 'when it was last measured';
COMMENT ON COLUMN missed.two_days IS 'two days on end were missed';
CREATE TABLE chase (
	patient_id TEXT COLLATE "C" NOT NULL,
	found TIMESTAMP WITH TIME ZONE NOT NULL,
	step SMALLINT NOT NULL,
	stepped TIMESTAMP WITH TIME ZONE NOT NULL,
	PRIMARY KEY (patient_id)
);
CREATE INDEX chase_step ON chase (step, stepped);
COMMENT ON COLUMN chase.step IS '0 nobody, 1 the person, 2 a second channel, 3 the hub';
CREATE TABLE pregnancy (
	condition_id TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	since DATE,
	recorded_by TEXT COLLATE "C",
	PRIMARY KEY (condition_id)
);
CREATE INDEX pregnancy_patient ON pregnancy (patient_id);
COMMENT ON COLUMN pregnancy.recorded_by IS 'Practitioner or PractitionerRole; null when no clinician''s name is on it';
CREATE TABLE pause (
	id TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	since TIMESTAMP WITH TIME ZONE NOT NULL,
	until TIMESTAMP WITH TIME ZONE NOT NULL,
	reason TEXT NOT NULL,
	set_by TEXT COLLATE "C",
	device_id TEXT COLLATE "C",
	measures TEXT[] COLLATE "C",
	PRIMARY KEY (id)
);
CREATE INDEX pause_device ON pause (device_id) WHERE device_id IS NOT NULL;
CREATE INDEX pause_patient ON pause (patient_id, until);
COMMENT ON COLUMN pause.id IS 'of the ServiceRequest that says so';
COMMENT ON COLUMN pause.device_id IS 'the device that it is about; null: the person';
COMMENT ON COLUMN pause.measures IS 'keys of monitoring.measures.MEASURES; null: all';
CREATE TABLE local_rule (
	id TEXT COLLATE "C" NOT NULL,
	key TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	hub_id TEXT COLLATE "C" NOT NULL,
	status TEXT COLLATE "C" NOT NULL,
	name TEXT NOT NULL,
	who TEXT COLLATE "C" NOT NULL,
	terms TEXT[] COLLATE "C" NOT NULL,
	measure TEXT COLLATE "C",
	resource TEXT NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX local_rule_hub ON local_rule (hub_id, status);
CREATE UNIQUE INDEX local_rule_live ON local_rule (key) WHERE status = 'active';
CREATE UNIQUE INDEX local_rule_version ON local_rule (key, version);
COMMENT ON COLUMN local_rule.key IS 'what flags of all its versions are filed under';
COMMENT ON COLUMN local_rule.status IS 'draft | active | retired';
COMMENT ON COLUMN local_rule.who IS 'one of monitoring.local_rules.WHO';
COMMENT ON COLUMN local_rule.terms IS 'what search rows of those hold whom it watches';
CREATE TABLE flag (
	id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	hub_id TEXT COLLATE "C",
	rule TEXT COLLATE "C" NOT NULL,
	rule_version INTEGER NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	severity SMALLINT NOT NULL,
	state TEXT COLLATE "C" NOT NULL,
	summary TEXT NOT NULL,
	extents JSONB DEFAULT '[]' NOT NULL,
	advice TEXT,
	reasons JSONB NOT NULL,
	observations TEXT[] COLLATE "C" NOT NULL,
	count INTEGER NOT NULL,
	opened TIMESTAMP WITH TIME ZONE NOT NULL,
	refreshed TIMESTAMP WITH TIME ZONE NOT NULL,
	acknowledged_by TEXT COLLATE "C",
	acknowledged_at TIMESTAMP WITH TIME ZONE,
	acknowledged_why TEXT,
	resolved_by TEXT COLLATE "C",
	resolved_at TIMESTAMP WITH TIME ZONE,
	resolved_why TEXT,
	moves JSONB DEFAULT '[]' NOT NULL,
	level SMALLINT DEFAULT 0 NOT NULL,
	due TIMESTAMP WITH TIME ZONE,
	outcome TEXT COLLATE "C",
	PRIMARY KEY (id)
);
CREATE INDEX flag_board ON flag (hub_id, severity DESC, opened, id) WHERE state NOT IN ('resolved', 'false-alarm');
CREATE INDEX flag_due ON flag (due) WHERE due IS NOT NULL;
CREATE INDEX flag_patient ON flag (patient_id, opened DESC);
CREATE UNIQUE INDEX flag_one_open ON flag (patient_id, rule) WHERE state NOT IN ('resolved', 'false-alarm');
COMMENT ON COLUMN flag.kind IS 'clinical | compliance | operational';
COMMENT ON COLUMN flag.severity IS '3 red, 2 amber, 1 information';
COMMENT ON COLUMN flag.state IS 'one of monitoring.states.STATES';
COMMENT ON COLUMN flag.extents IS 'how far it goes: list of {measure, side, value}';
COMMENT ON COLUMN flag.advice IS 'what the patient may be told at once, without waiting for staff';
COMMENT ON COLUMN flag.reasons IS 'list of {text, measure, value, unit, at, observation}';
COMMENT ON COLUMN flag.observations IS 'ids of the readings behind it, oldest first';
COMMENT ON COLUMN flag.count IS 'how many evaluations raised or refreshed it';
COMMENT ON COLUMN flag.moves IS 'its history, oldest first: list of {to, at, by, why, code, until}';
COMMENT ON COLUMN flag.level IS 'how far up the chain it was told: 0 is the first step';
COMMENT ON COLUMN flag.due IS 'when it lapses, is escalated or wakes, if nobody does anything';
COMMENT ON COLUMN flag.outcome IS 'one of monitoring.outcomes.OUTCOMES, once it has ended';
CREATE TABLE cover (
	service_id TEXT COLLATE "C" NOT NULL,
	hub_id TEXT COLLATE "C" NOT NULL,
	resource TEXT NOT NULL,
	PRIMARY KEY (service_id),
	UNIQUE (hub_id)
);
COMMENT ON COLUMN cover.resource IS 'hours, delays and people, as the resource says them';
CREATE TABLE person (
	patient_id TEXT COLLATE "C" NOT NULL,
	nhs_number TEXT COLLATE "C",
	family TEXT NOT NULL,
	given TEXT NOT NULL,
	search_name TEXT COLLATE "C" NOT NULL,
	called TEXT,
	about TEXT,
	birth_date DATE,
	gender TEXT COLLATE "C",
	hub_id TEXT COLLATE "C",
	practice_id TEXT COLLATE "C",
	tier TEXT COLLATE "C",
	synthetic BOOLEAN NOT NULL,
	PRIMARY KEY (patient_id)
);
CREATE INDEX person_birth_date ON person (birth_date);
CREATE INDEX person_hub ON person (hub_id, search_name);
CREATE INDEX person_search_name ON person (search_name text_pattern_ops);
CREATE UNIQUE INDEX person_nhs_number ON person (nhs_number) WHERE nhs_number IS NOT NULL;
COMMENT ON COLUMN person.nhs_number IS 'ten digits, no spaces';
COMMENT ON COLUMN person.search_name IS 'casefolded ''family given'' for prefix search';
COMMENT ON COLUMN person.called IS 'likes to be called';
COMMENT ON COLUMN person.about IS 'one line of About Me';
COMMENT ON COLUMN person.synthetic IS 'tagged HTEST';
CREATE TABLE access (
	subject TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	source TEXT COLLATE "C" NOT NULL,
	basis TEXT COLLATE "C" NOT NULL,
	since TIMESTAMP WITH TIME ZONE,
	until TIMESTAMP WITH TIME ZONE,
	PRIMARY KEY (subject, patient_id, source)
);
CREATE INDEX access_patient ON access (patient_id);
CREATE INDEX access_source ON access (source);
COMMENT ON COLUMN access.subject IS 'reference: Practitioner/x, Organization/y, Patient/z, Device/d';
COMMENT ON COLUMN access.source IS 'resource that grants it, such as CareTeam/x';
COMMENT ON COLUMN access.basis IS 'self, team, hub, practice, carer, device, registered or emergency';
COMMENT ON COLUMN access.since IS 'when it begins; null: always has';
CREATE TABLE emergency_access (
	id TEXT COLLATE "C" NOT NULL,
	actor TEXT COLLATE "C" NOT NULL,
	actor_name TEXT NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	reason TEXT NOT NULL,
	at TIMESTAMP WITH TIME ZONE NOT NULL,
	until TIMESTAMP WITH TIME ZONE NOT NULL,
	reviewed_by TEXT COLLATE "C",
	reviewed_at TIMESTAMP WITH TIME ZONE,
	PRIMARY KEY (id)
);
CREATE INDEX emergency_access_patient ON emergency_access (patient_id);
CREATE INDEX emergency_access_unreviewed ON emergency_access (at) WHERE reviewed_at IS NULL;
CREATE TABLE device (
	id TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C",
	name TEXT NOT NULL,
	status TEXT COLLATE "C" NOT NULL,
	sandbox BOOLEAN NOT NULL,
	since TIMESTAMP WITH TIME ZONE,
	kind TEXT COLLATE "C",
	serial TEXT,
	model TEXT,
	hub_id TEXT COLLATE "C",
	gone TEXT COLLATE "C",
	passed_on BOOLEAN DEFAULT false NOT NULL,
	clock_off DOUBLE PRECISION,
	PRIMARY KEY (id)
);
CREATE INDEX device_patient ON device (patient_id);
CREATE INDEX device_serial ON device (serial text_pattern_ops);
COMMENT ON COLUMN device.patient_id IS 'who holds it now';
COMMENT ON COLUMN device.since IS 'from when they hold it; null: from before anybody noted it';
COMMENT ON COLUMN device.kind IS 'key of monitoring.instruments.INSTRUMENTS';
COMMENT ON COLUMN device.serial IS 'casefolded serial number or identifiers, for the search';
COMMENT ON COLUMN device.hub_id IS 'whose it is';
COMMENT ON COLUMN device.gone IS 'lost | retired, when it is out of use';
COMMENT ON COLUMN device.passed_on IS 'whether somebody held it before: else intake need not look';
COMMENT ON COLUMN device.clock_off IS 'as in `device_state`, where it is too much: what intake asks (hub.hearing)';
CREATE TABLE device_use (
	id TEXT COLLATE "C" NOT NULL,
	device_id TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	since TIMESTAMP WITH TIME ZONE,
	until TIMESTAMP WITH TIME ZONE,
	PRIMARY KEY (id)
);
CREATE INDEX device_use_device ON device_use (device_id);
CREATE INDEX device_use_patient ON device_use (patient_id);
COMMENT ON COLUMN device_use.id IS 'of the DeviceUseStatement';
COMMENT ON COLUMN device_use.since IS 'null: from before anybody noted it';
COMMENT ON COLUMN device_use.until IS 'null: it is not over';
CREATE TABLE device_state (
	device_id TEXT COLLATE "C" NOT NULL,
	heard TIMESTAMP WITH TIME ZONE,
	battery SMALLINT,
	battery_at TIMESTAMP WITH TIME ZONE,
	offsets DOUBLE PRECISION[],
	clock_off DOUBLE PRECISION,
	clock_at TIMESTAMP WITH TIME ZONE,
	PRIMARY KEY (device_id)
);
COMMENT ON COLUMN device_state.heard IS 'when it last spoke to the hub, or last measured as imported';
COMMENT ON COLUMN device_state.battery IS 'per cent';
COMMENT ON COLUMN device_state.offsets IS 'seconds its clock was ahead of ours, the newest last, nine at most';
COMMENT ON COLUMN device_state.clock_off IS 'the median of these';
CREATE TABLE device_aside (
	device_id TEXT COLLATE "C" NOT NULL,
	at TIMESTAMP WITH TIME ZONE NOT NULL,
	outcome TEXT COLLATE "C" NOT NULL,
	observation_id TEXT COLLATE "C",
	told TEXT NOT NULL,
	PRIMARY KEY (device_id, at)
);
COMMENT ON COLUMN device_aside.outcome IS 'as in Receipt';
CREATE TABLE account (
	id TEXT COLLATE "C" NOT NULL,
	username TEXT COLLATE "C" NOT NULL,
	password_hash TEXT COLLATE "C" NOT NULL,
	name TEXT NOT NULL,
	role TEXT COLLATE "C" NOT NULL,
	reference TEXT COLLATE "C" NOT NULL,
	organisations TEXT[] COLLATE "C" NOT NULL,
	hub_id TEXT COLLATE "C",
	demonstration BOOLEAN NOT NULL,
	active BOOLEAN DEFAULT true NOT NULL,
	failures INTEGER DEFAULT 0 NOT NULL,
	locked_until TIMESTAMP WITH TIME ZONE,
	created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (username)
);
COMMENT ON COLUMN account.reference IS 'Practitioner/x, Patient/x, RelatedPerson/x';
COMMENT ON COLUMN account.organisations IS 'references Organization/x that this account works for';
CREATE TABLE session (
	hash BYTEA NOT NULL,
	account_id TEXT COLLATE "C" NOT NULL,
	csrf TEXT COLLATE "C" NOT NULL,
	created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
	expires TIMESTAMP WITH TIME ZONE NOT NULL,
	PRIMARY KEY (hash)
);
CREATE INDEX session_account ON session (account_id);
COMMENT ON COLUMN session.hash IS 'sha256 of the cookie''s secret';
CREATE TABLE credential (
	hash BYTEA NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	account_id TEXT COLLATE "C",
	device_id TEXT COLLATE "C",
	label TEXT NOT NULL,
	scope TEXT,
	sandbox BOOLEAN DEFAULT false NOT NULL,
	used TIMESTAMP WITH TIME ZONE,
	created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
	expires TIMESTAMP WITH TIME ZONE,
	revoked TIMESTAMP WITH TIME ZONE,
	PRIMARY KEY (hash)
);
CREATE INDEX credential_device ON credential (device_id);
CREATE INDEX credential_scoped ON credential (expires) WHERE scope IS NOT NULL;
COMMENT ON COLUMN credential.hash IS 'sha256 of a bearer token or device key (256 random bits)';
COMMENT ON COLUMN credential.kind IS 'token | device';
COMMENT ON COLUMN credential.scope IS 'what narrows the account''s role (see hub.scopes); NULL narrows nothing';
COMMENT ON COLUMN credential.sandbox IS 'a device''s key for trying out';
COMMENT ON COLUMN credential.used IS 'about when it was last used';
CREATE TABLE client (
	account_id TEXT COLLATE "C" NOT NULL,
	keys JSONB NOT NULL,
	since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
	PRIMARY KEY (account_id)
);
COMMENT ON COLUMN client.account_id IS 'also the client id';
COMMENT ON COLUMN client.keys IS 'their public keys, a JWKS';
CREATE TABLE assertion (
	client_id TEXT COLLATE "C" NOT NULL,
	jti BYTEA NOT NULL,
	until TIMESTAMP WITH TIME ZONE NOT NULL,
	PRIMARY KEY (client_id, jti)
);
CREATE INDEX assertion_until ON assertion (until);
COMMENT ON COLUMN assertion.jti IS 'sha256: an assertion is good for one token';
COMMENT ON COLUMN assertion.until IS 'then it has run out by itself';
CREATE TABLE audit (
	seq BIGINT GENERATED BY DEFAULT AS IDENTITY,
	tx xid8 DEFAULT pg_current_xact_id() NOT NULL,
	at TIMESTAMP WITH TIME ZONE NOT NULL,
	actor TEXT COLLATE "C" NOT NULL,
	role TEXT COLLATE "C" NOT NULL,
	action TEXT COLLATE "C" NOT NULL,
	type TEXT COLLATE "C",
	resource_id TEXT COLLATE "C",
	patient_id TEXT COLLATE "C",
	outcome TEXT COLLATE "C" NOT NULL,
	detail JSONB,
	request_id TEXT COLLATE "C",
	PRIMARY KEY (seq)
);
CREATE INDEX audit_patient ON audit (patient_id, at DESC);
CREATE INDEX audit_tx ON audit (tx, seq);
COMMENT ON COLUMN audit.action IS 'read | search | history | create | update | delete | sign-in | ...';
COMMENT ON COLUMN audit.outcome IS 'ok | refused | failed';
CREATE TABLE audit_seal (
	block BIGINT NOT NULL,
	tx_from xid8 NOT NULL,
	tx_until xid8 NOT NULL,
	rows INTEGER NOT NULL,
	digest BYTEA NOT NULL,
	sealed TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
	PRIMARY KEY (block)
);
CREATE TABLE audit_clock (
	shift BIGINT NOT NULL,
	PRIMARY KEY (shift)
);
COMMENT ON COLUMN audit_clock.shift IS 'added to the transaction id in `audit.tx`';
CREATE TABLE notice (
	id TEXT COLLATE "C" NOT NULL,
	at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	patient_id TEXT COLLATE "C" NOT NULL,
	recipient TEXT COLLATE "C" NOT NULL,
	text TEXT NOT NULL,
	link TEXT COLLATE "C" NOT NULL,
	seen TIMESTAMP WITH TIME ZONE,
	PRIMARY KEY (id)
);
CREATE INDEX notice_recipient ON notice (recipient, id);
CREATE INDEX notice_unseen ON notice (recipient, patient_id) WHERE seen IS NULL;
COMMENT ON COLUMN notice.kind IS 'flag-opened | plan-changed | ...';
COMMENT ON COLUMN notice.recipient IS 'reference';
CREATE TABLE imported_file (
	digest BYTEA NOT NULL,
	entries_done BIGINT NOT NULL,
	finished BOOLEAN NOT NULL,
	at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
	PRIMARY KEY (digest)
);
COMMENT ON COLUMN imported_file.digest IS 'sha256 of the file';
CREATE TABLE subscription (
	id TEXT COLLATE "C" NOT NULL,
	owner TEXT COLLATE "C" NOT NULL,
	account_id TEXT COLLATE "C" NOT NULL,
	status TEXT COLLATE "C" NOT NULL,
	channel TEXT COLLATE "C" NOT NULL,
	type TEXT COLLATE "C" NOT NULL,
	secret TEXT COLLATE "C" NOT NULL,
	headers TEXT[] NOT NULL,
	position BIGINT NOT NULL,
	events BIGINT DEFAULT 0 NOT NULL,
	delivered BIGINT DEFAULT 0 NOT NULL,
	attempts INTEGER DEFAULT 0 NOT NULL,
	failing_since TIMESTAMP WITH TIME ZONE,
	next_attempt TIMESTAMP WITH TIME ZONE,
	error TEXT,
	last_sent TIMESTAMP WITH TIME ZONE,
	created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX subscription_owner ON subscription (owner);
COMMENT ON COLUMN subscription.owner IS 'reference of who asked, such as Practitioner/x';
COMMENT ON COLUMN subscription.account_id IS 'whose access limits what is delivered, at the time';
COMMENT ON COLUMN subscription.status IS 'requested | active | error | off, as in the resource';
COMMENT ON COLUMN subscription.channel IS 'rest-hook | websocket';
COMMENT ON COLUMN subscription.type IS 'the FHIR type it is about';
COMMENT ON COLUMN subscription.secret IS 'signs what is sent; shown when it is made, and never again';
COMMENT ON COLUMN subscription.headers IS 'name, value, name, value: never part of the resource';
COMMENT ON COLUMN subscription.events IS 'number of the last event';
COMMENT ON COLUMN subscription.attempts IS 'failed ones since the last success';
COMMENT ON COLUMN subscription.error IS 'why the last attempt failed';
CREATE TABLE subscription_event (
	subscription_id TEXT COLLATE "C" NOT NULL,
	number BIGINT NOT NULL,
	resource_id TEXT COLLATE "C" NOT NULL,
	version INTEGER NOT NULL,
	at TIMESTAMP WITH TIME ZONE NOT NULL,
	sent TIMESTAMP WITH TIME ZONE,
	PRIMARY KEY (subscription_id, number)
);
CREATE INDEX subscription_event_at ON subscription_event (at);
COMMENT ON COLUMN subscription_event.at IS 'when the version was written';
COMMENT ON COLUMN subscription_event.sent IS 'when it left for the first time';
CREATE TABLE subscription_token (
	hash BYTEA NOT NULL,
	account_id TEXT COLLATE "C" NOT NULL,
	subscriptions TEXT[] COLLATE "C" NOT NULL,
	expires TIMESTAMP WITH TIME ZONE NOT NULL,
	PRIMARY KEY (hash)
);
COMMENT ON COLUMN subscription_token.hash IS 'sha256 of the token';
CREATE TABLE job (
	id TEXT COLLATE "C" NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	state TEXT COLLATE "C" NOT NULL,
	owner TEXT COLLATE "C" NOT NULL,
	account_id TEXT COLLATE "C" NOT NULL,
	scope TEXT,
	request JSONB NOT NULL,
	progress TEXT DEFAULT '' NOT NULL,
	result JSONB,
	attempts INTEGER DEFAULT 0 NOT NULL,
	worker TEXT COLLATE "C",
	lease TIMESTAMP WITH TIME ZONE,
	request_id TEXT COLLATE "C",
	created TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
	finished TIMESTAMP WITH TIME ZONE,
	expires TIMESTAMP WITH TIME ZONE NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX job_expires ON job (expires);
CREATE INDEX job_open ON job (created) WHERE state IN ('waiting', 'running');
CREATE INDEX job_owner ON job (owner);
COMMENT ON COLUMN job.kind IS 'export | import';
COMMENT ON COLUMN job.state IS 'arriving | waiting | running | done | failed';
COMMENT ON COLUMN job.owner IS 'reference of who asked';
COMMENT ON COLUMN job.account_id IS 'whose access limits it while it runs';
COMMENT ON COLUMN job.scope IS 'and what narrowed the token it was asked for with';
COMMENT ON COLUMN job.progress IS 'in words';
COMMENT ON COLUMN job.result IS 'what was made, or the OperationOutcome of a failure';
COMMENT ON COLUMN job.worker IS 'the process that has it';
COMMENT ON COLUMN job.lease IS 'until when nobody else takes it';
COMMENT ON COLUMN job.expires IS 'then it is removed with its pieces';
CREATE TABLE job_piece (
	job_id TEXT COLLATE "C" NOT NULL,
	file INTEGER NOT NULL,
	number INTEGER NOT NULL,
	data BYTEA NOT NULL,
	PRIMARY KEY (job_id, file, number)
);
COMMENT ON COLUMN job_piece.file IS 'counted from 1; 0 is what the job was given';
CREATE FUNCTION tell_of_credentials() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_notify('carehub_credentials', ''); RETURN NULL; END $$;
CREATE TRIGGER credential_ended AFTER UPDATE OF revoked, expires, scope ON credential FOR EACH ROW EXECUTE FUNCTION tell_of_credentials();
CREATE TRIGGER credential_gone AFTER DELETE ON credential FOR EACH ROW WHEN (OLD.expires IS NULL OR OLD.expires > now()) EXECUTE FUNCTION tell_of_credentials();
CREATE TRIGGER device_gone AFTER DELETE ON device FOR EACH ROW EXECUTE FUNCTION tell_of_credentials();
CREATE TRIGGER account_gone AFTER DELETE ON account FOR EACH ROW EXECUTE FUNCTION tell_of_credentials();
CREATE TRIGGER account_changed AFTER UPDATE OF active, name, role, reference, organisations, hub_id ON account FOR EACH ROW EXECUTE FUNCTION tell_of_credentials();
