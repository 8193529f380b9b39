// Times as people read them. Inside, a time is a number: milliseconds since 1970. The server speaks
// UTC; everything shown is in the browser's zone, which is named wherever a mistake could hurt.

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const LANGUAGE = "en-GB";

export function parseTime(iso) {
  return iso === undefined ? undefined : Date.parse(iso);
}

export function isoTime(ms) {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

// The value of an <input type="datetime-local">, and back (NaN: not a time).
export function toLocalInput(ms, withSeconds = false) {
  const d = new Date(ms);
  const two = (n) => String(n).padStart(2, "0");
  const year = String(d.getFullYear()).padStart(4, "0");
  const date = `${year}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  const seconds = withSeconds ? `:${two(d.getSeconds())}` : "";
  return `${date}T${two(d.getHours())}:${two(d.getMinutes())}${seconds}`;
}

export function fromLocalInput(text) {
  return /^\d{4,6}-\d\d-\d\dT\d\d:\d\d/.test(text) ? new Date(text).getTime() : NaN;
}

export function floorMinute(ms) {
  return Math.floor(ms / MINUTE) * MINUTE;
}

// "Europe/Berlin"
export function zoneName() {
  return new Intl.DateTimeFormat(LANGUAGE).resolvedOptions().timeZone;
}

// "CET", "GMT+9": the name that this instant's offset has, so that both sides of a clock change
// differ.
export function zoneAt(ms) {
  const parts = new Intl.DateTimeFormat(LANGUAGE, { timeZoneName: "short" }).formatToParts(ms);
  return parts.find((p) => p.type === "timeZoneName").value;
}

const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const DAY_TIME = { weekday: "short", day: "numeric", month: "short", ...CLOCK };

// "Tue, 1 Dec 2026, 14:00"
export function formatTime(ms) {
  return new Intl.DateTimeFormat(LANGUAGE, { ...DAY_TIME, year: "numeric" }).format(ms);
}

export function formatTimeZoned(ms) {
  return `${formatTime(ms)} ${zoneAt(ms)}`;
}

// "Tue, 1 Dec, 14:00 CET": for times within the weeks of a borrow, which need no year.
export function formatSoon(ms) {
  return `${new Intl.DateTimeFormat(LANGUAGE, DAY_TIME).format(ms)} ${zoneAt(ms)}`;
}

// "1 Dec"
export function formatDay(ms) {
  return new Intl.DateTimeFormat(LANGUAGE, { day: "numeric", month: "short" }).format(ms);
}

// "1 Dec 2026"
export function formatDate(ms) {
  return new Intl.DateTimeFormat(LANGUAGE, { day: "numeric", month: "short", year: "numeric" })
    .format(ms);
}

export function plural(n, word) {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}

const UNITS = [["day", DAY], ["hour", HOUR], ["minute", MINUTE]];

// "7 days", "2 days 3 hours", "90 seconds": rounded down, the greatest units (two, if not told).
export function formatDuration(ms, units = 2) {
  if (ms < 2 * MINUTE)
    return plural(Math.floor(ms / 1000), "second");
  const words = [];
  let rest = ms;
  for (const [name, size] of UNITS) {
    const n = Math.floor(rest / size);
    rest -= n * size;
    if (n > 0)
      words.push(plural(n, name));
    else if (words.length > 0)
      break;
  }
  return words.slice(0, units).join(" ");
}

// As precise as somebody wants to know who looks how long something still lasts.
export function formatAbout(ms) {
  return formatDuration(ms, ms >= DAY && ms < 3 * DAY ? 2 : 1);
}

// The start of the day of the browser's zone that is `days` after the day of ms.
export function startOfDay(ms, days = 0) {
  const d = new Date(ms);
  return new Date(d.getFullYear(), d.getMonth(), d.getDate() + days).getTime();
}
