// The list of licenses: seats, and the timeline of what is borrowed.

import { make, replaceKeepingFocus } from "./dom.js";
import { assignLanes, invalidity, licenseKey, seatsOf } from "./rules.js";
import { DAY, formatDate, formatDay, formatDuration, formatSoon, parseTime, plural, startOfDay }
  from "./times.js";

const SEATS_DRAWN = 40; // above, the bar is proportional
const LANES_SHOWN = 6;
const CARDS = 50; // cards shown at once; more on request

const opened = new Set(); // timelines that are shown whole
let cards = CARDS;

// ---- seats ----

function seatBar(seats) {
  const parts = [["used", seats.inUse], ["lent", seats.borrowed], ["free", seats.free]];
  const bar = make("div", { class: "seats", "aria-hidden": "true" });
  for (const [kind, n] of parts) {
    if (seats.count <= SEATS_DRAWN) {
      for (let i = 0; i < n; i++)
        bar.append(make("span", { class: `seat ${kind}` }));
    } else if (n > 0) {
      const part = make("span", { class: `seat share ${kind}` });
      part.style.flexGrow = String(n);
      bar.append(part);
    }
  }
  return bar;
}

function seatText(seats) {
  return make("p", {}, make("strong", { class: seats.free ? "" : "none" }, `${seats.free} free`),
    ` of ${seats.count} · ${seats.inUse} in use · ${seats.borrowed} borrowed`);
}

// ---- timeline ----

function place(node, from, until, range) {
  const share = (t) => Math.min(1, Math.max(0, (t - range.from) / (range.until - range.from)));
  node.style.left = `${(share(from) * 100).toFixed(3)}%`;
  node.style.width = `${((share(until) - share(from)) * 100).toFixed(3)}%`;
  return node;
}

function axis(range, now) {
  const dense = (range.until - range.from) / range.step > 4.5 * DAY;
  const scale = make("div", { class: dense ? "axis dense" : "axis", "aria-hidden": "true" });
  for (let days = 0; startOfDay(range.from, days) < range.until; days += range.step) {
    const at = startOfDay(range.from, days);
    const mark = make("span", { class: "tick" }, days === 0 ? "today" : formatDay(at));
    scale.append(place(mark, at, at, range));
  }
  scale.append(place(make("span", { class: "now" }), now, now, range));
  return scale;
}

function bar(period, range) {
  const text = `${period.hostId}, ${formatSoon(period.from)} to ${formatSoon(period.until)}`;
  const node = make("li", { class: "bar", title: text },
    make("span", { class: "sr-only" }, text),
    make("span", { class: "bar-label", "aria-hidden": "true" }, period.hostId));
  node.style.top = `calc(${period.lane} * var(--lane))`;
  return place(node, period.from, period.until, range);
}

function preview(period, range) {
  const node = make("div", { class: "bar preview", "aria-hidden": "true" },
    make("span", { class: "bar-label" }, "yours"));
  return place(node, period.from, period.until, range);
}

// wished: the period in the form, when it is for this license and possible.
function timeline(license, state, wished, rerender) {
  const key = licenseKey(license);
  const periods = (license.borrowedIntervals ?? []).map((b) =>
    ({ hostId: b.hostId, from: parseTime(b.validFrom), until: parseTime(b.validUntil) }));
  if (!periods.length && !wished)
    return make("p", { class: "quiet small" }, "Nothing is borrowed.");
  const { lanes, placed } = assignLanes(periods);
  const all = opened.has(key);
  const shown = all ? lanes : Math.min(lanes, LANES_SHOWN);
  const list = make("ul", { class: "bars", "aria-label": "Borrowed periods" },
    ...placed.filter((p) => p.lane < shown).map((p) => bar(p, state.range)));
  list.style.height = `calc(${shown} * var(--lane))`;
  const box = make("div", { class: "timeline" }, axis(state.range, state.now), list,
    wished && make("div", { class: "bars" }, preview(wished, state.range)));
  if (lanes <= LANES_SHOWN)
    return box;
  const more = make("button", { type: "button", class: "link small", "data-key": `more ${key}`,
    "aria-expanded": String(all),
    onclick: () => { all ? opened.delete(key) : opened.add(key); rerender(); } },
  all ? "Show fewer" : `Show all ${periods.length} borrowed periods`);
  return make("div", {}, box, more);
}

// ---- cards ----

function title(license) {
  return make("h3", {}, make("bdi", {}, license.feature),
    make("span", { class: "version" }, ` ${license.version} ${license.edition}`));
}

function details(license, now) {
  const until = parseTime(license.validUntil);
  const soon = until > now && until - now < 14 * DAY;
  const left = soon ? ` (${formatDuration(until - now)} left)` : "";
  return make("p", { class: "quiet small details" },
    license.modules ? `modules ${license.modules}` : "no modules",
    until === undefined ? " · valid without end" : ` · valid until ${formatDate(until)}${left}`,
    " · ", make("code", {}, license.uuid));
}

function card(license, state, actions) {
  const key = licenseKey(license);
  const chosen = key === state.chosen;
  const bad = invalidity(license, state.now);
  const word = chosen ? "Chosen" : "Borrow";
  const choose = make("button", { type: "button", "data-key": `choose ${key}`,
    class: chosen ? "choose chosen" : "choose",
    "aria-label": `${word} ${license.feature} ${license.version} ${license.edition}`,
    onclick: () => actions.choose(key) }, word);
  const seats = seatsOf(license, state.now);
  // Nothing of it is available then, which says nothing about who uses it.
  const shown = bad ? [make("p", {}, `${plural(seats.count, "seat")}, of no use: ${bad}.`)]
    : [seatBar(seats), seatText(seats)];
  return make("li", { class: chosen ? "panel card chosen" : "panel card" },
    make("div", { class: "card-head" }, title(license),
      bad && make("span", { class: "badge" }, bad), bad !== "expired" && state.lends && choose),
    details(license, state.now), ...shown,
    timeline(license, state, chosen && state.wished, actions.rerender));
}

// The days that all timelines show, so that they can be compared: whole weeks, two at least, up to
// the last end of a period.
export function timelineRange(now, licenses, wished) {
  const periods = licenses.flatMap((l) => l.borrowedIntervals ?? []);
  const ends = periods.map((b) => parseTime(b.validUntil));
  const last = Math.max(now, wished?.until ?? 0, ...ends);
  const from = startOfDay(now);
  const weeks = Math.max(2, Math.ceil((last - from) / DAY / 7));
  return { from, until: startOfDay(from, 7 * weeks), step: weeks > 2 ? 7 : 2 };
}

// state: {licenses, now, range, chosen, wished, lends}; actions: {choose(key), rerender()}.
export function renderLicenses(parent, state, actions) {
  parent.setAttribute("aria-busy", "false");
  if (!state.licenses.length)
    return parent.replaceChildren(make("p", { class: "panel quiet" },
      "The server has no licenses. Its administrator puts license files into its search paths."));
  const shown = state.licenses.filter((l, i) => i < cards || licenseKey(l) === state.chosen);
  const hidden = state.licenses.length - shown.length;
  const more = hidden > 0 && make("button", { type: "button", class: "more",
    "data-key": "more cards", onclick: () => { cards += CARDS; actions.rerender(); } },
  `Show more (${hidden} are hidden)`);
  replaceKeepingFocus(parent,
    make("ul", { class: "cards" }, ...shown.map((l) => card(l, state, actions))), more || "");
}
