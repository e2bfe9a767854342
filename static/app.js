// Adds to pages that work without it: keys, relative times, copy buttons, a note that survives a session's end.
"use strict";
(() => {
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const loaded = Date.now();

  // Relative age beside exact times; the server's text stays as the title.
  const age = (ms) => {
    const m = Math.floor(ms / 60000);
    return m < 1 ? "just now" : m < 60 ? `${m} min ago` : m < 2880 ? `${Math.floor(m / 60)} h ago` : `${Math.floor(m / 1440)} d ago`;
  };
  const ages = () => all("time.age").forEach((t) => {
    t.title ||= t.textContent;
    t.textContent = age(Date.now() - Date.parse(t.dateTime));
  });
  ages();
  setInterval(ages, 60000);

  // Copy buttons exist only where they can work.
  if (navigator.clipboard) all("[data-copy]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => navigator.clipboard.writeText(one("code", button.parentElement).textContent)
      .then(() => { button.textContent = "copied"; }));
  });

  // An unsaved note is kept in this tab until its form is sent.
  const bar = one("form[data-note]");
  const note = bar && one("[name=note]", bar);
  if (note) {
    const key = `note:${bar.dataset.note}`;
    const kept = sessionStorage.getItem(key);
    if (kept && !note.value) note.value = kept;
    note.addEventListener("input", () => sessionStorage.setItem(key, note.value));
    bar.addEventListener("submit", () => sessionStorage.removeItem(key));
  }

  // Only one menu is open; a click elsewhere closes it.
  document.addEventListener("click", (event) => all("details.menu[open]").forEach((menu) => {
    if (!menu.contains(event.target)) menu.open = false;
  }));

  // Keys. Rows of lists, else sections of the page.
  const rows = all("tr[data-row]");
  const stops = rows.length ? rows : all("main section[aria-labelledby]");
  let at = -1;
  const select = (step) => {
    if (!stops.length) return;
    at = Math.min(Math.max(at + step, 0), stops.length - 1);
    stops.forEach((row, n) => row.classList.toggle("on", n === at));
    stops[at].scrollIntoView({ block: rows.length ? "nearest" : "start" });
    const link = rows.length && one("a.title, a", stops[at]);
    if (link) link.focus({ preventScroll: true });
  };
  const go = { q: "/", h: "/hosts", d: "/destinations", l: "/allowlist", c: "/coverage", r: "/rules", u: "/hunt" };  // where the menu has them
  const press = (selector) => { const found = one(selector); if (found) found.click(); return !!found; };
  const hint = (on) => {
    if (!bar) return;
    bar.classList.toggle("deciding", on);
    all(".buttons [data-key]", bar).forEach((b) => { if (on) b.dataset.hint = b.dataset.key; else delete b.dataset.hint; });
  };
  let prefix = "";
  const take = (next) => { prefix = next; hint(next === "e"); };

  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.key === "Escape") {
      take("");
      all("details.menu[open]").forEach((menu) => { menu.open = false; });
      if (target.blur) target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, [contenteditable]")) return;
    const key = event.key;
    const was = prefix;
    take("");
    let done = true;
    if (was === "g" && go[key]) press(`nav a[href="${go[key]}"]`);
    else if (was === "e" && bar) done = press(`.buttons [data-key="${CSS.escape(key)}"]`);
    else if (key === "g") take("g");
    else if (key === "e" && bar) take("e");
    else if (key === "j") select(1);
    else if (key === "k") select(-1);
    else if (key === "o" && rows[at]) { const peek = one("details", rows[at]); if (peek) peek.open = !peek.open; }
    else if (key === "Enter" && rows[at] && !target.closest("a, button, summary")) one("a.title, a", rows[at]).click();
    else if (key === "c" && note) note.focus();
    else if (key === "a") done = press('[data-key="assign"]');
    else if (key === "w") done = press('[data-key="allow"]');
    else if (key === "/") { const field = one("input[type=search]"); if (field) field.focus(); else location.href = "/"; }
    else if (key === ".") location.reload();
    else if (key === "?") location.href = "/help/keys";
    else done = false;
    if (done) event.preventDefault();
  });

  // A page restored from history may show what is over: after signing out nothing is shown again.
  addEventListener("pageshow", (event) => { if (event.persisted && Date.now() - loaded > 60000) location.reload(); });
})();
