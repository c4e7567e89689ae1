#!/usr/bin/env node
// Drives Debian's Chromium through Sanctum's web pages, against the real programs.
//
//     tests/browser/run.mjs [--server BINARY] [--screenshots DIR] [PAGE[:TEST] …]
//
// A page is a file beside this one, such as console.mjs; its tests are its exported functions. Installs the pinned packages
// into target/browser once. Prints one line a test and last `browser: N passed, M failed`. Exits with 1 if a test failed.

import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { Browser } from "./browser.mjs";
import { Programs } from "./programs.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = resolve(HERE, "../..");
const TARGET = join(ROOT, "target", "browser");
/** The files with tests, one for each page. */
const PAGES = ["console", "fleet_page"];
/** A test that takes longer has failed. */
const TEST_SECONDS = 120;

function install() {
  const pins = readFileSync(join(HERE, "package-lock.json"), "utf8");
  const stamp = join(TARGET, ".pins");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === pins) return;
  mkdirSync(TARGET, { recursive: true });
  for (const name of ["package.json", "package-lock.json"]) copyFileSync(join(HERE, name), join(TARGET, name));
  const npm = spawnSync("npm", ["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], { cwd: TARGET, stdio: "inherit" });
  if (npm.status !== 0) throw new Error(`npm ci failed in ${TARGET}: ${npm.error ?? `exit code ${npm.status}`}; install Node.js 20 or newer with npm`);
  writeFileSync(stamp, pins);
}

function serverBinary(named) {
  const candidates = named ? [named] : ["release", "debug"].map((profile) => join(ROOT, "target", profile, "sanctum-server"));
  const found = candidates.find((candidate) => existsSync(candidate));
  if (!found) throw new Error(`no server at ${candidates.join(", ")}; build it (cargo build -p sanctum-server) or name it with --server`);
  return resolve(found);
}

/** What a test is given. Everything that it opens is closed at its end. */
class Test {
  constructor(name, { chromium, axe, server, screenshots }) {
    this.name = name;
    this.axe = axe;
    this.programs = new Programs({ root: ROOT, target: TARGET, server });
    this.browser = new Browser({ chromium, axe, screenshots, name });
  }

  async close() {
    await this.browser.close();
    await this.programs.close();
  }
}

async function limited(promise, seconds) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the test takes longer than ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function run(tests, options) {
  let passed = 0;
  let failed = 0;
  for (const [name, body] of tests) {
    const test = new Test(name, options);
    const began = performance.now();
    let problem = null;
    try {
      await limited(body(test), TEST_SECONDS);
      // What no test expects, and each would miss: scripts that failed, blocked or left the machine.
      await test.browser.assertClean();
    } catch (error) {
      problem = error;
    }
    await test.close().catch((error) => {
      problem ??= error;
    });
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    if (problem === null) {
      passed += 1;
      console.log(`ok ${name} (${seconds} s)`);
    } else {
      failed += 1;
      console.log(`failed ${name} (${seconds} s)\n${String(problem.stack ?? problem).replace(/^/gm, "    ")}`);
      for (const line of test.programs.lastLines(8)) console.log(`    | ${line}`);
    }
  }
  return { passed, failed };
}

async function main() {
  const { values, positionals } = parseArgs({
    options: { server: { type: "string" }, screenshots: { type: "string" } },
    allowPositionals: true,
  });
  const wanted = (positionals.length > 0 ? positionals : PAGES).map((argument) => argument.split(":"));
  const tests = [];
  for (const [page, filter = ""] of wanted) {
    if (!PAGES.includes(page)) throw new Error(`unknown page \`${page}\`; there are ${PAGES.join(", ")}`);
    const all = Object.entries(await import(`./${page}.mjs`));
    const chosen = all.filter(([name]) => name.includes(filter));
    if (chosen.length === 0) throw new Error(`no test of ${page} has \`${filter}\` in its name`);
    tests.push(...chosen.map(([name, body]) => [`${page}:${name}`, body]));
  }
  install();
  const require = createRequire(join(TARGET, "package.json"));
  const options = {
    chromium: require("playwright-core").chromium,
    axe: readFileSync(require.resolve("axe-core/axe.min.js"), "utf8"),
    server: serverBinary(values.server),
    screenshots: values.screenshots && resolve(values.screenshots),
  };
  if (options.screenshots) mkdirSync(options.screenshots, { recursive: true });
  const { passed, failed } = await run(tests, options);
  console.log(`browser: ${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error) => {
    console.error(`tests/browser/run.mjs: ${error.message}`);
    process.exit(2);
  },
);
