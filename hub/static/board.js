// An open board takes in what arrives. The list is fetched anew with the reader's own access (htmx, on a server-sent
// event) into #incoming; it replaces the list at once, or, while the pointer or the focus is in the list, waits for
// a press of "Show" or for the reader to leave: nothing moves under the pointer.
const list = document.getElementById("list");
const incoming = document.getElementById("incoming");
const arrived = document.getElementById("arrived");
const show = document.getElementById("show-arrived");
const state = document.getElementById("live-state");
const fetcher = document.getElementById("fetch");

const ids = (root) => new Set([...root.querySelectorAll(".hub-row")].map((row) => row.id));
// What has arrived and is not shown yet; out of the document, so that no id stands there twice.
let waiting = null;
const writing = () => [...list.querySelectorAll("textarea")].some((area) => area.value);
const busy = () => list.matches(":hover") || list.contains(document.activeElement);

function place() {
  if (!waiting) return;
  const before = ids(list);
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const row = focused && focused.closest(".hub-row");
  const path = row && { id: row.id, index: [...row.querySelectorAll("a, button, summary")].indexOf(focused) };
  list.replaceChildren(waiting);
  waiting = null;
  for (const fresh of list.querySelectorAll(".hub-row")) {
    if (!before.has(fresh.id)) fresh.classList.add("hub-row--new");
  }
  if (path) {
    const again = document.getElementById(path.id);
    const target = again && again.querySelectorAll("a, button, summary")[path.index];
    if (target) target.focus({ preventScroll: true });
  }
  show.hidden = true;
}

function take() {
  waiting = document.createDocumentFragment();
  waiting.append(...incoming.childNodes);
  const before = ids(list);
  const fresh = [...waiting.querySelectorAll(".hub-row")].filter((row) => !before.has(row.id));
  const gone = [...before].filter((id) => !ids(waiting).has(id));
  if (fresh.length) {
    arrived.textContent = fresh.length === 1 ? `New. ${fresh[0].dataset.words}` : `${fresh.length} new. First: ${fresh[0].dataset.words}`;
  }
  if (busy() || writing()) {
    show.hidden = !(fresh.length || gone.length);
    if (gone.length && !fresh.length) arrived.textContent = "The list has changed.";
  } else {
    place();
  }
}

document.body.addEventListener("htmx:afterSwap", (event) => { if (event.detail.target === incoming) take(); });
show.addEventListener("click", () => {
  place();
  const first = list.querySelector(".hub-row--new .hub-row__person") || list.querySelector(".hub-row__person");
  if (first) first.focus();
});
list.addEventListener("mouseleave", () => {
  if (!busy() && !writing()) place();
});

// The reader is told when the board is not live, and it catches up when it is again.
let lost = false;
document.body.addEventListener("htmx:sseOpen", () => {
  state.hidden = false;
  state.classList.remove("hub-live--off");
  state.textContent = "Live";
  if (lost) window.htmx.trigger(fetcher, "catchup");
  lost = false;
});
document.body.addEventListener("htmx:sseError", () => {
  lost = true;
  state.hidden = false;
  state.classList.add("hub-live--off");
  state.textContent = "Not live: trying again. Reload the page to be sure.";
});
