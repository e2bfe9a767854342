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
    t.textContent = age(Date.now() - Date.parse(t.dateTime || t.title.replace(" ", "T")));
  });
  ages();
  setInterval(ages, 60000);

  // Times in the zone of this browser, with its offset; the server's UTC stays as the title. Age needs no zone.
  if (document.documentElement.dataset.times === "local") all("time[datetime]:not(.age)").forEach((t) => {
    const at = new Date(t.dateTime), two = (n) => String(n).padStart(2, "0"), off = -at.getTimezoneOffset();
    t.title ||= t.textContent;
    t.textContent = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}${off < 0 ? "-" : "+"}${two(Math.floor(Math.abs(off) / 60))}:${two(Math.abs(off) % 60)}`;
  });

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

  // Rows of lists.
  const rows = all("tr[data-row]");
  const bulk = one("form.bulk");
  const tick = (row) => one("input[name=id]", row);
  let at = -1, from = -1;
  const select = (step) => {
    if (!rows.length) return;
    at = Math.min(Math.max(at + step, 0), rows.length - 1);
    rows.forEach((row, n) => row.classList.toggle("on", n === at));
    rows[at].scrollIntoView({ block: "nearest" });
    const link = one("a.title, a", rows[at]);
    if (link) link.focus({ preventScroll: true });
  };
  rows.forEach((row, n) => row.addEventListener("focusin", () => { at = n; }));

  // What is ticked: counted, and by range.
  const counted = () => {
    const picked = one("#picked");
    if (!picked) return;
    const all_ = one("[name=all]", bulk).checked;
    picked.textContent = all_ ? "All that match:" : `${all("input[name=id]:checked", bulk).length} ticked:`;
  };
  if (bulk) bulk.addEventListener("change", counted);
  const pick = (range) => {
    const box = rows[at] && tick(rows[at]);
    if (!box) return;
    if (range && from >= 0) for (let n = Math.min(from, at); n <= Math.max(from, at); n++) tick(rows[n]).checked = true;
    else box.checked = !box.checked;
    from = at;
    counted();
  };
  /** Ticks the row at hand if none is, so that a key acts on something. */
  const picked = () => {
    if (!bulk) return false;
    if (!one("input[name=id]:checked, [name=all]:checked", bulk)) pick(false);
    return !!one("input[name=id]:checked, [name=all]:checked", bulk);
  };

  // A row's story in place.
  const peek = (row) => {
    const open = row.nextElementSibling;
    if (open && open.classList.contains("peeked")) { open.remove(); return; }
    const id = one("a.title", row).pathname.match(/^\/detections\/([^/]+)$/);
    if (!id) return;
    const place = document.createElement("tr");
    place.className = "peeked";
    place.append(Object.assign(document.createElement("td"), { colSpan: row.cells.length }));
    row.after(place);
    htmx.ajax("GET", `/_f/detections/${id[1]}/peek`, { target: place.firstChild, swap: "innerHTML" });
  };

  // News of the queue: a banner, never a row. The stream rests while nobody looks.
  const live = one("[data-live]");
  if (live && window.EventSource) {
    let stream, resting;
    const listen = () => {
      if (stream) return;
      stream = new EventSource(live.dataset.live);
      stream.addEventListener("new", (event) => {
        const n = Number(event.data);
        live.replaceChildren();
        if (!n) return;
        const load = Object.assign(document.createElement("a"), { href: location.href, textContent: "Load" });
        const banner = Object.assign(document.createElement("p"), { className: "banner news" });
        banner.append(`${n}${n === 100 ? "+" : ""} new detection${n === 1 ? "" : "s"} `, load, " or press .");
        live.append(banner);
      });
    };
    const rest = () => { if (stream) stream.close(); stream = null; };
    document.addEventListener("visibilitychange", () => {
      clearTimeout(resting);
      if (document.hidden) resting = setTimeout(rest, 60000); else listen();
    });
    addEventListener("pagehide", rest);
    listen();
  }

  // Children of a row come in place.
  document.addEventListener("click", (event) => {
    const more = event.target.closest("a[data-more]");
    if (!more || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const row = more.closest("li"), before = row.previousElementSibling, list = row.parentElement;
    htmx.ajax("GET", more.dataset.more, { target: row, swap: "outerHTML" })
      .then(() => { const first = one("summary, a", before ? before.nextElementSibling : list); if (first) first.focus(); });
  });

  // Keys of a tree: up, down, open, close, open the siblings.
  const branches = (tree) => all("summary, .more a", tree).filter((e) => e.checkVisibility());
  const climb = (event) => {
    const here = event.target.closest(".tree summary, .tree .more a");
    if (!here) return false;
    const shown = branches(here.closest(".tree"));
    const list = here.parentElement.tagName === "DETAILS" ? here.parentElement : null;
    const go = (to) => { if (to) to.focus(); };
    if (event.key === "ArrowDown") go(shown[shown.indexOf(here) + 1]);
    else if (event.key === "ArrowUp") go(shown[shown.indexOf(here) - 1]);
    else if (event.key === "ArrowRight") { if (list && !list.open) list.open = true; else go(shown[shown.indexOf(here) + 1]); }
    else if (event.key === "ArrowLeft") {
      if (list && list.open) list.open = false;
      else { const up = here.closest("ul").closest("li"); go(up && one("summary", up)); }
    } else if (event.key === "*") all(":scope > li > details", here.closest("ul")).forEach((d) => { d.open = true; });
    else return false;
    return true;
  };

  // Keys of the page.
  const go = { q: "/", h: "/hosts", d: "/destinations", s: "/hunt", l: "/allowlist", c: "/coverage", r: "/rules" };  // where the menu has them
  const press = (selector) => { const found = one(selector); if (found) found.click(); return !!found; };
  const choices = { t: "true_positive", b: "benign_positive", fl: "false_positive_logic", fd: "false_positive_data", d: "duplicate", u: "undetermined" };
  Object.keys(choices).forEach((key, n) => { choices[n + 1] = choices[key]; });
  const choose = (key) => {
    const form = bar || bulk, value = choices[key];
    if (bar) {
      const choice = one(`[name=disposition][value="${value}"]`, bar);
      if (!choice) return false;
      choice.checked = true;
      (value === "duplicate" ? one("[name=duplicate_of]", bar) : one('[value="close"]', bar)).focus();
      return true;
    }
    if (!picked()) return false;
    one("[name=disposition]", form).value = value === "duplicate" ? "" : value;
    one('[value="close"]', form).focus();
    return true;
  };
  const off = document.documentElement.dataset.keys === "off";
  let prefix = "";
  const take = (next) => { prefix = next; if (bar) bar.classList.toggle("deciding", next === "e"); };

  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.key === "Escape") {
      take("");
      all("details.menu[open]").forEach((menu) => { menu.open = false; });
      all("tr.peeked").forEach((row) => row.remove());
      if (target.blur) target.blur();
      return;
    }
    if (off || event.ctrlKey || event.metaKey || event.altKey || target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]")) return;
    if (climb(event)) { event.preventDefault(); return; }
    const key = event.key;
    const was = prefix;
    take("");
    let done = true;
    if (was === "g" && go[key]) press(`nav a[href="${go[key]}"]`);
    else if (was === "e" && key === "f") take("ef");
    else if ((was === "e" || was === "ef") && choices[(was + key).slice(1)]) done = choose((was + key).slice(1));
    else if (key === "g") take("g");
    else if (key === "e" && (bar || bulk)) take("e");
    else if (key === "j") { if (rows.length) select(1); else done = press("a[rel=next]"); }
    else if (key === "k") { if (rows.length) select(-1); else done = press("a[rel=prev]"); }
    else if (key === "o" && rows[at]) peek(rows[at]);
    else if (key === "x" && rows[at]) pick(false);
    else if (key === "X" && rows[at]) pick(true);
    else if (key === "Enter" && rows[at] && !target.closest("a, button, summary, input")) one("a.title, a", rows[at]).click();
    else if (key === "c" && note) note.focus();
    else if (key === "c" && picked()) one("[name=note]", bulk).focus();
    else if (key === "a") done = (bar || picked()) && press('[data-key="assign"]');
    else if (key === "s" && bar) done = press('[data-key="snooze"]');
    else if (key === "s" && picked()) one("[name=hours]", bulk).focus();
    else if (key === "w") done = press('[data-key="allow"]');
    else if (key === "z") done = press('[data-key="undo"]');
    else if (key === "/") { const field = one("input[type=search]"); if (field) field.focus(); else location.href = "/"; }
    else if (key === ".") location.reload();
    else if (key === "?") location.href = "/help/keys";
    else done = false;
    if (done) event.preventDefault();
  });

  // A page restored from history may show what is over: after signing out nothing is shown again.
  addEventListener("pageshow", (event) => { if (event.persisted && Date.now() - loaded > 60000) location.reload(); });
})();
