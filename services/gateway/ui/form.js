// The form: which license, for which computer, for how long. It knows the rules (rules.js) and says
// what breaks one before the server is asked.

import { byId, make, setText } from "./dom.js";
import { checkHostId, checkPeriod, firstFull, heldBy, invalidity, latestEnd, licenseKey,
  macDoubt, seatsOf } from "./rules.js";
import { DAY, HOUR, MINUTE, formatDuration, formatSoon, fromLocalInput, isoTime, parseTime,
  toLocalInput }
  from "./times.js";

const form = byId("borrow"), fields = byId("fields");
const license = byId("license"), host = byId("host"), from = byId("from"), until = byId("until");
const later = byId("begins-later");
const INPUTS = { license, host, from, until }; // each has a line of its own, NAME-note
const STALE = 5 * MINUTE;
const HOSTS_OFFERED = 200;
const LENGTHS = [HOUR, 4 * HOUR, DAY, 3 * DAY, 7 * DAY];

let state = null; // what the last update() gave: {licenses, borrows, limits, now(), chosen, lends}
let length = null; // the length that was chosen: the end follows the beginning
let touched = new Set(); // fields that have been edited: only those complain
let refused = {}; // field → text: what the server had against the form as it was sent
let done = false; // the form as it stands was borrowed: nothing more to say about it

// ---- reading ----

const chosenLicense = () => state.licenses.find((l) => licenseKey(l) === state.chosen);

function period() {
  return { from: later.checked ? fromLocalInput(from.value) : null,
    until: fromLocalInput(until.value) };
}

function begin(now) {
  const given = period().from;
  return Number.isFinite(given) && given !== null ? Math.max(given, now) : now;
}

// The period in the form for the chosen license, if no rule forbids it; else null.
export function wishedPeriod() {
  if (!state || done || !chosenLicense())
    return null;
  const now = state.now(), p = period();
  return checkPeriod(p, state.limits, chosenLicense(), now) ? null
    : { from: Math.max(p.from ?? now, now), until: p.until };
}

function problems() {
  const found = {}, now = state.now(), l = chosenLicense();
  const id = checkHostId(host.value.trim());
  if (!l)
    found.license = "Choose a license.";
  else if (invalidity(l, now) === "expired")
    found.license = "This license has expired.";
  if (id.kind === "empty")
    found.host = "Say which computer will use it.";
  else if (id.kind === "bad")
    found.host = id.message;
  const broken = checkPeriod(period(), state.limits, l, now);
  if (broken)
    found[broken.field] = broken.message;
  return found;
}

// ---- showing ----

function note(field, text, kind) {
  const node = byId(`${field}-note`);
  setText(node, text);
  node.className = `note-line ${kind}`;
  INPUTS[field].setAttribute("aria-invalid", String(kind === "bad" && text !== ""));
}

function showHost() {
  const text = host.value.trim(), id = checkHostId(text);
  const doubt = id.kind === "dongle" ? macDoubt(text) : "";
  if (doubt)
    return note("host", `${id.message}. ${doubt}`, "warn");
  note("host", id.kind === "mac" || id.kind === "dongle" ? `✓ ${id.message}` : "", "good");
}

function showLicense() {
  const l = chosenLicense(), now = state.now();
  const seats = l && seatsOf(l, now);
  const inUse = l && !seats.free && seats.borrowed < seats.count;
  note("license", inUse ? "All seats are in use now. You can borrow one all the same: if they " +
    "still are when your period begins, one of the sessions ends." : "", "warn");
}

function showLimits() {
  const { limits } = state, now = state.now();
  const last = latestEnd(begin(now), limits, chosenLicense(), now);
  setText(byId("limits"), `At most ${formatDuration(limits.maxPeriod)}; here until ${
    formatSoon(last)} at the latest. No borrow ends more than ${
    formatDuration(limits.maxAhead)} from now.`);
  from.min = until.min = toLocalInput(now);
  from.max = toLocalInput(now + limits.maxAhead);
  until.max = toLocalInput(last);
}

// "Now" is not at a whole minute, the end is: without this a day would be 23 hours 59 minutes.
const roundUp = (ms) => Math.ceil(ms / MINUTE) * MINUTE;

function summaryText(found) {
  const l = chosenLicense(), now = state.now(), p = period();
  if (done || Object.keys(found).length)
    return null;
  const start = p.from === null ? "now" : formatSoon(p.from);
  const id = checkHostId(host.value.trim());
  return [make("p", {}, make("strong", {}, make("bdi", {}, l.feature), ` ${l.version}`), " for ",
    make("code", {}, id.stored), `, from ${start} until ${formatSoon(p.until)}: ${
      formatDuration(roundUp(p.until - begin(now)))}.`),
  make("p", { class: "quiet" }, "A borrowed license cannot be given back early.")];
}

function showSummary(found) {
  const l = chosenLicense(), wished = wishedPeriod();
  const lines = summaryText(found) ?? [];
  const warn = (text) => lines.push(make("p", { class: "warn" }, `⚠ ${text}`));
  const full = wished && firstFull(l, wished.from, wished.until);
  const own = wished && heldBy(l, checkHostId(host.value.trim()).stored, wished);
  if (full)
    warn(`From ${formatSoon(full.from)} to ${formatSoon(full.until)} every seat of it is ` +
      "borrowed already.");
  if (own)
    warn(`This computer has it already until ${formatSoon(parseTime(own.validUntil))}; a period ` +
      "that differs takes another seat.");
  const box = byId("summary");
  // A live region: touched only when it says something else.
  if (box.textContent !== lines.map((n) => n.textContent).join(""))
    box.replaceChildren(...lines);
}

function showAll() {
  const found = problems(), notes = { license: showLicense, host: showHost };
  for (const field of Object.keys(INPUTS)) {
    const bad = touched.has(field) && found[field] || refused[field];
    if (bad || !notes[field])
      note(field, bad ?? "", "bad");
    else
      notes[field]();
  }
  showLimits();
  showSummary(found);
  byId("from-field").hidden = !later.checked;
  for (const chip of byId("lengths").children)
    chip.setAttribute("aria-pressed", String(Number(chip.dataset.ms) === length));
  return found;
}

// ---- lengths ----

function applyLength() {
  const now = state.now(), start = begin(now);
  const unit = state.limits.maxPeriod < HOUR ? 1000 : MINUTE;
  const end = Math.min(start + length, latestEnd(start, state.limits, chosenLicense(), now));
  until.step = from.step = String(unit / 1000);
  until.value = toLocalInput(Math.floor(end / unit) * unit, unit < MINUTE);
}

// A page that lies open: the end moves on with the time, but not so often that it could disturb.
function endIsStale() {
  return !(begin(state.now()) + length - fromLocalInput(until.value) < STALE);
}

function chooseLength(ms, changed) {
  length = ms;
  forget();
  touched.add("until");
  applyLength();
  showAll();
  changed();
}

function showLengths(changed) {
  const max = state.limits.maxPeriod;
  const offered = [...LENGTHS.filter((l) => l < max), max].slice(-3);
  byId("lengths").replaceChildren(...offered.map((ms) => make("button", { type: "button",
    class: "chip", "data-ms": ms, "data-key": `length ${ms}`,
    onclick: () => chooseLength(ms, changed) },
  ms === max ? `${formatDuration(ms)} (longest)` : formatDuration(ms))));
  length ??= offered.includes(DAY) ? DAY : offered[0];
}

// ---- filling ----

const optionText = (l) => `${l.feature} ${l.version} ${l.edition}${l.modules && ` · ${l.modules}`}`;

// Replaces the options of a list, unless they are the same: an open list would close.
function fillOptions(list, options) {
  const same = options.length === list.children.length && options.every((o, i) =>
    list.children[i].isEqualNode(o));
  if (!same)
    list.replaceChildren(...options);
}

function fillLicenses(now) {
  const texts = state.licenses.map(optionText);
  const options = state.licenses.map((l, i) => {
    const alike = texts.filter((t) => t === texts[i]).length > 1 ? ` (${l.uuid.slice(0, 8)})` : "";
    const expired = invalidity(l, now) === "expired";
    return make("option", { value: licenseKey(l), disabled: expired },
      `${texts[i]}${alike}${expired ? " – expired" : ""}`);
  });
  fillOptions(license, [make("option", { value: "" }, "Choose a license"), ...options]);
  license.value = state.chosen;
}

function fillHosts() {
  const known = [...new Set(state.borrows.map((b) => b.hostId))].slice(0, HOSTS_OFFERED);
  fillOptions(byId("hosts"), known.map((id) => make("option", { value: id })));
}

// New data from the server, or time has passed; what the person typed stays.
export function updateForm(next) {
  const first = state === null, limitsChanged = state?.limits.maxPeriod !== next.limits.maxPeriod;
  state = next;
  fields.disabled = !state.lends;
  fillLicenses(state.now());
  fillHosts();
  if (first || limitsChanged)
    showLengths(state.changed);
  if (length !== null && document.activeElement !== until && endIsStale())
    applyLength();
  showAll();
}

// What was said about the form as it was sent does not count any more.
function forget() {
  refused = {};
  done = false;
}

export function chooseLicense(key) {
  forget();
  state.chosen = license.value = key;
  if (length !== null)
    applyLength();
  showAll();
}

export function setBusy(busy) {
  const button = byId("submit");
  button.setAttribute("aria-disabled", String(busy));
  setText(button, busy ? "Borrowing …" : "Borrow and download");
}

// Marks the field that the server's error means, until the form is changed.
export function markField(field, text) {
  refused = { [field]: text };
  showAll();
}

export function markBorrowed() {
  done = true;
  showAll();
}

// actions: {changed() – the period or the license, choose(key), borrow(params)}.
export function startForm(actions) {
  const edited = (field) => { touched.add(field); showAll(); };
  license.addEventListener("change", () => actions.choose(license.value));
  // Before all the others.
  form.addEventListener("input", forget, { capture: true });
  host.addEventListener("input", () => showAll());
  host.addEventListener("change", () => edited("host"));
  for (const radio of [later, byId("begins-now")])
    radio.addEventListener("change", () => {
      if (later.checked && !from.value)
        from.value = toLocalInput(Math.ceil((state.now() + HOUR) / HOUR) * HOUR);
      if (length !== null)
        applyLength();
      showAll();
      actions.changed();
    });
  from.addEventListener("input", () => {
    if (length !== null && Number.isFinite(fromLocalInput(from.value)))
      applyLength();
    edited("from");
    actions.changed();
  });
  until.addEventListener("input", () => { length = null; edited("until"); actions.changed(); });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (byId("submit").getAttribute("aria-disabled") === "true")
      return;
    touched = new Set(Object.keys(INPUTS));
    const found = showAll(), bad = Object.keys(INPUTS).find((name) => found[name]);
    if (bad)
      return INPUTS[bad].focus();
    length = null; // asked again, it is the same borrow: the end stays
    const p = period(), l = chosenLicense(), hostId = checkHostId(host.value.trim()).stored;
    const validFrom = p.from === null ? {} : { validFrom: isoTime(p.from) }; // left out: now
    actions.borrow({ uuid: l.uuid, feature: l.feature, hostId, ...validFrom,
      validUntil: isoTime(p.until) });
  });
}
