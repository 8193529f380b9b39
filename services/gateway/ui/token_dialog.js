// Asks for the token for borrowing, once for each tab, and again when the server refuses it.

import { token } from "./api.js";
import { byId, setText } from "./dom.js";

const dialog = byId("token-dialog"), input = byId("token"), note = byId("token-note");

function fault(text) {
  if (text === "")
    return "Type or paste the token.";
  return /^[\x21-\x7e]{1,1024}$/.test(text) ? ""
    : "A token is one line of printable ASCII characters, without blanks.";
}

function show(problem) {
  setText(note, problem);
  input.setAttribute("aria-invalid", String(problem !== ""));
  input.focus();
  input.select();
}

// The token that was typed, or null if the person thought better of it.
function ask(problem) {
  return new Promise((resolve) => {
    let answer = null;
    const over = new AbortController(), options = { signal: over.signal };
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = input.value.trim(), wrong = fault(text);
      if (wrong)
        return show(wrong);
      answer = text;
      dialog.close();
    }, options);
    byId("token-cancel").addEventListener("click", () => dialog.close(), options);
    dialog.addEventListener("close", () => {
      over.abort();
      input.value = "";
      resolve(answer);
    }, options);
    dialog.showModal();
    show(problem);
  });
}

// Does work(token), asking for the token where it is needed. Null: the person cancelled.
export async function withToken(needed, work) {
  let value = needed ? token.get() || await ask("") : token.get();
  while (value !== null) {
    try {
      const result = await work(value);
      token.set(value);
      return result;
    } catch (e) {
      if (e.code !== 1009) {
        // Refused for another reason: so the token itself was good.
        if (e.kind === "rpc" && e.code !== 1010)
          token.set(value);
        throw e;
      }
    }
    token.forget();
    value = await ask("The server did not accept this token.");
  }
  return null;
}
