// Live updates and dialogs. Everything works without this file by following links and sending forms.
//
// The server's news (/api/v1/events) name what changed and never say what it is now: elements that show it
// (data-live) are asked for again (data-src) as the same HTML that a page load gives.

const RELOAD_EVERY_MS = 500;

// ---- times: the reader's clock and zone, and how long ago
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });
const STEPS = [[60, "second"], [60, "minute"], [24, "hour"], [30, "day"], [12, "month"], [Infinity, "year"]];

function ago(then) {
  let amount = (then - Date.now()) / 1000;
  for (const [size, unit] of STEPS) {
    if (Math.abs(amount) < size) return relative.format(Math.round(amount), unit);
    amount /= size;
  }
  return "";
}

function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const then = new Date(time.dateTime);
    if (Number.isNaN(then.getTime())) continue;
    time.title = then.toLocaleString();
    time.textContent = ago(then.getTime());
  }
}

// ---- fragments
const waiting = new Map();

function parse(html) {
  return new DOMParser().parseFromString(html, "text/html");
}

async function refresh(element) {
  const url = new URL(element.dataset.part ? location.href : element.dataset.src, location.href);
  const response = await fetch(url, { headers: { "X-Fragment": "1" }, credentials: "same-origin" });
  if (response.redirected && new URL(response.url).pathname === "/login") return location.reload();
  if (response.status === 404) return element.remove();
  if (!response.ok || !element.isConnected) return;
  const html = await response.text();
  if (element.dataset.part) {
    const fresh = parse(html).querySelector(element.dataset.part);
    const old = element.querySelector(element.dataset.part);
    if (fresh && old) swap(old, fresh);
    return;
  }
  const isRow = element.tagName === "TR";
  const fresh = parse(isRow ? `<table><tbody>${html}</tbody></table>` : html).querySelector("[data-live]");
  if (fresh) swap(element, fresh);
}

// Keeps the focus where it was, opened details open and ticks ticked.
function swap(old, fresh) {
  const focus = old.contains(document.activeElement) ? pathOf(document.activeElement, old) : null;
  const open = [...old.querySelectorAll("details")].map((d) => d.open);
  const next = document.importNode(fresh, true);
  old.replaceWith(next);
  showTimes(next);
  const details = next.querySelectorAll("details");
  for (const box of old.querySelectorAll("input[type=checkbox]:checked")) {
    const again = next.querySelector(`input[type=checkbox][value="${CSS.escape(box.value)}"]`);
    if (again) again.checked = true;
  }
  if (details.length === open.length) details.forEach((d, i) => { d.open = open[i]; });
  if (focus) focus.reduce((node, index) => node?.children[index], next)?.focus?.({ preventScroll: true });
}

function pathOf(node, root) {
  const path = [];
  for (let n = node; n !== root; n = n.parentElement) path.unshift([...n.parentElement.children].indexOf(n));
  return path;
}

function later(element) {
  const key = element.id || element.dataset.src + (element.dataset.part ?? "");
  const entry = waiting.get(key);
  if (entry) { entry.again = true; return; }
  waiting.set(key, { again: false });
  const run = async () => {
    const current = element.isConnected ? element : document.getElementById(element.id);
    if (current) await refresh(current).catch(() => {});
    setTimeout(() => {
      const again = waiting.get(key)?.again;
      waiting.delete(key);
      const now = element.isConnected ? element : document.getElementById(element.id);
      if (again && now) later(now);
    }, RELOAD_EVERY_MS);
  };
  run();
}

function concerns(element, kind, id) {
  return element.dataset.live.split(" ").some((word) => word === kind || word === `${kind}:${id}`);
}

// A part that is replaced as a whole takes the smaller ones in it along, unless only one of those changed.
function news(kind, id) {
  const hit = [...document.querySelectorAll("[data-live]")].filter((e) => concerns(e, kind, id));
  const known = hit.some((e) => e.dataset.live.includes(`${kind}:${id}`));
  for (const element of hit) {
    const whole = element.dataset.live.split(" ").includes(kind);
    if (whole && known && element.querySelector(`[data-live~="${kind}:${CSS.escape(id ?? "")}"]`)) {
      // The card inside shows progress by itself; the list changes when a task ends or begins.
      continue;
    }
    later(element);
  }
}

function listen() {
  if (!document.querySelector("[data-live]")) return;
  const pulse = document.getElementById("pulse");
  const source = new EventSource("/api/v1/events");
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.kind === "lagged") return document.querySelectorAll("[data-live]").forEach(later);
    news(event.kind, event.id);
  };
  let lost = false;
  source.onopen = () => {
    if (pulse) pulse.hidden = true;
    if (lost) document.querySelectorAll("[data-live]").forEach(later);
    lost = false;
  };
  source.onerror = () => {
    lost = true;
    if (pulse) { pulse.textContent = "No connection to the server; trying again."; pulse.hidden = false; }
  };
}

// ---- dialogs: links marked data-sheet open in place, with the forms behind them
const sheet = document.getElementById("sheet");

function fill(page) {
  const content = page.querySelector(".sheet");
  if (!content) return false;
  sheet.replaceChildren(document.importNode(content, true));
  showTimes(sheet);
  if (!sheet.open) sheet.showModal();
  (sheet.querySelector("[autofocus], select, input:not([type=hidden]), button") ?? sheet).focus();
  return true;
}

async function load(url, options) {
  const response = await fetch(url, { credentials: "same-origin", ...options });
  if (response.redirected) { location.assign(response.url); return; }
  if (!fill(parse(await response.text()))) location.assign(url);
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const link = event.target.closest?.("a");
  if (!link) return;
  if (link.matches("[data-close]") && sheet.contains(link)) { event.preventDefault(); sheet.close(); return; }
  if (!link.matches("[data-sheet]")) return;
  event.preventDefault();
  load(link.href).catch(() => location.assign(link.href));
});

// A form that only asks opens its answer in place, too.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !form.matches("form[data-sheet]")) return;
  event.preventDefault();
  const query = new URLSearchParams(new FormData(form, event.submitter));
  const url = `${form.action}?${query}`;
  load(url).catch(() => location.assign(url));
});

sheet?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  // Before any button is disabled: the value of one that is does not count.
  const body = new URLSearchParams(new FormData(form, event.submitter));
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  load(form.action, { method: "POST", body }).catch(() => form.submit());
});

// ---- all machines that are shown
const tickAll = document.querySelector("[data-tick-all]");
if (tickAll) tickAll.hidden = false;
tickAll?.addEventListener("click", () => {
  const boxes = [...document.querySelectorAll(`input[type=checkbox][form="${CSS.escape(tickAll.form.id)}"]`)];
  const all = boxes.every((box) => box.checked);
  for (const box of boxes) box.checked = !all;
});

// ---- search as one types
const find = document.querySelector("form.find input[type=search]");
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && find && !event.target.closest("input, select, textarea, dialog")) {
    event.preventDefault();
    find.focus();
  }
});

showTimes(document);
setInterval(() => showTimes(document), 30_000);
listen();
