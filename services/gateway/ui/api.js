// The server's JSON-RPC, and the token that it wants for borrowing.

const TIMEOUT_MS = 15_000;
const TOKEN_KEY = "berth.borrow.token";

// What went wrong: kind "rpc" (code, message, data), "http" (status, message) or "network".
export class ApiError extends Error {
  constructor(kind, message, more = {}) {
    super(message);
    Object.assign(this, { kind, data: {} }, more);
  }
}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, { ...options, cache: "no-store", redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS) });
    // 401 and 429 carry a JSON-RPC error, as 200 may.
    if (answer.ok || answer.status === 401 || answer.status === 429)
      return await answer.json();
  } catch (e) {
    throw new ApiError("network", e.name === "TimeoutError" ? "no answer in time" : e.message);
  }
  const text = await answer.text().catch(() => "");
  throw new ApiError("http", text.slice(0, 500), { status: answer.status });
}

function post(body, token) {
  const headers = { "Content-Type": "application/json" };
  if (token)
    headers.Authorization = `Bearer ${token}`;
  return request("/licenses", { method: "POST", headers, body: JSON.stringify(body) });
}

function resultOf(answer) {
  if (answer?.error)
    throw new ApiError("rpc", answer.error.message,
      { code: answer.error.code, data: answer.error.data ?? {} });
  return answer?.result;
}

const envelope = (method, params, id) => ({ jsonrpc: "2.0", id, method, params });

export async function call(method, params, token) {
  return resultOf(await post(envelope(method, params, 1), token));
}

// One request for several methods without parameters: an array of {result} or {error}.
export async function callAll(methods) {
  const answers = await post(methods.map((m, i) => envelope(m, {}, i)));
  if (!Array.isArray(answers))
    return methods.map(() => resultOf(answers)); // throws: the batch as a whole was refused
  return methods.map((_, i) => {
    try {
      return { result: resultOf(answers.find((a) => a.id === i)) };
    } catch (error) {
      return { error };
    }
  });
}

export function get(path) {
  return request(path, { method: "GET" });
}

// The token lives as long as the tab: not in localStorage, not in a cookie, never in a URL. Where
// sessionStorage is closed to us, it lives as long as the page.
let remembered = "";

export const token = {
  get() {
    try {
      return sessionStorage.getItem(TOKEN_KEY) ?? remembered;
    } catch {
      return remembered;
    }
  },
  set(value) {
    remembered = value;
    try {
      sessionStorage.setItem(TOKEN_KEY, value);
    } catch { /* remembered is enough */ }
  },
  forget() {
    remembered = "";
    try {
      sessionStorage.removeItem(TOKEN_KEY);
    } catch { /* there was none */ }
  },
};
