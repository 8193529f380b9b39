// What an error of the server means for the person in front of the page: one row for each code.
// explain() is pure. {title, text, field}: field names the part of the form that is meant.

import { formatSoon, formatTimeZoned, parseTime } from "./times.js";

const NOT_LICENSED = {
  "dongle-absent": "its dongle is not plugged in",
  "dongle-busy": "another program holds its dongle",
  "dongle-no-permission": "it may not open its dongle",
  "dongle-unsupported": "its dongle is of an unknown kind",
  "certificate": "its server license is not acceptable",
  "proof-failed": "its dongle could not prove itself",
  "grace-over": "the vendor's backend has not been reached for too long",
  "revoked": "the vendor has revoked its license",
  "expired": "its server license has expired",
  "in-use-elsewhere": "its license is in use on another server",
  "ledger-rollback": "its record of borrows is older than the vendor knows",
  "clock": "its clock is not to be trusted",
};

const PERIOD = {
  "from-past": ["from", "The beginning is in the past."],
  "period-empty": ["until", "It must end after it begins."],
  "period-too-long": ["until", "The period is too long."],
  "too-far-ahead": ["until", "The end is too far ahead."],
  "license-not-yet-valid": ["from", "The license is not valid yet when this period begins."],
  "license-expires": ["until", "The license expires before this period ends."],
  "server-license-not-yet-valid": ["from", "The server's own license is not valid yet then."],
  "server-license-expires": ["until", "The server's own license expires before this period ends."],
};

const FIELDS = { hostId: "host", validFrom: "from", validUntil: "until", uuid: "license",
  feature: "license" };

// A limit is a time, mostly; else it stands for itself.
function limitText(limit) {
  const at = /^\d{4}-\d\d-\d\dT/.test(limit ?? "") ? parseTime(limit) : NaN;
  if (Number.isFinite(at))
    return ` The limit is ${formatTimeZoned(at)}.`;
  return limit ? ` The limit is ${limit}.` : "";
}

const RPC = {
  1004: (e) => ({
    title: "The server is not licensed at the moment",
    text: `Nothing can be borrowed until this is settled: ${NOT_LICENSED[e.data.reason] ??
      e.data.reason ?? e.message}. Tell its administrator.`,
  }),
  1005: () => ({
    title: "This server does not lend licenses",
    text: "Its server license does not include borrowing. The software vendor can add it.",
  }),
  1006: (e) => {
    const [field, text] = PERIOD[e.data.reason] ?? [undefined, e.message];
    return { title: "This period is not possible", text: text + limitText(e.data.limit), field };
  },
  1007: (e) => {
    const from = parseTime(e.data.from), until = parseTime(e.data.until);
    const when = Number.isFinite(from) && Number.isFinite(until) ?
      `From ${formatSoon(from)} to ${formatSoon(until)} every seat is borrowed.`
      : "Every seat is borrowed at some time of this period.";
    return { title: "No seat is left to borrow", field: "until",
      text: `${when} Choose another period or another license.` };
  },
  1008: () => ({
    title: "Not found",
    text: "The server has no such license or borrow any more. The lists were read again.",
  }),
  1009: () => ({
    title: "The token was not accepted",
    text: "Ask the server's administrator for the token for borrowing.",
    field: "token",
  }),
  1010: (e) => ({
    title: "Too many requests",
    text: `The server takes no more from this computer for now. Try again in ${
      e.data.retryAfter ?? 1} s.`,
  }),
  1011: (e) => ({
    title: "A part of the server does not answer",
    text: (e.data.service === "cloud"
      ? "To lend, the server must reach the vendor's backend, and does not. Try again later; "
      : `The service “${e.data.service ?? "?"}” is away. Try again in a few seconds; `) +
      "asking for the same again never takes a second seat.",
  }),
  [-32602]: (e) => ({
    title: "The server does not accept an entry",
    text: `${e.data.field ?? "An entry"}: ${e.data.reason ?? e.message}.`,
    field: FIELDS[e.data.field],
  }),
};

export function explain(e) {
  if (e.kind === "rpc")
    return RPC[e.code]?.(e) ?? { title: "The server refused", text: `${e.message} (${e.code})` };
  if (e.kind === "http" && e.status === 403)
    return { title: "This address is not the server's own",
      text: "The page was opened under a name that is not in the server's TLS certificate. " +
        "Open it by the name of the certificate, or ask the administrator to allow this one " +
        "(serve.licenses.allowed_origins)." };
  if (e.kind === "http")
    return { title: "The server refused", text: `HTTP ${e.status}: ${e.message.trim()}` };
  if (e.kind === "network")
    return { title: "The server cannot be reached",
      text: `Check the network, then try again (${e.message}).` };
  return { title: "The page failed", text: String(e?.message ?? e) };
}
