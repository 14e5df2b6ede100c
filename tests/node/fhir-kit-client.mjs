// fhir-kit-client, as its users write it, against the running service. Environment: BASE, TOKEN, PERSON, READINGS.
// tests/test_client_fhir_kit.py runs it; each line that it prints is a step that held.

import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const { CHECKOUT, BASE, TOKEN, PERSON, READINGS } = process.env;
const entry = pathToFileURL(`${CHECKOUT}/node_modules/fhir-kit-client/dist/index.js`);
const { Client, CapabilityTool } = await import(entry);

const client = new Client({ baseUrl: BASE, bearerToken: TOKEN });
const refused = async (promise, status) => {
  const error = await promise.then(() => undefined, (thrown) => thrown);
  assert.equal(error?.response?.status, status);
  assert.equal(error.response.data.resourceType, "OperationOutcome");
  return error.response.data.issue[0].diagnostics;
};
const done = (step) => console.log(step);

const statement = await new Client({ baseUrl: BASE }).capabilityStatement();
const tool = new CapabilityTool(statement);
for (const code of ["transaction", "batch", "history-system", "search-system"]) assert.ok(tool.serverCan(code), code);
for (const code of ["read", "create", "update", "patch", "delete", "vread"]) assert.ok(tool.resourceCan("Patient", code));
assert.ok(tool.resourceSearch("Observation", "patient"));
assert.ok(tool.serverSearch("_lastUpdated"));
assert.ok(tool.searchParamsFor({ resourceType: "CarePlan" }).includes("subject"));
assert.equal(statement.implementation.url, BASE);
done("capability");

const { tokenUrl, authorizeUrl } = await client.smartAuthMetadata();
assert.ok(String(tokenUrl).endsWith("/oauth/token"));
assert.equal(authorizeUrl, undefined);
await refused(new Client({ baseUrl: BASE }).read({ resourceType: "Patient", id: PERSON }), 401);
done("security");

const made = await client.create({ resourceType: "Patient", body: { resourceType: "Patient", name: [{ family: "Kit" }] } });
const { id } = made;
assert.equal(made.meta.versionId, "1");
assert.equal(Client.httpFor(made).response.status, 201);
const read = await client.read({ resourceType: "Patient", id });
assert.deepEqual(read.name, [{ family: "Kit" }]);
const updated = await client.update({ resourceType: "Patient", id, body: { ...read, active: true }, options: { headers: { "If-Match": 'W/"1"' } } });
assert.equal(updated.meta.versionId, "2");
const stale = client.update({ resourceType: "Patient", id, body: read, options: { headers: { "If-Match": 'W/"1"' } } });
assert.match(await refused(stale, 412), /version/);
assert.equal((await client.vread({ resourceType: "Patient", id, version: "1" })).active, undefined);
done("versions");

const patched = await client.patch({ resourceType: "Patient", id, jsonPatch: [{ op: "replace", path: "/active", value: false }] });
assert.equal(patched.active, false);
const history = await client.history({ resourceType: "Patient", id });
assert.equal(history.entry.length, 3);
done("patch");

const seen = [];
let bundle = await client.search({ resourceType: "Observation", searchParams: { patient: PERSON, code: "8867-4", _count: 7, _sort: "date" } });
while (bundle) {
  seen.push(...bundle.entry.map(({ resource }) => resource.valueQuantity.value));
  bundle = await client.nextPage({ bundle });
}
assert.deepEqual(seen, Array.from({ length: Number(READINGS) }, (_, minute) => 60 + minute));
const posted = await client.search({ resourceType: "Observation", searchParams: { patient: PERSON, _summary: "count" }, options: { postSearch: true } });
assert.equal(posted.total, Number(READINGS));
const inside = await client.compartmentSearch({ resourceType: "Observation", compartment: { resourceType: "Patient", id: PERSON }, searchParams: { _summary: "count" } });
assert.equal(inside.total, Number(READINGS));
const across = await client.systemSearch({ searchParams: { _type: "Patient", _id: PERSON } });
assert.equal(across.entry[0].resource.id, PERSON);
assert.match(await refused(client.search({ resourceType: "Patient", searchParams: { famly: "x" } }), 400), /famly/);
done("search");

const urn = "urn:uuid:0d1b2c3d-0000-4000-8000-000000000002";
const answer = await client.transaction({
  body: {
    resourceType: "Bundle",
    type: "transaction",
    entry: [
      { fullUrl: urn, resource: { resourceType: "Patient", name: [{ family: "Kit" }] }, request: { method: "POST", url: "Patient" } },
      { resource: { resourceType: "Goal", lifecycleStatus: "proposed", description: { text: "Walk" }, subject: { reference: urn } }, request: { method: "POST", url: "Goal" } },
    ],
  },
});
assert.deepEqual(answer.entry.map(({ response }) => response.status), ["201 Created", "201 Created"]);
const goal = await client.read({ resourceType: "Goal", id: answer.entry[1].response.location.split("/Goal/")[1].split("/")[0] });
const subject = await client.resolve({ reference: goal.subject.reference });
assert.equal(subject.name[0].family, "Kit");
done("transaction");

const everything = await client.operation({ name: "everything", resourceType: "Patient", id: PERSON, method: "GET", input: { _count: 200 } });
assert.ok(everything.entry.length > Number(READINGS));
done("everything");

await client.delete({ resourceType: "Patient", id });
await refused(client.read({ resourceType: "Patient", id }), 410);
done("delete");
