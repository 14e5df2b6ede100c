// What every page has: the design system's components, keys, and the search box that answers while typing.
document.body.classList.add("js-enabled", "nhsuk-frontend-supported");

const field = document.getElementById("find");
const answers = document.getElementById("find-answers");

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "Escape") {
    if (answers) answers.replaceChildren();
    const menu = event.target.closest("details.hub-menu[open]");
    if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
    return;
  }
  if (field && event.target === field && event.key === "ArrowDown") {
    const first = answers.querySelector("a");
    if (first) { event.preventDefault(); first.focus(); }
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && field) { event.preventDefault(); field.focus(); }
  if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
});

// j and k walk over the rows of a list; Enter then follows the link that has the focus.
function step(direction) {
  const links = [...document.querySelectorAll(".hub-row__person")];
  if (!links.length) return;
  const row = document.activeElement.closest(".hub-row");
  const at = links.findIndex((link) => row && row.contains(link));
  const next = links[Math.min(links.length - 1, Math.max(0, at + direction))];
  next.focus();
}

// One open menu at a time, closed by a click elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.hub-menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  if (answers && !event.target.closest(".hub-find")) answers.replaceChildren();
});

// A form is sent once, however often the button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// What a person has typed is not lost by leaving the page by mistake.
for (const form of document.querySelectorAll("form[data-keep]")) {
  let changed = false;
  form.addEventListener("input", () => { changed = true; });
  form.addEventListener("submit", () => { changed = false; });
  window.addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });
}

const components = document.querySelectorAll('[data-module^="nhsuk-"]');
if (components.length) {
  const { initAll } = await import("/assets/nhsuk-frontend.min.js");
  initAll();
}
