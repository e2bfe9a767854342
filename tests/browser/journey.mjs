// The journey of an analyst, in a real browser against the real program: sign in, open the top detection, read it, allowlist with
// preview, decide. Fails on console errors, violations of the content security policy, server errors, requests off the origin and
// violations of WCAG 2.2 AA that axe-core finds.
//
//   node journey.mjs test          what `make test` runs
//   node journey.mjs screenshots   every page, light and dark, 1280 and 320 px wide, into screenshots/
//
// COALFACE_URL, COALFACE_USER and COALFACE_PASSWORD name a running program; else the demo is started and ended here.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { ADMIN_PAGES, addSource, arrived, hunt } from "./admin.mjs";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const shots = join(root, "screenshots");
const axe = readFileSync(join(dirname(fileURLToPath(import.meta.url)), "node_modules/axe-core/axe.min.js"), "utf8");
const standard = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/** Starts `coalface demo` on free ports and a folder of its own; resolves with its address and account, and how to end it. */
async function demo() {
  if (process.env.COALFACE_URL) {
    const { COALFACE_URL: url, COALFACE_USER: user, COALFACE_PASSWORD: password } = process.env;
    return { url, user, password, end: async () => {} };
  }
  const data = mkdtempSync(join(tmpdir(), "coalface-browser-"));
  chmodSync(data, 0o711); // the database's system user has to enter
  const built = ["debug", "release"].map((profile) => join(root, "target", profile, "coalface")).find(existsSync);
  assert(built, "build the program first: cargo build");
  const args = ["demo", "--data", data, "--listen", "127.0.0.1:0", "--ingest-listen", "127.0.0.1:0", "--log-filter", "warn"];
  const child = spawn(built, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exited = new Promise((done) => child.once("exit", done));
  const end = async () => {
    child.kill("SIGTERM");
    await exited;
    rmSync(data, { recursive: true, force: true });
  };
  let said = "";
  const ready = new Promise((done, fail) => {
    child.stdout.on("data", (chunk) => {
      said += chunk;
      const found = said.match(/(http:\/\/\S+)\s+user\s+(\S+)\s+password\s+(\S+)/);
      if (found) done({ url: found[1], user: found[2], password: found[3], end });
    });
    exited.then((code) => fail(new Error(`the demo ended with ${code}:\n${said}`)));
  });
  return ready.catch(async (error) => {
    await end();
    throw error;
  });
}

/** A context whose pages write down everything that must not happen. */
async function watched(browser, site, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const faults = [];
  context.on("console", (message) => {
    if (message.type() === "error") faults.push(`console: ${message.text()} (${message.location().url})`);
  });
  context.on("weberror", (error) => faults.push(`script: ${error.error()}`));
  context.on("dialog", (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  context.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(site.url).origin) faults.push(`request off the origin: ${request.url()}`);
  });
  context.on("response", (response) => {
    if (response.status() >= 500) faults.push(`${response.status()} for ${response.url()}`);
  });
  if (options.javaScriptEnabled !== false) {
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        console.error(`policy violation: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
      });
    });
  }
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  return { context, page, faults };
}

async function signIn(page, site) {
  await page.goto(site.url);
  assert.match(page.url(), /\/login/, "a stranger is sent to the sign-in page");
  await page.getByLabel("Name").fill(site.user);
  await page.getByLabel("Password").fill(site.password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { level: 1, name: "Queue" }).waitFor();
}

const detections = (page) => page.locator('main a.title[href*="/detections/"]');

/** Opens the first detection of the queue and reads it; answers its path. */
async function openTop(page) {
  await page.goto(new URL("/", page.url()).href);
  await detections(page).first().click();
  await page.getByRole("heading", { name: "Why it fired" }).waitFor();
  for (const part of ["What could explain it", "Seen before", "Timeline", "Lineage", "Destinations", "Raw events"]) {
    assert.equal(await page.getByRole("heading", { name: part }).count(), 1, `the section "${part}"`);
  }
  assert((await page.locator(".evidence li").count()) > 0, "evidence is shown");
  return new URL(page.url()).pathname;
}

/** The journey of an analyst; everything by links, forms and labels, so that it is the same without scripts. */
async function journey(page) {
  const path = await openTop(page);

  await page.getByRole("link", { name: /^Allowlist from this/ }).click();
  await page.getByRole("heading", { level: 1, name: "New allowlist entry" }).waitFor();
  await page.getByLabel("Reason").fill("Approved on this host: browser journey");
  await page.getByRole("button", { name: "Preview" }).click();
  const preview = await page.getByRole("heading", { name: /^Would have hidden/ }).textContent();
  assert.match(preview, /Would have hidden \d+/);
  assert.equal(await page.getByLabel("Reason").inputValue(), "Approved on this host: browser journey", "the preview keeps what was typed");

  await page.goto(new URL(path, page.url()).href);
  const title = (await page.getByRole("heading", { level: 1 }).textContent()).trim();
  await page.getByPlaceholder("Note: why").fill("Miner found, host isolated");
  await page.getByLabel("True positive").check();
  await page.getByRole("button", { name: "Close & next" }).click();
  await page.waitForURL((url) => url.pathname !== path);
  assert.match(await page.locator(".toast").textContent(), /Closed: true positive/);
  await page.goto(new URL(path, page.url()).href);
  assert.equal((await page.getByRole("heading", { level: 1 }).textContent()).trim(), title);
  await page.locator(".badges .tag", { hasText: "True positive" }).waitFor();
  assert((await page.locator(".activity").textContent()).includes("demo") || process.env.COALFACE_USER, "the activity names who decided");
  return path;
}

/** Every page there is a link to from the top, with the first detection, host and process. */
async function pages(page, site) {
  const found = ["/", "/?group=image", "/?verdict=candidate", "/hosts", "/destinations", "/allowlist", "/help/keys", ...ADMIN_PAGES];
  await page.goto(site.url);
  const menu = await page.locator("nav[aria-label=Main] a").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  found.push(...menu);
  const detection = await detections(page).first().getAttribute("href");
  found.push(detection, `${new URL(detection, site.url).pathname}/report`, `${new URL(detection, site.url).pathname}/events`);
  await page.goto(new URL(detection, site.url).href);
  for (const kind of ["/hosts/", "/processes/"]) {
    const link = page.locator(`main a[href^="${kind}"]`).first();
    if (await link.count()) found.push(await link.getAttribute("href"));
  }
  return [...new Set(found)];
}

/** What axe finds on the page as it stands; it runs through the debug protocol, so the page's policy stays as it is. */
async function wcag(page, faults, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate((tags) => axe.run(document, { runOnly: tags, resultTypes: ["violations"] }), standard);
  for (const { id, nodes } of violations) {
    faults.push(`${where}: ${id}: ${nodes.slice(0, 3).map((node) => `${node.target} (${node.any[0]?.message ?? node.html.slice(0, 80)})`).join("; ")}`);
  }
}

/** Every page in both colour schemes and three widths, folded parts open. */
async function accessible({ page, faults }, site, paths) {
  for (const path of paths) {
    await page.goto(new URL(path, site.url).href);
    await page.evaluate(() => document.querySelectorAll("details:not(.menu)").forEach((part) => { part.open = true; }));
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      for (const width of [320, 768, 1280]) {
        await page.setViewportSize({ width, height: 800 });
        await wcag(page, faults, `${path} ${colorScheme} ${width}`);
      }
    }
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
}

/** Everything a decision needs is on the first screen. */
async function decidable(page, site, path) {
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.goto(new URL(path, site.url).href);
  for (const selector of [".story", "form.bar", "section:has(#why)", "section:has(#explain)", "section:has(#before)"]) {
    const { y, height } = await page.locator(selector).boundingBox();
    assert(y + height <= 800, `${selector} ends at ${Math.round(y + height)} of 800 px`);
  }
}

/** Queue to the next detection in four keys; then the decision is taken back by a fifth. */
async function byKeys(page, site) {
  await page.goto(site.url);
  await page.keyboard.press("j");
  const opened = await page.evaluate(() => document.activeElement.pathname);
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.pathname === opened);
  await page.keyboard.press("e");
  await page.keyboard.press("b");
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.pathname !== opened);
  assert.match(await page.locator(".toast").textContent(), /Closed: benign positive/);
  await page.keyboard.press("z");
  await page.locator(".toast", { hasText: "Taken back: 1." }).waitFor();
  await page.goto(new URL(opened, site.url).href);
  assert.equal(await page.getByRole("button", { name: "Close & next" }).count(), 1, "it is open again");
}

/** Two people decide the same: the second sees both values and loses nothing. */
async function twoWriters(browser, site, page, path) {
  const other = await watched(browser, site);
  await signIn(other.page, site);
  await other.page.goto(new URL(path, site.url).href);
  await page.goto(new URL(path, site.url).href);
  await page.getByPlaceholder("Note: why").fill("first");
  await page.getByRole("button", { name: "Save note" }).click();
  await page.locator(".toast").waitFor();
  await other.page.getByPlaceholder("Note: why").fill("second");
  const conflict = other.page.waitForResponse((response) => response.request().method() === "POST");
  await other.page.getByRole("button", { name: "Save note" }).click();
  assert.equal((await conflict).status(), 409);
  const row = other.page.locator("tr.differs", { hasText: "Note" });
  assert.match(await row.textContent(), /first.*second/s);
  await wcag(other.page, other.faults, "the conflict page");
  await other.page.getByRole("button", { name: "Apply mine" }).click();
  await other.page.locator(".toast").waitFor();
  assert.equal(await other.page.getByPlaceholder("Note: why").inputValue(), "second");
  const faults = other.faults.filter((fault) => !fault.includes("409"));
  assert.deepEqual(faults, []);
  await other.context.close();
}

/** The chart is drawn from its table, and a stretch drawn over it zooms. */
async function zooms(page, site, path) {
  await page.goto(new URL(path, site.url).href);
  const chart = page.locator(".lane.load .chart canvas");
  await chart.scrollIntoViewIfNeeded();
  const { x, y, width } = await chart.boundingBox();
  await page.mouse.move(x + width * 0.3, y + 40);
  await page.mouse.down();
  await page.mouse.move(x + width * 0.6, y + 40, { steps: 5 });
  await page.mouse.up();
  const whole = page.getByRole("button", { name: "Whole time" });
  await whole.waitFor();
  assert((await page.locator(".lane .clip svg").first().evaluate((svg) => svg.clientWidth)) > width * 2, "every lane is zoomed");
  await whole.click();
  await whole.waitFor({ state: "hidden" });
}

/** What every page owes: an answer, one heading, nothing wider than a phone. */
async function inspect({ page, faults }, url) {
  const response = await page.goto(url);
  if (!response.ok()) faults.push(`${url} answered ${response.status()}`);
  const headings = await page.locator("h1").count();
  if (headings !== 1) faults.push(`${url} has ${headings} h1`);
  await page.setViewportSize({ width: 320, height: 800 });
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  if (width > 320) faults.push(`${url} is ${width} px wide on a screen of 320`);
  await page.setViewportSize({ width: 1280, height: 800 });
}

async function test(browser, site) {
  const scripted = await watched(browser, site);
  await signIn(scripted.page, site);
  const open = await detections(scripted.page).count();
  assert(open >= 2, `the demo shows its attacks in the queue, here ${open}`);
  const paths = await pages(scripted.page, site);
  for (const path of paths) await inspect(scripted, new URL(path, site.url).href);
  const opened = paths.find((one) => one.startsWith("/detections/"));
  await decidable(scripted.page, site, opened);
  await accessible(scripted, site, paths);
  assert.deepEqual(scripted.faults, []);
  console.log(`ok: ${paths.length} pages hold WCAG 2.2 AA as far as axe sees, light and dark, at 320, 768 and 1280 px`);
  await zooms(scripted.page, site, opened);
  await twoWriters(browser, site, scripted.page, opened);
  await byKeys(scripted.page, site);
  await journey(scripted.page);
  await addSource(scripted.page, site, "browser-scripted");
  await arrived(scripted.page, true);
  await hunt(scripted.page, site);
  await scripted.page.goto(site.url);
  await scripted.page.locator("details.menu.right summary").click();
  await scripted.page.getByRole("button", { name: "Sign out" }).click();
  await scripted.page.goto(new URL("/hosts", site.url).href);
  assert.match(scripted.page.url(), /\/login/, "signed out");
  assert.deepEqual(scripted.faults, []);
  await scripted.context.close();
  console.log("ok: the journey with scripts");

  const plain = await watched(browser, site, { javaScriptEnabled: false });
  await signIn(plain.page, site);
  await journey(plain.page);
  await addSource(plain.page, site, "browser-plain");
  await arrived(plain.page, false);
  await hunt(plain.page, site);
  assert.deepEqual(plain.faults, []);
  await plain.context.close();
  console.log("ok: the journey without scripts");
}

async function screenshots(browser, site) {
  mkdirSync(shots, { recursive: true });
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 320]) {
      const { context, page } = await watched(browser, site, { colorScheme, viewport: { width, height: 800 } });
      await page.goto(site.url);
      await page.screenshot({ path: join(shots, `login-${colorScheme}-${width}.png`), fullPage: true });
      await signIn(page, site);
      for (const path of await pages(page, site)) {
        const response = await page.goto(new URL(path, site.url).href);
        if (!response.ok()) continue;
        // The kind of page: what stands for one thing, its key, is "one".
        const parts = path.split("?")[0].split("/").filter(Boolean);
        const name = parts.map((part, n) => (n === 1 && !path.startsWith("/admin") ? "one" : part)).join("-") || (path.length > 1 ? "queue-" + path.split(/[?=]/)[1] : "queue");
        await page.screenshot({ path: join(shots, `${name}-${colorScheme}-${width}.png`), fullPage: true });
      }
      await context.close();
    }
  }
  console.log(`screenshots are in ${shots}`);
}

const verb = { test, screenshots }[process.argv[2]];
if (!verb) {
  console.error("journey.mjs test|screenshots");
  process.exit(2);
}
const site = await demo();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"],
});
try {
  await verb(browser, site);
} finally {
  await browser.close();
  await site.end();
}
