// Browser tests of the page, against a running server: node page.test.mjs URL NAME PASSWORD [SCREENSHOTS]
//
// Wants the site of `cargo run -p farrier-server --example page`: machines with hostile texts and one task
// that runs. Ends with 0 when everything holds; says what does not otherwise.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, name, password, shots = "../target/ui"] = process.argv.slice(2);
if (!password) {
  console.error("usage: node page.test.mjs URL NAME PASSWORD [SCREENSHOTS]");
  process.exit(2);
}
mkdirSync(shots, { recursive: true });

const profile = mkdtempSync(join(tmpdir(), "farrier-ui-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  viewport: { width: 1360, height: 850 },
  ignoreHTTPSErrors: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = context.pages()[0] ?? (await context.newPage());
const faults = [];
page.on("console", (message) => { if (message.type() === "error") faults.push(`console: ${message.text()}`); });
page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
page.on("dialog", (dialog) => { faults.push(`a script of a stranger ran: ${dialog.message()}`); dialog.dismiss(); });
page.on("request", (request) => {
  if (new URL(request.url()).origin !== new URL(url).origin) faults.push(`left the origin: ${request.url()}`);
});

const shot = (what) => page.screenshot({ path: join(shots, `${what}.png`) });
const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() || document.activeElement?.name);

async function tabTo(text, most = 60) {
  for (let n = 0; n < most; n++) {
    await page.keyboard.press("Tab");
    if ((await focused()) === text) return;
  }
  assert.fail(`the keyboard does not reach ${text}`);
}

const steps = {
  async "sign in by keyboard"() {
    await page.goto(`${url}/machines`);
    assert.equal(new URL(page.url()).pathname, "/login");
    await shot("login");
    await page.keyboard.type(name);
    await page.keyboard.press("Tab");
    await page.keyboard.type(password);
    await page.keyboard.press("Enter");
    await page.waitForURL("**/machines");
  },

  async "hostile texts are shown literally"() {
    const text = await page.locator("table").innerText();
    assert.ok(text.includes("<script>alert(1)</script>"), "a serial number that is a script");
    assert.ok(text.includes("innocent⟨U+202E⟩gnp.exe"), "a mark that turns the reading direction");
    assert.equal(await page.locator("td script, td img").count(), 0);
    await shot("machines");
  },

  async "the list is found by typing and goes on"() {
    await page.keyboard.press("/");
    await page.keyboard.type("room-1");
    await page.keyboard.press("Enter");
    await page.waitForURL("**search=room-1**");
    assert.equal(await page.locator("tbody tr").count(), 10);
    await page.goto(`${url}/machines`);
    await page.getByRole("link", { name: "Next page" }).click();
    await page.waitForURL("**after=**");
    assert.ok((await page.locator("tbody tr").count()) > 5);
  },

  async "progress is live without a reload"() {
    await page.goto(`${url}/tasks`);
    const bar = page.locator(".task.running progress").first();
    const before = await page.locator(".task.running .figures").first().innerText();
    await page.evaluate(() => { window.stayed = true; });
    await page.waitForFunction(
      (old) => document.querySelector(".task.running .figures")?.innerText !== old, before, { timeout: 10_000 });
    assert.equal(await page.evaluate(() => window.stayed), true);
    // Z20: the bar itself moves, and what the agent does now stands below it.
    const at = await bar.getAttribute("value");
    await page.waitForFunction(
      (old) => document.querySelector(".task.running progress")?.getAttribute("value") !== old, at, { timeout: 10_000 });
    assert.ok((await page.locator(".task.running .figures").first().innerText()).includes("writing the disk"));
    assert.equal(await page.evaluate(() => window.stayed), true);
    await shot("tasks");
  },

  async "the skip link comes first"() {
    await page.goto(url);
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "Skip to content");
    await page.waitForTimeout(700);
    await shot("dashboard");
  },

  async "ticked machines are ordered for at once, and who cannot is left out"() {
    await page.goto(`${url}/machines?search=room-1`);
    const ticked = () => page.locator("tbody input[type=checkbox]:checked").count();
    await page.getByRole("button", { name: "Tick all" }).click();
    assert.equal(await ticked(), await page.locator("tbody tr").count());
    await page.getByRole("button", { name: "Tick all" }).click();
    assert.equal(await ticked(), 0);
    for (const seat of ["room-11", "room-12", "room-18"]) await page.getByLabel(`Tick ${seat}`).check();
    await page.getByRole("button", { name: "Inventory…" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    await tabTo("Show the plan");
    await page.keyboard.press("Enter");
    await dialog.getByText("Left out:").waitFor();
    const plan = await dialog.innerText();
    assert.ok(plan.includes("Take the inventory on 2 machines."), plan);
    assert.ok(plan.includes("room-18: it is not approved"), plan);
    await shot("order-many");
    await dialog.getByRole("button", { name: "Take inventory" }).click();
    await dialog.getByRole("link", { name: "Close" }).waitFor();
    assert.ok((await dialog.innerText()).includes("room-12: Take the inventory, queued"));
    await dialog.getByRole("link", { name: "Close" }).click();
    // The rows below tell of it by themselves and keep their ticks.
    const row = page.locator("tbody tr", { hasText: "room-11" });
    await row.getByText("queued").waitFor({ timeout: 10_000 });
    assert.equal(await page.getByLabel("Tick room-11").isChecked(), true);
  },

  async "a deployment starts by keyboard, after its plan was seen"() {
    await page.goto(`${url}/machines?search=lab-03`);
    await page.getByRole("link", { name: "lab-03" }).click();
    await page.waitForURL("**/machines/*");
    await tabTo("Deploy…");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    const form = page.getByRole("dialog");
    await form.locator("select[name=image]").selectOption("lab-debian");
    await form.locator("select[name=serial]").selectOption("S676NX0R");
    await shot("deploy-form");
    await tabTo("Show the plan");
    await page.keyboard.press("Enter");
    await page.getByText("This cannot be taken back.").waitFor();
    const plan = await page.getByRole("dialog").innerText();
    assert.ok(plan.includes("OVERWRITE Samsung PM9A1"), plan);
    await shot("deploy-plan");
    if ((await focused()) !== "Deploy") await tabTo("Deploy");
    await page.keyboard.press("Enter");
    await page.locator(".task.queued").first().waitFor();
    assert.ok((await page.locator(".task.queued").first().innerText()).includes("Deploy lab-debian version 2"));
  },

  async "escape closes a dialog and leaves the page"() {
    const before = page.url();
    await page.getByRole("link", { name: "Capture…" }).click();
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    assert.equal(page.url(), before);
  },

  async "a group and a rule are made, corrected and put in order by keyboard"() {
    const dialog = page.getByRole("dialog");
    await page.goto(`${url}/policy`);
    await tabTo("New group…");
    await page.keyboard.press("Enter");
    await dialog.waitFor();
    await page.keyboard.type("lab-2");
    await dialog.locator("select[name=menu]").selectOption("always");
    await shot("group-form");
    await tabTo("Save");
    await page.keyboard.press("Enter");
    await page.getByRole("row", { name: /lab-2.*Menu: at each boot/ }).waitFor();
    for (const [rule, when] of [["old-ones", "facts.firmware == 'bios"], ["guests", "machine.group == 'lab-2'"]]) {
      await tabTo("New rule…");
      await page.keyboard.press("Enter");
      await dialog.waitFor();
      await page.keyboard.type(rule);
      await page.keyboard.press("Tab");
      await page.keyboard.type(when);
      await dialog.getByLabel("starts its local disk and nothing else").check();
      await tabTo("Save");
      await page.keyboard.press("Enter");
      if (rule === "old-ones") {
        const fault = await dialog.getByRole("alert").innerText();
        assert.match(fault, /old-ones.*1/, "where the condition is wrong");
        assert.equal(await dialog.locator("textarea[name=when]").inputValue(), when, "what was typed is still there");
        await shot("rule-refused");
        await dialog.locator("textarea[name=when]").fill(`${when}'`);
        await tabTo("Save");
        await page.keyboard.press("Enter");
      }
      await page.getByRole("row", { name: new RegExp(rule) }).waitFor();
    }
    await page.getByRole("button", { name: "Earlier: guests" }).click();
    await page.waitForFunction(() => document.querySelector("tbody tr th").textContent === "guests");
    await shot("policy-filled");
  },

  async "what deploys by itself shows its plan first, and leads back to what was typed"() {
    const dialog = page.getByRole("dialog");
    const plan = dialog.getByRole("heading", { name: /Starts deployments by itself/ });
    const when = "facts.mac.startsWith('02:')";
    await page.goto(`${url}/policy`);
    await tabTo("New rule…");
    await page.keyboard.press("Enter");
    await dialog.waitFor();
    await page.keyboard.type("new-pcs");
    await page.keyboard.press("Tab");
    await page.keyboard.type(when);
    await dialog.locator("details summary").click();
    await dialog.locator("select[name=deploy]").selectOption("once");
    await dialog.locator("[name=image]").fill("lab-debian");
    await dialog.getByRole("button", { name: "Save" }).click();
    await plan.waitFor();
    assert.match(await dialog.innerText(), /Machines that nobody knows yet get it, too/);
    await shot("deploy-plan");
    await dialog.getByRole("button", { name: "Change it" }).click();
    await dialog.locator("textarea[name=when]").waitFor();
    assert.equal(await dialog.locator("textarea[name=when]").inputValue(), when);
    assert.equal(await dialog.locator("[name=image]").inputValue(), "lab-debian");
    await dialog.getByRole("button", { name: "Save" }).click();
    await plan.waitFor();
    await dialog.getByRole("button", { name: "Let it happen" }).click();
    await page.getByRole("row", { name: /new-pcs.*lab-debian/ }).waitFor();
    await page.getByRole("button", { name: "Remove the rule new-pcs" }).click();
    await page.getByRole("row", { name: /new-pcs/ }).waitFor({ state: "detached" });
  },

  async "a machine is put into a group, gets a wish, and what it would get is explained"() {
    const dialog = page.getByRole("dialog");
    await page.goto(`${url}/machines?search=lab-03`);
    await page.getByRole("link", { name: "lab-03" }).click();
    await page.waitForURL("**/machines/*");
    await tabTo("Change…");
    await page.keyboard.press("Enter");
    await dialog.locator("select[name=group]").selectOption("lab-2");
    await dialog.locator("input[name=tftp_blksize]").fill("1024");
    await tabTo("Save");
    await page.keyboard.press("Enter");
    await page.getByRole("row", { name: "menu always group lab-2" }).waitFor();
    await page.getByRole("row", { name: "tftp_blksize 1024 machine" }).waitFor();
    await tabTo("Next boots…");
    await page.keyboard.press("Enter");
    await dialog.locator("select[name=entry]").selectOption("memory_test");
    await tabTo("Wish it");
    await page.keyboard.press("Enter");
    await page.getByText("wished that it starts memory_test at the next boot").waitFor();
    await page.getByRole("link", { name: "What would it get?" }).click();
    await page.waitForURL("**/policy/explain**");
    assert.match(await page.locator("main").innerText(), /group lab-2/);
    await page.screenshot({ path: join(shots, "explained.png"), fullPage: true });
  },

  async "every page is reached and has one heading"() {
    for (const [place, path] of [["images", "/images"], ["image", "/images/lab-debian"], ["network", "/network"], ["policy", "/policy"]]) {
      await page.goto(`${url}${path}`);
      assert.equal(await page.locator("main h1").count(), 1, path);
      await shot(place);
    }
    await page.goto(`${url}/machines?registration=pending`);
    await page.locator("tbody a").first().click();
    await page.waitForURL("**/machines/*");
    assert.equal(await page.locator("main h1").count(), 1);
    await page.screenshot({ path: join(shots, "machine.png"), fullPage: true });
  },

  async "controls have names"() {
    for (const path of ["/", "/machines", "/tasks", "/images", "/network", "/policy", "/policy/site", "/policy/rules"]) {
      await page.goto(`${url}${path}`);
      const nameless = await page.evaluate(() => [...document.querySelectorAll("button, a, input:not([type=hidden]), select, textarea, progress")]
        .filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length || e.title))
        .map((e) => e.outerHTML));
      assert.deepEqual(nameless, [], path);
    }
  },

  async "dark and narrow"() {
    await page.emulateMedia({ colorScheme: "dark" });
    await page.goto(url);
    await page.waitForTimeout(300);
    await shot("dashboard-dark");
    await page.setViewportSize({ width: 400, height: 800 });
    await page.goto(`${url}/tasks`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `the page is ${wide} px too wide for a telephone`);
    await shot("tasks-narrow");
  },

  async "the page reads without scripts"() {
    const state = await context.storageState();
    const plain = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true,
      args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"] });
    const bare = await plain.newContext({ javaScriptEnabled: false, storageState: state, ignoreHTTPSErrors: true });
    const sheet = await bare.newPage();
    await sheet.goto(`${url}/tasks`);
    assert.ok((await sheet.locator(".task").count()) > 0);
    await plain.close();
  },

  async "nothing went wrong behind the scenes"() {
    assert.deepEqual(faults, []);
  },
};

let failed = 0;
for (const [what, step] of Object.entries(steps)) {
  try {
    await step();
    console.log(`ok    ${what}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${what}\n      ${String(error.message).split("\n").slice(0, 6).join("\n      ")}`);
    await shot(`failed-${failed}`).catch(() => {});
  }
}
await context.close();
rmSync(profile, { recursive: true, force: true });
console.log(failed ? `${failed} failed` : "all passed");
process.exit(failed ? 1 : 0);
