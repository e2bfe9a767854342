// The admin and hunting pages in a real browser: adding a data source and seeing its first event, without and with scripts.
// Called by journey.mjs, which brings a signed-in page and writes down what must not happen.
import assert from "node:assert/strict";

/** Pages that no link of the main navigation leads to. */
export const ADMIN_PAGES = ["/admin", "/admin/sources", "/admin/sources/new", "/admin/quarantine", "/admin/tokens", "/admin/users", "/admin/audit", "/indicators", "/hunt?q=event:process_start"];

/** Adds a source, sends with the token that the page shows, and waits until the page says that it arrived. */
export async function addSource(page, site, name) {
  await page.goto(new URL("/admin/sources/new", site.url).href);
  await page.getByLabel("curl, scripts").check();
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByRole("button", { name: "Create token and configuration" }).click();
  await page.getByRole("heading", { level: 1, name: `curl, scripts as ${name}` }).waitFor();
  const token = await page.locator(".secret code").textContent();
  const text = await page.locator(".paste code").textContent();
  assert.match(token, /^cf_i[0-9A-Za-z]{49}$/);
  assert(text.includes(token), "the text to paste holds the token");
  const url = text.match(/"(http[^"]+\/api\/v1\/events)"/)[1];
  const body = { kind: "process_start", occurred_at: new Date().toISOString(), host: { name: "ws-browser" }, process: { pid: 7, image: "C:\\a.exe", command_line: "a.exe" } };
  const sent = await fetch(url, { method: "POST", headers: { Authorization: `Bearer ${token}` }, body: JSON.stringify(body) });
  assert.equal(sent.status, 200, await sent.text());
  return token;
}

/** With scripts the waiting panel changes by itself; without, its link leads to the same. */
export async function arrived(page, scripted) {
  if (!scripted) await page.getByRole("link", { name: "Its page" }).click();
  await page.locator("#arrived .received").waitFor();
  assert.match(await page.locator("#arrived").textContent(), /1 records.*ws-browser/s);
}

/** Narrows a hunt by the menu of a value. */
export async function hunt(page, site) {
  await page.goto(new URL("/hunt?q=event:process_start", site.url).href);
  const before = await page.locator("tr[data-row]").count();
  assert(before > 0, "the demo has process starts");
  const host = page.locator("tr[data-row] td:nth-child(2) details.value").first();
  const name = (await host.locator("summary").textContent()).trim();
  await host.locator("summary").click();
  await host.getByRole("link", { name: "Include" }).click();
  await page.waitForLoadState();
  for (const shown of await page.locator("tr[data-row] td:nth-child(2) summary").allTextContents()) assert.equal(shown.trim(), name);
}
