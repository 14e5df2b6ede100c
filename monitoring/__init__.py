"""What readings mean: measures, limits, rules, flags.

Pure, no database, no clock:

    measures.py    MEASURES: dict[str, Measure]                 codes, unit, accepted units, believable range
    readings.py    readings(observation, now, *, from_device, test, synthetic) -> list[Reading] | raises ReadingRefused
                   key(device_id, observation) -> bytes; digest(observation) -> bytes          receipts of devices
    limits.py      DEFAULTS; in_force(measure, limits, scale) -> Limits | None
                   from_service_request(resource) -> Order | None; to_service_request(order) -> dict
    schedules.py   Schedule: windows of the day or an interval; .slots(since, until); due(schedule, now)
    adherence.py   kept(schedule, times, since, until, now, pauses) -> done, missed, paused, open, later
    templates.py   TEMPLATES: plans of monitoring; questionnaires.py INSTRUMENTS, observations(response, now)
    kind.py        Kind: a way to look at readings, with its parameters as fields; thresholds.py, news2.py, weight.py,
                   glucose.py, glucose_sensor.py, blood_pressure.py, peak_flow.py, copd.py, trend.py, drift.py
    baseline.py    usual(case, measure, at) -> Baseline | TooFew
    rules.py       SHIPPED, RULES (those that are on), BY_ID; name_of(rule_id)
    evaluation.py  evaluate(case) -> list[Finding | Failure]; a Failure has .finding() for its operational flag
    news2.py       score(values, scale) -> Score; blood_pressure.py week(systolic, diastolic) -> Week
    decision.py    decide(live, finding, now, id=, hub_id=) -> Decision | None
    flags.py       to_fhir(flag, before) -> dict; from_fhir(resource, version) -> Flag | None
    states.py      the states of a flag and the table of moves; outcomes.py how one ends
    moves.py       move(flag, to, who, when, why, code=, until=) -> Flag; undo(flag, who, when) -> Flag
    escalation.py  timed(before, after, cover, now) -> Flag with its `due`; fall_due(flag, cover, now) -> Flag
    hours.py       Hours: when a hub is open; cover.py Cover: those, delays and people, as a HealthcareService
    feedback.py    feedback(findings, doubts, cover, now) -> what the person is told at once
    instruments.py INSTRUMENTS: kinds of devices and what each measures; instrument_of(device) -> Instrument | None

On a psycopg connection (`tx.pg`), set-based, for any number of people:

    projection.py  project_readings(pg, readings, received, replaced=[observation ids])
                   put_receipts(pg, [(key, observation id, digest)]) -> new keys
                   known_receipts(pg, keys) -> {key: (observation id, digest)}; correct_receipts(pg, [(key, digest)])
    state.py       load_cases(pg, readings, now, facts={patient_id: Facts}) -> {patient_id: Case}
    flags.py       take_turns(pg, patient_ids); live_flags(pg, patient_ids) -> {(patient_id, rule): Flag}
                   project_flags(pg, [(resource, version)], removed)
    limits.py      project_limits(pg, orders, removed)
    overdue.py     check(pg, now) brings the table `missed` up to date
    pauses.py      paused(pg, patient_ids, at) -> {patient_id: [Pause]}; PAUSED for lists in SQL
    series.py      series(pg, patient_id, measure, since, until) -> points of a chart
    past.py        what the engine was told of each person, in the order in which it was told; pasts(rows, rows)
    replay.py      replay(past, since, rules) -> alerts that rules would have raised; raised(past, since, ids) in truth
                   would_have_raised(pg, order, now) -> (alerts raised, alerts that new limits would have raised)

The path of a batch: take_turns of its people -> readings -> project_readings -> load_cases -> evaluate each ->
live_flags of those with findings -> decide each -> to_fhir -> fhir.store.write -> project_flags.
"""
