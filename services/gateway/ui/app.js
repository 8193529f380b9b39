// The page: asks the server every half minute, keeps what it said, and draws.

import { call, callAll, get, token } from "./api.js";
import { renderBorrows } from "./borrows.js";
import { byId, make, saveFile, setText } from "./dom.js";
import { explain } from "./errors.js";
import { chooseLicense, markBorrowed, markField, setBusy, startForm, updateForm, wishedPeriod }
  from "./form.js";
import { renderLicenses, timelineRange } from "./licenses.js";
import { invalidity, licenseKey } from "./rules.js";
import { MINUTE, formatDuration, formatTime, formatSoon, parseTime, zoneAt, zoneName }
  from "./times.js";
import { withToken } from "./token_dialog.js";

const REFRESH_MS = 30_000;

const data = { licenses: [], borrows: [], limits: null, protection: null, chosen: "", readAt: 0 };
let clockAhead = 0; // of the server's clock before this computer's
let timer = 0;

const now = () => Date.now() + clockAhead;

// ---- drawing ----

function lends() {
  const addons = data.protection?.addons;
  return !Array.isArray(addons) || addons.includes("borrow");
}

function drawLicenses() {
  if (!data.limits)
    return;
  const wished = wishedPeriod();
  renderLicenses(byId("licenses"), { licenses: data.licenses, now: now(), chosen: data.chosen,
    wished, range: timelineRange(now(), data.licenses, wished), lends: lends() },
  { choose: chooseAndGoOn, rerender: drawLicenses });
}

function drawBorrows() {
  renderBorrows(byId("borrows"), byId("filter-field"),
    { borrows: data.borrows, licenses: data.licenses, now: now(), filter: byId("filter").value },
    { download, rerender: drawBorrows });
}

function drawForm() {
  if (data.limits)
    updateForm({ licenses: data.licenses, borrows: data.borrows, limits: data.limits, now,
      chosen: data.chosen, lends: lends(), changed: drawLicenses });
  byId("token-line").hidden = token.get() === "";
}

function drawFacts() {
  const p = data.protection;
  const server = byId("server");
  setText(server, p?.server_id ?? "unknown");
  setText(byId("zone"), `${zoneName()} (${zoneAt(now())})`);
  const read = data.readAt ? `Read from the server at ${formatTime(data.readAt)}.` : "";
  const side = clockAhead > 0 ? "ahead of" : "behind";
  const apart = Math.abs(clockAhead) > MINUTE ? ` The server's clock is ${
    formatDuration(Math.abs(clockAhead))} ${side} this computer's; the server's counts.` : "";
  setText(byId("freshness"), read + apart);
}

// What stands in the way of borrowing: null, or {title, text}.
function obstacle(errors) {
  if (errors.length)
    return explain(errors[0]);
  const p = data.protection;
  if (p && !lends())
    return explain({ kind: "rpc", code: 1005, data: {} });
  if (p && !p.valid_license)
    return explain({ kind: "rpc", code: 1004, data: { reason: p.reason }, message: p.reason });
  return null;
}

function drawBanner(errors) {
  const what = obstacle(errors), banner = byId("banner");
  const text = what ? `${what.title}. ${what.text}` : "";
  if (banner.textContent !== text) // a live region
    banner.replaceChildren(what ? make("p", { class: "note bad" },
      make("strong", {}, `${what.title}.`), ` ${what.text}`) : "");
}

function draw(errors) {
  drawBanner(errors);
  drawFacts();
  drawForm();
  drawLicenses();
  drawBorrows();
}

// ---- asking ----

function takeLimits(limits, asked) {
  data.limits = { maxPeriod: limits.maxPeriodSeconds * 1000,
    maxAhead: limits.maxAheadSeconds * 1000 };
  data.tokenNeeded = limits.tokenNeeded;
  const ahead = parseTime(limits.now) + 500 - (asked + Date.now()) / 2;
  clockAhead = Math.abs(ahead) < 2000 ? 0 : ahead; // it comes in whole seconds
}

function byUse(a, b) {
  const bad = (l) => Number(invalidity(l, now()) !== "");
  return bad(a) - bad(b) || a.feature.localeCompare(b.feature) ||
    b.version.localeCompare(a.version, "en", { numeric: true }) ||
    a.edition.localeCompare(b.edition) || a.uuid.localeCompare(b.uuid);
}

async function refresh() {
  clearTimeout(timer);
  const asked = Date.now(), errors = [];
  const attempt = (promise) => promise.catch((e) => { errors.push(e); return null; });
  const [limits, protection, lists] = await Promise.all([attempt(get("/ui/limits.json")),
    attempt(get("/health/protection")),
    attempt(callAll(["ListLicensesV1", "ListBorrowedLicensesV1"]))]);
  if (limits)
    takeLimits(limits, asked);
  data.protection = protection ?? data.protection;
  const [licenses, borrows] = lists ?? [{}, {}];
  errors.push(...[licenses.error, borrows.error].filter(Boolean));
  if (licenses.result)
    data.licenses = licenses.result.sort(byUse);
  data.borrows = borrows.result ?? data.borrows;
  if (licenses.result && !data.licenses.some((l) => licenseKey(l) === data.chosen))
    data.chosen = data.licenses.length === 1 ? licenseKey(data.licenses[0]) : "";
  if (!errors.length)
    data.readAt = Date.now();
  draw(errors);
  document.documentElement.dataset.ready = errors.length ? "partly" : "yes";
  timer = setTimeout(() => document.visibilityState === "visible" && refresh(), REFRESH_MS);
}

// ---- doing ----

function choose(key) {
  data.chosen = key;
  chooseLicense(key);
  drawLicenses();
}

// From a card, the way goes on in the form; whoever types in the form's own list is not moved away.
function chooseAndGoOn(key) {
  choose(key);
  byId("host").focus();
}

// The form's outcome takes the focus, as that is where one goes on. That of a download cannot have
// it, and is only said: who downloads several files stays in the table.
function showOutcome(box, kind, ...content) {
  box.className = `outcome note ${kind}`;
  box.replaceChildren(...content);
  box.focus();
}

function showError(box, e) {
  const what = explain(e);
  showOutcome(box, "bad", make("strong", {}, `${what.title}.`), ` ${what.text}`);
  if (box.id === "outcome")
    markField(what.field, what.title);
}

function clearOutcome(box) {
  box.className = "outcome";
  box.replaceChildren();
}

const handedOver = (borrowed) =>
  [make("code", {}, borrowed.fileName), " was handed to your downloads."];

function showBorrowed(borrowed) {
  const begins = parseTime(borrowed.validFrom);
  const when = begins > now() ? `from ${formatSoon(begins)} ` : "";
  showOutcome(byId("outcome"), "good",
    make("p", {}, make("strong", {}, "Borrowed."), ` It is yours ${when}until ${
      formatSoon(parseTime(borrowed.validUntil))}.`),
    make("p", {}, ...handedOver(borrowed), " Put it into the license folder of the application on ",
      make("code", {}, borrowed.hostId), "; it needs no connection there."),
    make("button", { type: "button", id: "save-again",
      onclick: () => saveFile(borrowed.fileName, borrowed.license) }, "Save the file again"));
}

async function borrow(params) {
  const box = byId("outcome");
  clearOutcome(box);
  setBusy(true);
  try {
    const borrowed = await withToken(data.tokenNeeded, (t) => call("BorrowLicenseV1", params, t));
    if (borrowed) {
      saveFile(borrowed.fileName, borrowed.license);
      markBorrowed();
      showBorrowed(borrowed);
    }
  } catch (e) {
    showError(box, e);
  } finally {
    setBusy(false);
    await refresh();
  }
}

async function download(listed) {
  const box = byId("download-outcome");
  clearOutcome(box);
  try {
    const borrowed = await withToken(data.tokenNeeded,
      (t) => call("GetBorrowedLicenseV1", { borrowId: listed.borrowId }, t));
    if (borrowed) {
      saveFile(borrowed.fileName, borrowed.license);
      showOutcome(box, "good", ...handedOver(borrowed));
    }
    byId("token-line").hidden = token.get() === "";
  } catch (e) {
    showError(box, e);
    await refresh();
  }
}

startForm({ choose, borrow, changed: drawLicenses });
byId("filter").addEventListener("input", drawBorrows);
byId("forget").addEventListener("click", () => {
  token.forget();
  byId("token-line").hidden = true;
  byId("submit").focus();
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible")
    refresh();
});
refresh();
