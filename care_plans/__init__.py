"""What a plan is and how it changes; pure where it can be.

The record is FHIR; everything here reads and makes plain JSON (`dict`). For the hub, in the order of a write:

    facts.gather(pg, pairs, now, can_import=bool) -> {patient_id: Facts}   pairs: [(before | None, after | None)], all
        types; locks the people's decisions, lays the batch over what is stored. `facts.load_facts` and `facts.overlay`
        are its halves.
    rules.check(pair, facts, unknown)            raises Refusal; RULES_BY_TYPE: CarePlan, Consent, CareTeam, Goal, Task.
        `unknown` = Facts("", now, can_import=...) serves resources about nobody.
    rules.suspensions(facts) -> [plan id]        active plans without approval: load, `rules.suspended(plan, by, on)`,
        write in the same transaction (WIR-03: withdrawal suspends the plan).
    projections.project_plans | project_approvals | project_team (pg, [Changed(id, resource | None, version, updated,
        author)]), project_tasks(pg, changed, hubs={patient_id: hub_id})

For pages and flows:

    plan.Plan(resource, goal_resources)          the plan in words; plan.with_goals(resource, goals); plan.new_plan(...)
    edits.apply(plan, edits, actor, today) -> Plan     pure; plan.written(before, after) -> resources to store
    forms.edit(kind, form, new_id) -> Edit             422 names the field
    difference.difference(before, after) -> [PlanChange]
    conflict.three_way(base, mine, theirs) -> Conflict(clashes, merged); conflict.resolve(conflict, choices) -> Plan;
        conflict.StaleEdit(conflict) is the Refusal 409 that carries it
    quality.quality(plan) -> [Criterion]         the five criteria of NHS England, met or what is missing
    patient_view.patient_plan(...)               the plan as the person reads it
    queries                                      reads for pages: summary, versions, team, open tasks, who has read it
    consent.new_consent / withdrawn, team.new_team / assign / leave, tasks.new_task / claim / start / complete / cancel
"""
