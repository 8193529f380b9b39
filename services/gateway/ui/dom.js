// Making elements. Text only ever becomes text nodes, so that markup in a name stays text; the
// Content-Security-Policy forbids everything else anyway.

// make("button", {class: "primary", type: "button", onclick: f}, "Borrow"): properties that begin
// with "on" are handlers, true and false set and leave out an attribute, the rest are attributes.
// Children that are null or false are left out.
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on"))
      node.addEventListener(name.slice(2), value);
    else if (value === true)
      node.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null)
      node.setAttribute(name, String(value));
  }
  node.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

export function setText(node, text) {
  if (node.textContent !== text)
    node.textContent = text;
}

// Replaces the children of parent. Who had the focus in there has it again, found by data-key.
export function replaceKeepingFocus(parent, ...children) {
  const active = document.activeElement;
  const key = parent.contains(active) ? active.dataset.key : undefined;
  parent.replaceChildren(...children);
  if (key !== undefined)
    [...parent.querySelectorAll("[data-key]")].find((n) => n.dataset.key === key)?.focus();
}

// Hands the text over as a file, without asking the server again.
export function saveFile(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  const link = make("a", { href: url, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
