// The fleet page: `sanctum-launchd status --serve`, on a laptop that reaches the Mini over ssh.

import assert from "node:assert/strict";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { DESKTOP, PHONE } from "./browser.mjs";

/** Markup, a script, control characters, and marks that reorder what is read. */
const HOSTILE = `<img src=x onerror="window.owned=1"><script>window.owned=1</script>\u001b[2J\u202egnp.exe {{7*7}} \${8*8} & </li></ul>`;

const FLEET = `
[hosts.mini]
address = "192.0.2.25"
ssh = "mini"
agents = ["server", "guardian", "canary"]
[hosts.laptop]
address = "192.0.2.55"
agents = ["canary-offbox"]
[hosts.attic]
address = "192.0.2.66"
ssh = "attic"
[servers.server]
host = "mini"
listen = ["127.0.0.1:1337"]
[watch.guardian]
target = "server"
[watch.canary]
target = "server"
[watch.canary-offbox]
check = "canary"
target = "server"
[alerts.log]
`;

const before = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();

function watchdog(name, verdict, more = {}) {
  return {
    name,
    role: "watchdog",
    state: "running",
    pid: 4712,
    runs: 1,
    last_exit: null,
    uptime_seconds: 700000,
    memory_bytes: 14 << 20,
    watch: {
      verdict,
      detail: verdict === "miss" ? HOSTILE : "4",
      checked: before(45),
      misses: 0,
      success_24h: 0.9931,
      success_7d: 0.9989,
      open: [],
      unnotified: [],
      undelivered: [],
      heartbeat_url: null,
      stopped: null,
      ...more,
    },
  };
}

/** What the Mini's `status --local --json` prints. */
function status({ state = "ready", agents = [], ...more } = {}) {
  const server = { name: "server", role: "server", state: "running", pid: 4711, runs: 3, last_exit: null, uptime_seconds: 93600, memory_bytes: 18 * 2 ** 30 };
  const host = {
    host: "mini",
    problem: null,
    release: "0.2.0",
    installed: "2026-11-18T03:00:00Z",
    maintenance: null,
    disk: { free_bytes: 93 * 2 ** 30, total_bytes: 466 * 2 ** 30 },
    agents: [server, watchdog("guardian", "ok"), watchdog("canary", state === "ready" ? "ok" : "miss"), ...agents],
    servers: [
      {
        name: "server",
        served_by: "server",
        state,
        in_flight: state === "ready" ? 2 : null,
        queued: state === "ready" ? 1 : null,
        tokens_per_second: state === "ready" ? 41.2 : null,
        auth: { mtls: { granted: 1204, refused: 0 }, bearer: { granted: 33, refused: 2 } },
      },
    ],
    certificates: [
      { file: "ca.crt", ends: before(-1700 * 86400), problem: null, urgent: false },
      { file: "server.crt", ends: before(-12.5 * 86400), problem: "it expires in 12 days; run: sanctum-pki renew server", urgent: false },
      { file: "clients/canary.crt", ends: before(86400), problem: "it has expired; run: sanctum-pki renew canary", urgent: true },
    ],
    ...more,
  };
  return { hosts: [host], summary: "", dry_run: false, steps: [] };
}

function alert(number, more = {}) {
  return {
    id: `canary-misses-${number}`,
    condition: "canary/misses",
    watchdog: "canary",
    host: "mini",
    severity: ["critical", "warning", "info"][number % 3],
    title: `server on mini fails its check (${number})`,
    body: `The answer was wrong.\nnext: sanctum-canary --once`,
    since: before(60 * number + 30),
    alerts: 1,
    is_open: true,
    delivered: ["phone"],
    waiting: [],
    silent: [],
    muted: null,
    is_closing: false,
    covers: [],
    ...more,
  };
}

/** What the Mini's `alert list --json` prints. */
function alerts(open = [], recent = []) {
  return { host: "mini", open, recent, mutes: [], problems: [], summary: "", dry_run: false, steps: [] };
}

/** Seven days in which the server was up, with two outages and a time in which the page did not run. */
function history() {
  const now = Math.floor(Date.now() / 1000);
  const lines = ['{"format":"sanctum fleet page history","version":1}'];
  const ago = (bucket) => (now - bucket * 300) / 3600;
  for (let bucket = Math.floor((now - 7 * 86400) / 300); bucket * 300 < now - 300; bucket += 1) {
    const hours = ago(bucket);
    if (hours > 50 && hours < 62) continue;
    const isDown = (hours > 9 && hours < 9.6) || (hours > 120 && hours < 123);
    const isDegraded = (hours > 8.6 && hours <= 9) || (hours > 30 && hours < 31);
    const rate = isDown ? 0 : Math.max(0, Math.round(250 + 220 * Math.sin(bucket / 40) + 60 * Math.sin(bucket / 5)));
    const state = isDown ? { d: 10 } : isDegraded ? { g: 10 } : { u: 10 };
    lines.push(JSON.stringify({ s: "server", b: bucket, v: { ...state, n: 10, t: rate * 10, q: isDegraded ? 7 : 0 } }));
  }
  return lines.join("\n") + "\n";
}

/** A laptop on which the page is served. What its ssh answers for the Mini can be changed while it runs. */
class Laptop {
  constructor(test) {
    this.test = test;
    this.home = test.programs.folder();
    const state = join(this.home, ".sanctum", "state");
    mkdirSync(join(state, "page"), { recursive: true });
    writeFileSync(join(this.home, "fleet.toml"), FLEET);
    const receipt = { host: "laptop", release: "0.2.0", installed: "2026-11-18T03:00:00Z", fleet_sha256: "0".repeat(64), artefacts: [], agents: [] };
    writeFileSync(join(state, "receipt.json"), JSON.stringify(receipt));
    writeFileSync(join(state, "page", "history.jsonl"), history());
    this.script("launchctl", 'echo "Could not find service" >&2; exit 113');
    const none = "ssh: connect to host attic port 22: No route to host";
    this.script("ssh", `case "$*" in *attic*) echo "${none}" >&2; exit 255 ;; esac; cd "$HOME" && cat status.json alerts.json`);
    this.report(status(), alerts());
  }

  script(name, text) {
    const file = join(this.home, name);
    writeFileSync(file, `#!/bin/sh\n${text}\n`);
    chmodSync(file, 0o755);
  }

  /** What ssh answers for the Mini from now on. */
  report(status, alerts) {
    writeFileSync(join(this.home, "status.json"), JSON.stringify(status));
    writeFileSync(join(this.home, "alerts.json"), JSON.stringify(alerts));
  }

  /** Lets ssh fail for the Mini from now on. */
  loseMini() {
    this.script("ssh", 'echo "ssh: connect to host mini port 22: Connection timed out" >&2; exit 255');
  }

  async serve() {
    const env = { SANCTUM_LAUNCHCTL: join(this.home, "launchctl"), SANCTUM_SSH: join(this.home, "ssh") };
    const args = ["status", "--serve", "127.0.0.1:0", "--every", "1s"];
    this.program = this.test.programs.start(this.test.programs.binary("sanctum-launchd"), args, { env, home: this.home });
    const line = (line) => line.match(/^the fleet page is at (http:\S+);/)?.[1] ?? null;
    this.url = await this.program.logs("the address", line);
    return this.url;
  }

  /** Opens the page, and waits until it shows the Mini. */
  async open(options) {
    const page = await this.test.browser.open((this.url ?? (await this.serve())) + "/", options);
    await page.locator(".host", { hasText: "Release 0.2.0" }).first().waitFor();
    return page;
  }
}

function mini(page) {
  return page.locator('[data-key="mini"].host');
}

export async function page_shows_hosts_agents_and_history(test) {
  const laptop = new Laptop(test);
  const page = await laptop.open();
  assert.deepEqual(await page.locator(".host h3").allTextContents(), ["attic", "laptop", "mini"]);
  const text = await mini(page).innerText();
  for (const words of ["Release 0.2.0", "93.0 GiB of 466 GiB free", "server", "guardian", "18.0 GiB", "99.3%", "26 h"]) {
    assert(text.includes(words), `${words} is not in ${text}`);
  }
  const attic = page.locator('[data-key="attic"].host');
  await attic.getByText("No route to host").waitFor();
  assert.match(await attic.innerText(), /try it by hand: ssh attic/);
  const server = page.locator(".server");
  await server.getByText("Up", { exact: true }).waitFor();
  assert.match(await server.innerText(), /41.2 tokens a second/);
  const strips = await server.locator(".strip").evaluateAll((all) => all.map((one) => one.getAttribute("aria-label")));
  assert.match(strips[0], /last 24 hours: 9\d\.\d% available; .*degraded .* to .*; down .* to /);
  assert.match(strips[1], /last 7 days: 9\d\.\d% available/);
  assert.match(await server.locator(".rates").first().getAttribute("aria-label"), /Tokens a second, last 24 hours: at most 5\d\.\d /);
  assert.match(await page.locator("#certificates-rows tr").first().innerText(), /clients\/canary.crt.*expired/s);
  assert.match(await page.title(), /^\(\d+\) Sanctum fleet$/);
  assert.deepEqual(await page.locator("#open-none").innerText(), "No alert is open.");
  await test.browser.screenshot(page, "fleet-page");
  const answer = await fetch(laptop.url + "/status.json");
  assert.equal((await answer.json()).hosts.length, 3);
}

export async function page_follows_what_happens(test) {
  const laptop = new Laptop(test);
  const page = await laptop.open();
  await page.locator(".server").getByText("Up", { exact: true }).waitFor();
  laptop.report(status({ state: "no answer (connection refused)" }), alerts([alert(0)]));
  await page.locator(".server").getByText("Down: no answer (connection refused)").waitFor();
  await page.locator("#open-list").getByText("server on mini fails its check (0)").waitFor();
  laptop.loseMini();
  await mini(page).getByText("Connection timed out").waitFor();
  assert.match(await mini(page).innerText(), /Last known state: \d\d:\d\d/);
  assert.match(await mini(page).innerText(), /18.0 GiB/, "what was known stays");
  await page.locator(".server").getByText("Unknown", { exact: true }).waitFor();
  await test.browser.screenshot(page, "fleet-page-stale");
  laptop.program.signal("SIGTERM");
  await page.getByText("does not answer").waitFor();
  assert.match(await page.title(), /^\(\?\)/);
}

export async function hundred_alerts_stay_usable(test) {
  const laptop = new Laptop(test);
  const open = Array.from({ length: 100 }, (_, number) => alert(number));
  const recent = Array.from({ length: 100 }, (_, number) => alert(number + 1000, { is_open: false }));
  laptop.report(status(), alerts(open, recent));
  for (const [size, name] of [
    [DESKTOP, "desktop"],
    [PHONE, "phone"],
  ]) {
    const page = await laptop.open({ size });
    await page.locator("#open-number", { hasText: "100" }).waitFor();
    const list = page.locator("#open-list > li");
    assert.equal(await list.count(), 10);
    assert.match(await list.first().innerText(), /critical/);
    // The hosts are not a hundred alerts away.
    const top = await page.locator("#hosts").evaluate((one) => one.getBoundingClientRect().top + scrollY);
    assert(top < 3000, `the hosts begin at ${top}`);
    await test.browser.screenshot(page, `fleet-page-100-${name}`);
    await test.browser.assertFits(page);
    await page.locator("#open-filter select").selectOption("warning");
    await page.locator("#open-filter").getByText("33 of 100").waitFor();
    await page.locator("#open-filter select").selectOption("");
    await page.locator("#open-filter input").fill("(47)");
    await page.locator("#open-filter").getByText("1 of 100").waitFor();
    assert.match(await list.innerText(), /fails its check \(47\)/);
    await page.locator("#open-filter input").fill("");
    await page.locator("#open-more").press("Enter");
    assert.equal(await list.count(), 100);
    const focused = await page.evaluate(() => document.activeElement.closest("li").dataset.key);
    assert.equal(focused, await list.nth(10).getAttribute("data-key"), "the first new one has the focus");
  }
}

export async function hostile_texts_are_texts(test) {
  const laptop = new Laptop(test);
  const hostile = alert(1, {
    id: `canary-${HOSTILE}`,
    title: HOSTILE,
    body: HOSTILE,
    waiting: [{ channel: "phone", error: HOSTILE, is_refused: false }],
    muted: { condition: "canary/misses", since: before(60), until: before(-600), by: HOSTILE, why: HOSTILE },
    covers: [{ watchdog: "guardian", message: HOSTILE, since: before(60) }],
  });
  const report = status({
    state: `no answer (${HOSTILE})`,
    maintenance: HOSTILE,
    agents: [watchdog("canary-2", "miss", { undelivered: [HOSTILE], open: [HOSTILE] })],
    certificates: [{ file: HOSTILE, ends: before(-86400), problem: HOSTILE, urgent: true }],
  });
  laptop.report(report, alerts([hostile], [{ ...hostile, id: "canary-old", is_open: false }]));
  // A file on the laptop itself.
  const folder = join(laptop.home, ".sanctum", "state", "alerts", "history");
  mkdirSync(folder, { recursive: true });
  const past = { id: "canary-offbox-1", condition: "canary-offbox/misses", severity: "warning", title: HOSTILE, body: HOSTILE, raised: before(600) };
  writeFileSync(join(folder, "canary-offbox.json"), JSON.stringify([past]));
  const page = await laptop.open();
  await page.locator("#open-list summary").click();
  await page.locator("#past-list li", { hasText: "laptop" }).locator("summary").click();
  const shown = await page.locator("#open-list .title").textContent();
  assert(shown.startsWith('<img src=x onerror="window.owned=1"><script>'), shown);
  // Hidden characters arrive escaped.
  assert(shown.includes("\\u{1b}[2J\\u{202e}gnp.exe"), shown);
  assert.match(await page.locator("#past-list").innerText(), /window\.owned=1/);
  const made = await page.evaluate(() => ({
    owned: window.owned ?? null,
    elements: document.querySelectorAll("main img, main script, main iframe, main style").length,
    hidden: /[\u001b\u202e]/.test(document.documentElement.textContent),
  }));
  assert.deepEqual(made, { owned: null, elements: 0, hidden: false });
  await test.browser.screenshot(page, "fleet-page-hostile");
  await test.browser.assertFits(page);
}

export async function page_is_accessible_in_light_and_dark(test) {
  const laptop = new Laptop(test);
  const open = Array.from({ length: 12 }, (_, number) => alert(number));
  const late = watchdog("parity", "miss", { undelivered: ["1 alert has not reached the channel `phone` (refused)"] });
  laptop.report(status({ agents: [late] }), alerts(open, [alert(90, { is_open: false })]));
  for (const scheme of ["light", "dark"]) {
    for (const [size, name] of [
      [DESKTOP, "desktop"],
      [PHONE, "phone"],
    ]) {
      const page = await laptop.open({ scheme, size });
      await page.locator('[data-key="attic"].host').getByText("No route to host").waitFor();
      await page.locator("#open-list summary").first().click();
      await page.locator("#open-list p").first().waitFor();
      await test.browser.assertAccessible(page);
      await test.browser.assertFits(page);
      await test.browser.screenshot(page, `fleet-page-${scheme}-${name}`);
    }
  }
}

export async function page_is_used_with_the_keyboard(test) {
  const laptop = new Laptop(test);
  laptop.report(status(), alerts([alert(0), alert(3)]));
  const page = await laptop.open();
  await page.locator("#open-list li").nth(1).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  const first = page.locator("#open-list details").first();
  assert(await first.evaluate((one) => one.open));
  assert.match(await first.innerText(), /The answer was wrong\..*Delivered to phone.*sanctum-launchd alert resolve canary-misses-0/s);
  // A refresh keeps the focus and what is open.
  laptop.report(status(), alerts([alert(0), alert(3), alert(6)]));
  await page.locator("#open-list li").nth(2).waitFor();
  assert(await page.locator('#open-list li[data-key="mini canary-misses-0"] details').evaluate((one) => one.open));
  assert.equal(await page.evaluate(() => document.activeElement.closest("li").dataset.key), "mini canary-misses-0");
}

export async function other_pages_cannot_read_it(test) {
  const laptop = new Laptop(test);
  const url = await laptop.serve();
  const evil = test.programs.start("python3", ["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]);
  const port = await evil.logs("the port", (line) => line.match(/port (\d+)/)?.[1] ?? null);
  const page = await test.browser.open(`http://localhost:${port}/`, { isQuiet: true });
  const read = await page.evaluate(async (url) => {
    try {
      const answer = await fetch(url + "/status.json");
      return await answer.text();
    } catch (error) {
      return `refused: ${error.name}`;
    }
  }, url);
  assert.equal(read, "refused: TypeError");
  const isFramed = await page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const frame = document.createElement("iframe");
        frame.addEventListener("load", () => {
          try {
            resolve(frame.contentDocument !== null && frame.contentDocument.title !== "");
          } catch {
            resolve(false);
          }
        });
        frame.src = url;
        document.body.append(frame);
      }),
    url,
  );
  assert.equal(isFramed, false);
}
