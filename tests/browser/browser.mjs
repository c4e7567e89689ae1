// Opens pages in Chromium, and notes everything on them that should not happen.

import assert from "node:assert/strict";
import { join } from "node:path";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Nothing but loopback is reached, whatever a page or the browser itself asks for.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE [::1]",
];
/** The sizes at which pages are looked at. */
export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };

/** Runs in each page before its own scripts. */
function watch() {
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) => {
    window.violations.push(`${event.violatedDirective} blocked ${event.blockedURI} ${event.sample}`);
  });
}

/** The browser of one test. */
export class Browser {
  constructor({ chromium, axe, screenshots, name }) {
    this.chromium = chromium;
    this.axeSource = axe;
    this.screenshots = screenshots;
    this.name = name;
    this.contexts = [];
    this.pages = [];
    /** What should not have happened on any page. A test that provokes it removes it. */
    this.problems = [];
  }

  /** Opens a URL. `scheme` is `light` or `dark`; `isQuiet` notes nothing, for pages of others. */
  async open(url, { size = DESKTOP, scheme = "light", isQuiet = false, prepare = async () => {} } = {}) {
    this.process ??= await this.chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
    const context = await this.process.newContext({ viewport: size, colorScheme: scheme, reducedMotion: "reduce" });
    this.contexts.push(context);
    const page = await context.newPage();
    page.setDefaultTimeout(30000);
    if (!isQuiet) {
      this.pages.push(page);
      const origin = new URL(url).origin;
      page.on("pageerror", (error) => this.problems.push(`a script failed: ${error.stack ?? error}`));
      page.on("request", (request) => {
        if (!request.url().startsWith(origin)) this.problems.push(`a request left the server: ${request.url()}`);
      });
      page.on("console", (message) => {
        // Chromium logs each answer that is an error; the tests look at what the page makes of it.
        const isStatus = message.text().startsWith("Failed to load resource");
        if (["error", "warning"].includes(message.type()) && !isStatus) this.problems.push(`the browser's console: ${message.text()}`);
      });
      page.on("dialog", (dialog) => {
        this.problems.push(`a dialog opened: ${dialog.message()}`);
        dialog.dismiss();
      });
      await page.addInitScript(watch);
    }
    await prepare(page);
    await page.goto(url);
    return page;
  }

  /** Writes a screenshot, if the command line asks for them. */
  async screenshot(page, name) {
    if (this.screenshots) await page.screenshot({ path: join(this.screenshots, `${name}.png`) });
  }

  /** Asserts that axe-core finds nothing serious or critical. */
  async assertAccessible(page) {
    // The debugger evaluates it, which the policy of the page does not concern.
    if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(this.axeSource);
    const found = await page.evaluate(async () => {
      const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
      return violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map((node) => `${node.target}: ${node.failureSummary}`) }));
    });
    const serious = found.filter(({ impact }) => ["serious", "critical"].includes(impact));
    assert.deepEqual(serious, [], "axe-core has serious findings");
  }

  /** Asserts that nothing has to be scrolled sideways. */
  async assertFits(page) {
    const wide = await page.evaluate(() => {
      const width = document.documentElement.clientWidth;
      const boxes = [...document.querySelectorAll("body *")].map((one) => [one, one.getBoundingClientRect()]);
      const over = boxes.filter(([one, box]) => box.right > width + 0.5 && box.width > 0 && !one.closest(".unseen"));
      const name = (one) => `${one.tagName.toLowerCase()}#${one.id}.${one.className}`;
      return { scrolls: document.documentElement.scrollWidth > width, over: over.map(([one, box]) => `${name(one)} ends at ${box.right}`) };
    });
    assert.deepEqual(wide, { scrolls: false, over: [] });
  }

  /** Asserts that nothing happened that the tests do not expect. */
  async assertClean() {
    for (const page of this.pages.filter((page) => !page.isClosed())) {
      this.problems.push(...(await page.evaluate(() => window.violations)));
    }
    assert.deepEqual(this.problems, []);
  }

  async close() {
    await this.process?.close();
  }
}
