// The table of borrows, each with its file to download again.

import { make, replaceKeepingFocus } from "./dom.js";
import { licenseKey } from "./rules.js";
import { formatAbout, formatSoon, parseTime } from "./times.js";

const ROWS = 50; // rows shown at once; more on request
const FILTER_FROM = 8; // from so many borrows on there is a filter

let rows = ROWS;

function cell(label, ...content) {
  return make("td", { role: "cell", "data-label": label }, make("div", {}, ...content));
}

function status(borrow, now) {
  const from = parseTime(borrow.validFrom), until = parseTime(borrow.validUntil);
  if (now < from)
    return make("span", { class: "state later" }, `begins in ${formatAbout(from - now)}`);
  if (now < until)
    return make("span", { class: "state running" }, `${formatAbout(until - now)} left`);
  return make("span", { class: "state over" }, "over");
}

const time = (iso) => make("time", { datetime: iso }, formatSoon(parseTime(iso)));

function row(borrow, state, actions) {
  const license = state.licenses.find((l) => licenseKey(l) === licenseKey(borrow));
  const version = license ? `${license.version} ${license.edition}` : "no longer on the server";
  return make("tr", { role: "row" },
    cell("License", make("bdi", {}, borrow.feature), " ",
      make("span", { class: "version" }, version)),
    cell("Host ID", make("code", {}, borrow.hostId)),
    cell("Period", time(borrow.validFrom), " – ", time(borrow.validUntil)),
    cell("State", status(borrow, state.now)),
    cell("File", make("button", { type: "button", "data-key": `get ${borrow.borrowId}`,
      "aria-label": `Download ${borrow.fileName} again`, title: borrow.fileName,
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
  // The roles stay when a narrow screen lays the rows out as cards.
  const heads = ["License", "Host ID", "Period", "State", "File"].map((h) =>
    make("th", { scope: "col", role: "columnheader" }, h));
  const table = make("table", { role: "table" },
    make("caption", { class: "sr-only" }, "Borrowed licenses"),
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)),
    make("tbody", { role: "rowgroup" },
      ...found.slice(0, rows).map((b) => row(b, state, actions))));
  const more = found.length > rows && make("button", { type: "button", class: "more",
    "data-key": "more rows", onclick: () => { rows += ROWS; actions.rerender(); } },
  `Show more (${found.length - rows} are hidden)`);
  replaceKeepingFocus(parent, make("div", { class: "panel table" }, table), more || "");
}
