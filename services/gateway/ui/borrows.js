// The table of borrows, each with its file to download again.

import { make, replaceKeepingFocus } from "./dom.js";
import { formatDuration, formatTime, parseTime, zoneAt } from "./times.js";

const ROWS = 50; // rows shown at once; more on request
const FILTER_FROM = 8; // from so many borrows on there is a filter

let rows = ROWS;

function cell(label, ...content) {
  return make("td", { "data-label": label }, make("div", {}, ...content));
}

function status(borrow, now) {
  const from = parseTime(borrow.validFrom), until = parseTime(borrow.validUntil);
  if (now < from)
    return make("span", { class: "state later" }, `begins in ${formatDuration(from - now)}`);
  if (now < until)
    return make("span", { class: "state running" }, `${formatDuration(until - now)} left`);
  return make("span", { class: "state over" }, "over");
}

function time(iso) {
  const ms = parseTime(iso);
  return make("time", { datetime: iso }, `${formatTime(ms)} ${zoneAt(ms)}`);
}

function row(borrow, state, actions) {
  const license = state.licenses.find((l) => l.uuid === borrow.uuid && l.feature === borrow.feature);
  const version = license ? ` ${license.version} ${license.edition}` : "";
  return make("tr", {},
    cell("License", make("bdi", {}, borrow.feature), make("span", { class: "version" }, version)),
    cell("Host ID", make("code", {}, borrow.hostId)),
    cell("Begins", time(borrow.validFrom)),
    cell("Ends", time(borrow.validUntil)),
    cell("State", status(borrow, state.now)),
    cell("File", make("button", { type: "button", "data-key": `get ${borrow.borrowId}`,
      "aria-label": `Download ${borrow.fileName} again`,
      onclick: () => actions.download(borrow) }, "Download")));
}

function matches(borrow, words) {
  const text = `${borrow.feature} ${borrow.hostId} ${borrow.borrowId} ${borrow.uuid}`.toLowerCase();
  return words.every((w) => text.includes(w));
}

// state: {borrows, licenses, now, filter}; actions: {download(borrow), rerender()}.
export function renderBorrows(parent, filterField, state, actions) {
  parent.setAttribute("aria-busy", "false");
  filterField.hidden = state.borrows.length < FILTER_FROM;
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const found = state.borrows.filter((b) => matches(b, words))
    .sort((a, b) => parseTime(a.validUntil) - parseTime(b.validUntil));
  if (!found.length)
    return parent.replaceChildren(make("p", { class: "panel quiet" },
      state.borrows.length ? "None of the borrows contains this." : "Nothing is borrowed."));
  const head = ["License", "Host ID", "Begins", "Ends", "State", "File"];
  const table = make("table", {},
    make("caption", { class: "sr-only" }, "Borrowed licenses"),
    make("thead", {}, make("tr", {}, ...head.map((h) => make("th", { scope: "col" }, h)))),
    make("tbody", {}, ...found.slice(0, rows).map((b) => row(b, state, actions))));
  const more = found.length > rows && make("button", { type: "button", "data-key": "more rows",
    onclick: () => { rows += ROWS; actions.rerender(); } },
  `Show more (${found.length - rows} are hidden)`);
  replaceKeepingFocus(parent, make("div", { class: "panel table" }, table), more || "");
}
