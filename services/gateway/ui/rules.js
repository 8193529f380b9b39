// What may be borrowed, as the server decides it (services/borrow/core/rules.c): so that the page
// can say so before it asks. The server decides again; this is help, not protection. All pure.

import { formatDuration, formatSoon, formatTimeZoned, parseTime } from "./times.js";

const PAST_MS = 5 * 60_000; // a beginning this far back is taken as now

// ---- host IDs ----

const HOST_BAD = "A dongle ID has 1 to 64 of the characters A–Z a–z 0–9 . _ -";

function checkMac(digits) {
  const stored = digits.toLowerCase().match(/../g).join(":");
  if (/^0+$/.test(digits))
    return { kind: "bad", message: "A MAC address of zeros names no computer." };
  if (parseInt(stored.slice(0, 2), 16) & 1)
    return { kind: "bad", message: "A broadcast or multicast address names no computer." };
  return { kind: "mac", stored, message: `MAC address ${stored}` };
}

// {kind: "empty" | "mac" | "dongle" | "bad", stored, message}
export function checkHostId(text) {
  if (text === "")
    return { kind: "empty", message: "" };
  const mac = /^(?:[0-9a-f]{12}|[0-9a-f]{2}(?::[0-9a-f]{2}){5}|[0-9a-f]{2}(?:-[0-9a-f]{2}){5})$/i;
  if (mac.test(text))
    return checkMac(text.replace(/[:-]/g, ""));
  if (/^[0-9a-f:]*$/i.test(text) && text.includes(":")) {
    const n = text.replace(/:/g, "").length;
    const message = n === 12 ? "A MAC address is written in pairs, like 00:1a:2b:3c:4d:5e."
      : `A MAC address has 12 digits (0–9, a–f); so far ${n}.`;
    return { kind: "bad", message };
  }
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(text)) {
    const strange = [...text].find((c) => !/[A-Za-z0-9._-]/.test(c));
    const why = strange === undefined ? `this has ${text.length}` :
      strange.trim() === "" ? "there is a blank in it" : `“${strange}” is none of them`;
    return { kind: "bad", message: `${HOST_BAD}; ${why}.` };
  }
  return { kind: "dongle", stored: text, message: `Dongle ID ${text}` };
}

// A dongle ID may look like a MAC address that is not finished, or written in another way: worth a
// word, no error. "" if it does not.
export function macDoubt(text) {
  if (/^[0-9a-f]{2}(-[0-9a-f]{0,2}){1,5}$/i.test(text) || /^[0-9a-f]{8,11}$/i.test(text))
    return "A MAC address would have 12 digits.";
  return /^[0-9a-f]{4}(\.[0-9a-f]{4}){2}$/i.test(text)
    ? "A MAC address would be written in pairs, like 00:1a:2b:3c:4d:5e." : "";
}

// ---- licenses ----

export function licenseKey(license) {
  return `${license.uuid} ${license.feature}`;
}

// Seats at an instant. What is not available and not borrowed is in use.
export function seatsOf(license, now) {
  const borrowed = (license.borrowedIntervals ?? [])
    .filter((b) => parseTime(b.validFrom) <= now && now < parseTime(b.validUntil)).length;
  const free = Math.max(0, Math.min(license.available, license.count));
  const inUse = Math.max(0, license.count - free - borrowed);
  return { count: license.count, free, borrowed: Math.min(borrowed, license.count - free), inUse };
}

// "" when it is valid at now, else why not.
export function invalidity(license, now) {
  const from = parseTime(license.validFrom), until = parseTime(license.validUntil);
  if (until !== undefined && now >= until)
    return "expired";
  return from !== undefined && now < from ? "not yet valid" : "";
}

// ---- periods ----

// The latest end that the rules allow for a period that begins at `from`.
export function latestEnd(from, limits, license, now) {
  const ends = [from + limits.maxPeriod, now + limits.maxAhead];
  const until = parseTime(license?.validUntil);
  return Math.min(...(until === undefined ? ends : [...ends, until]));
}

// null, or {field: "from" | "until", reason, message}: the first rule that is broken, in the order
// and with the reasons of the server. from null: now.
export function checkPeriod(period, limits, license, now) {
  const { until } = period;
  const refuse = (field, reason, message) => ({ field, reason, message });
  if (period.from !== null && !Number.isFinite(period.from))
    return refuse("from", "not-given", "Say when it begins.");
  if (!Number.isFinite(until))
    return refuse("until", "not-given", "Say when it ends.");
  if (period.from !== null && period.from < now - PAST_MS)
    return refuse("from", "from-past", "This is in the past.");
  const from = Math.max(period.from ?? now, now);
  if (until <= from)
    return refuse("until", "period-empty", until <= now ? "This is in the past."
      : "It must end after it begins.");
  if (until > now + limits.maxAhead)
    return refuse("until", "too-far-ahead", "Too far ahead: it must end by " +
      `${formatSoon(now + limits.maxAhead)}, ${formatDuration(limits.maxAhead)} from now.`);
  if (until > from + limits.maxPeriod)
    return refuse("until", "period-too-long", "Too long: at most " +
      `${formatDuration(limits.maxPeriod)}, so until ${formatSoon(from + limits.maxPeriod)}.`);
  const first = parseTime(license?.validFrom), last = parseTime(license?.validUntil);
  if (first !== undefined && from < first)
    return refuse("from", "license-not-yet-valid",
      `This license is valid from ${formatTimeZoned(first)}.`);
  if (last !== undefined && until > last)
    return refuse("until", "license-expires",
      `This license is valid until ${formatTimeZoned(last)}.`);
  return null;
}

// The first time within [from, until) at which every seat is borrowed: {from, until}, or null.
export function firstFull(license, from, until) {
  const steps = [];
  for (const b of license.borrowedIntervals ?? []) {
    const begin = Math.max(parseTime(b.validFrom), from);
    const end = Math.min(parseTime(b.validUntil), until);
    if (begin < end)
      steps.push([begin, 1], [end, -1]);
  }
  steps.sort((a, b) => a[0] - b[0]);
  let taken = 0, full = null;
  for (let i = 0; i < steps.length; i++) {
    const [at, change] = steps[i];
    taken += change;
    if (steps[i + 1]?.[0] === at)
      continue; // half open: one may end and the next begin at one instant
    if (full === null && taken >= license.count)
      full = at;
    else if (full !== null && taken < license.count)
      return { from: full, until: at };
  }
  return null;
}

// The borrow of this license by this computer that overlaps the period and is not the same one
// (which would only be answered again); or undefined.
export function heldBy(license, hostId, { from, until }) {
  return (license.borrowedIntervals ?? []).find((b) => b.hostId === hostId &&
    parseTime(b.validFrom) < until && from < parseTime(b.validUntil) &&
    parseTime(b.validUntil) !== until);
}

// Periods side by side: each gets the first lane that is free. {lanes, placed: [{…, lane}]}
export function assignLanes(periods) {
  const ends = [];
  const placed = [...periods].sort((a, b) => a.from - b.from || a.until - b.until).map((p) => {
    let lane = ends.findIndex((end) => end <= p.from);
    if (lane < 0)
      lane = ends.length;
    ends[lane] = p.until;
    return { ...p, lane };
  });
  return { lanes: ends.length, placed };
}
