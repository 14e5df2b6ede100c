// Copies what the pages load from node_modules into hub/assets, which is served at /assets and travels in the wheel.

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const from = join(root, "node_modules");
const to = join(root, "hub", "assets");
const nhsuk = "nhsuk-frontend/dist/nhsuk";

const files = {
  "nhsuk-frontend.min.css": `${nhsuk}/nhsuk-frontend.min.css`,
  "nhsuk-frontend.min.js": `${nhsuk}/nhsuk-frontend.min.js`,
  "htmx.min.js": "htmx.org/dist/htmx.min.js",
  "htmx-ext-sse.min.js": "htmx-ext-sse/dist/sse.min.js",
};

rmSync(to, { recursive: true, force: true });
mkdirSync(to, { recursive: true });

for (const [name, source] of Object.entries(files)) {
  const text = readFileSync(join(from, source), "utf8")
    // The Frutiger font is licensed for nhs.uk addresses alone, and a page here loads nothing from elsewhere.
    .replace(/@font-face\{[^}]*\}/g, "")
    // Source maps stay behind, so nothing may point at them.
    .replace(/\/\/# sourceMappingURL=.*|\/\*# sourceMappingURL=.*?\*\//g, "");
  writeFileSync(join(to, name), text);
}
cpSync(join(from, nhsuk, "assets"), to, { recursive: true });

const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const packages = Object.keys(dependencies).map((name) => {
  const { version, license } = JSON.parse(readFileSync(join(from, name, "package.json"), "utf8"));
  return { name, version, license: license ?? "0BSD" };
});
writeFileSync(join(to, "packages.json"), JSON.stringify(packages, null, 2) + "\n");
