// The console of sanctum-server: the page at GET /.

import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

import { DESKTOP, PHONE } from "./browser.mjs";

const TOKEN = "5f0c3f6c1f0b4c6d9a1e2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f70";
const COUNT = "Count from 1 to 40.";

/** The last answer on a page, once it is complete. */
async function answer(page, turns = 1) {
  const last = page.locator(".turn.assistant").nth(turns - 1);
  await last.locator(".facts").waitFor();
  return last;
}

async function ask(page, text) {
  await page.locator("#prompt").fill(text);
  await page.locator("#prompt").press("Enter");
}

/** A page that is connected and has a model to ask. */
async function open(test, server, options) {
  const page = await test.browser.open(server.url + "/", options);
  await page.locator('#state[data-state="ok"]').waitFor();
  await page.locator("#model:enabled").waitFor();
  return page;
}

/** A server that asks everyone for the token. */
async function locked(test, args = [], env = {}) {
  const file = test.programs.secretFile(TOKEN + "\n");
  return test.programs.server(["--loopback", "required", "--auth-token-file", file, ...args], env);
}

/** Notes the length of the last answer whenever it changes. */
function recordLengths(page) {
  return page.evaluate(() => {
    window.lengths = [];
    new MutationObserver(() => {
      const body = document.querySelector(".turn.assistant > .text");
      const length = body?.textContent.length ?? 0;
      if (length !== window.lengths.at(-1)) window.lengths.push(length);
    }).observe(document.getElementById("turns"), { childList: true, characterData: true, subtree: true });
  });
}

export async function chat_streams_the_answer(test) {
  const server = await test.programs.server();
  const page = await open(test, server);
  await test.browser.screenshot(page, "console-empty");
  await recordLengths(page);
  await ask(page, COUNT);
  const turn = await answer(page);
  assert.match(await turn.locator(".text").textContent(), /1, 2, 3/);
  assert.match(await turn.locator(".facts").textContent(), /tokens · .* tokens\/s/);
  const lengths = await page.evaluate(() => window.lengths);
  assert(lengths.length > 10, `the text did not grow: ${lengths}`);
  assert.deepEqual(lengths, [...lengths].sort((a, b) => a - b));
  // The conversation goes on, and the server knows what was said.
  await ask(page, "What is 2+2? Respond with only the number.");
  await answer(page, 2);
  assert.equal(await page.locator(".turn").count(), 4);
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
  assert.match(await page.locator("#announce").textContent(), /^Answer: /);
  await test.browser.screenshot(page, "console-chat");
  await page.locator("#new").click();
  assert.equal(await page.locator(".turn").count(), 0);
  assert(await page.locator("#empty").isVisible());
}

export async function page_keeps_nothing(test) {
  const server = await test.programs.server();
  const page = await open(test, server);
  await ask(page, "What is 2+2?");
  await answer(page);
  const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie, location.href]);
  assert.deepEqual(kept, [0, 0, "", server.url + "/"]);
  await page.reload();
  await page.locator("#model:enabled").waitFor();
  assert.equal(await page.locator(".turn").count(), 0);
}

export async function enter_sends_and_shift_enter_starts_a_line(test) {
  const server = await test.programs.server();
  const page = await open(test, server);
  const prompt = page.locator("#prompt");
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
  await page.keyboard.type("What is");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("2+2?");
  assert.equal(await prompt.inputValue(), "What is\n2+2?");
  assert.equal(await page.locator(".turn").count(), 0);
  await page.keyboard.press("Enter");
  await answer(page);
  assert.equal(await page.locator(".turn.user .text").textContent(), "What is\n2+2?");
  assert.equal(await prompt.inputValue(), "");
  // A message of white space is none.
  await page.keyboard.type("  ");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(".turn").count(), 2);
}

export async function token_is_asked_once_and_kept_in_memory(test) {
  const server = await locked(test);
  const page = await test.browser.open(server.url + "/");
  const requests = [];
  page.on("request", (request) => requests.push({ url: request.url(), token: request.headers().authorization }));
  const field = page.getByLabel("Token", { exact: true });
  await field.waitFor();
  assert(await page.locator("#console-view").isHidden());
  assert.equal(await page.evaluate(() => document.activeElement.id), "token");
  assert.equal(await page.locator("#token-problem").textContent(), "");
  await test.browser.screenshot(page, "console-token");
  await test.browser.assertAccessible(page);

  await field.fill("0".repeat(64));
  await page.keyboard.press("Enter");
  await page.getByText("The server does not accept this token").waitFor();
  assert.equal(await field.inputValue(), "");
  await test.browser.screenshot(page, "console-token-wrong");
  await field.fill("bäd token");
  await page.getByRole("button", { name: "Use token" }).click();
  await page.getByText("one line of visible ASCII").waitFor();

  await field.fill(TOKEN);
  await page.keyboard.press("Enter");
  await page.locator("#model:enabled").waitFor();
  await ask(page, "What is 2+2?");
  await answer(page);
  const used = requests.filter((request) => request.token === `Bearer ${TOKEN}`);
  assert(used.some(({ url }) => url.endsWith("/v1/chat/completions")), JSON.stringify(requests));
  assert(requests.every(({ url }) => !url.includes(TOKEN)));
  const kept = await page.evaluate(() => [
    document.documentElement.outerHTML,
    JSON.stringify([{ ...localStorage }, { ...sessionStorage }]),
    document.cookie,
    location.href,
    JSON.stringify(history.state),
    [...document.querySelectorAll("input")].map((one) => one.value).join(),
  ]);
  assert(kept.every((text) => !String(text).includes(TOKEN)));
  // With the page, the token is gone.
  await page.reload();
  await field.waitFor();
}

export async function changed_token_is_asked_again_and_the_conversation_stays(test) {
  const file = test.programs.secretFile(TOKEN);
  const server = await test.programs.server(["--loopback", "required", "--auth-token-file", file]);
  const page = await test.browser.open(server.url + "/");
  await page.getByLabel("Token", { exact: true }).fill(TOKEN);
  await page.keyboard.press("Enter");
  await page.locator("#model:enabled").waitFor();
  await ask(page, "What is 2+2?");
  await answer(page);
  const other = TOKEN.replace(/^5/, "6");
  writeFileSync(file, other);
  server.program.signal("SIGHUP");
  await page.getByText("The server does not accept this token").waitFor();
  await page.getByLabel("Token", { exact: true }).fill(other);
  await page.keyboard.press("Enter");
  await page.locator("#console-view").waitFor();
  assert.equal(await page.locator(".turn").count(), 2);
  await page.locator('#state[data-state="ok"]').waitFor();
}

export async function hostile_answer_is_shown_as_text(test) {
  const model = test.programs.scriptedModel();
  const server = await test.programs.server(["--model", `scripted=${model}`]);
  const page = await open(test, server);
  await ask(page, "[hostile]");
  const turn = await answer(page);
  const text = await turn.locator(".text").textContent();
  for (const shown of ['<img src=x onerror="', "<script>", "javascript:", "&lt;b&gt;", "U+202E", "U+001B", "U+2066", "U+200B"]) {
    assert(text.includes(shown), `${shown} is not in ${JSON.stringify(text)}`);
  }
  assert.doesNotMatch(text, /[\u001b\u202e\u2066\u200b]/);
  assert.equal(await page.evaluate(() => window.owned), undefined);
  assert.equal(await turn.locator("img, script, a, iframe, b").count(), 0);
  await test.browser.screenshot(page, "console-hostile");

  await page.getByLabel("Reasoning").check();
  await ask(page, "[hostile-reason]");
  const second = await answer(page, 2);
  const folded = second.locator("details");
  assert.equal(await folded.getAttribute("open"), null);
  const thought = folded.locator(".text");
  assert(await thought.isHidden());
  await folded.locator("summary").click();
  assert.match(await thought.textContent(), /<iframe srcdoc=/);
  assert.match(await second.locator(":scope > .text").textContent(), /after a hostile thought/);
  assert.equal(await page.evaluate(() => window.owned), undefined);
  await test.browser.screenshot(page, "console-reasoning");
  await test.browser.assertAccessible(page);
}

/** The file while which an engine of a debug build stops. */
function freezer(test) {
  const file = join(test.programs.folder(), "frozen");
  return { env: { SANCTUM_FREEZE_ENGINE: file }, freeze: () => writeFileSync(file, ""), thaw: () => rmSync(file) };
}

export async function stop_cancels_the_request_on_the_server(test) {
  const { env, freeze, thaw } = freezer(test);
  const server = await test.programs.server([], env);
  const page = await open(test, server);
  freeze();
  await ask(page, COUNT);
  await server.shows("/health", "the request runs", (health) => health.in_flight === 1);
  const stop = page.getByRole("button", { name: "Stop" });
  await test.browser.screenshot(page, "console-waiting");
  await stop.focus();
  await page.keyboard.press("Enter");
  const turn = await answer(page);
  assert.match(await turn.locator(".facts").textContent(), /^Stopped/);
  assert(await page.getByRole("button", { name: "Send", exact: true }).isVisible());
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
  thaw();
  await server.shows("/health", "the request is cancelled", (health) => health.in_flight === 0 && health.queued === 0);
  const metrics = (await server.ask("/metrics")).text;
  assert.match(metrics, /sanctum_generations_total\{model="sanctum-tiny",outcome="cancelled"\} 1/);
  // The page can be used as before.
  await ask(page, "What is 2+2?");
  await answer(page, 2);
}

export async function escape_stops_too(test) {
  const { env, freeze, thaw } = freezer(test);
  const server = await test.programs.server([], env);
  const page = await open(test, server);
  freeze();
  await ask(page, COUNT);
  await server.shows("/health", "the request runs", (health) => health.in_flight === 1);
  await page.keyboard.press("Escape");
  await answer(page);
  thaw();
  await server.shows("/health", "the request is cancelled", (health) => health.in_flight === 0);
}

export async function full_server_is_shown_with_the_time_to_wait(test) {
  const { env, freeze, thaw } = freezer(test);
  const server = await locked(test, ["--max-requests-per-client", "1"], env);
  const page = await test.browser.open(server.url + "/");
  await page.getByLabel("Token", { exact: true }).fill(TOKEN);
  await page.keyboard.press("Enter");
  await page.locator("#model:enabled").waitFor();
  freeze();
  const headers = { authorization: `Bearer ${TOKEN}` };
  const other = server.ask("/v1/completions", { headers, body: { prompt: "Count", max_tokens: 5, ignore_eos: true } });
  await server.shows("/health", "the other request runs", (health) => health.in_flight === 1, headers);
  await ask(page, "What is 2+2?");
  const problem = page.locator(".problem");
  await problem.waitFor();
  assert.match(await problem.textContent(), /This client has 1 requests running already.*asks you to wait 1 s/);
  await test.browser.screenshot(page, "console-problem");
  await test.browser.assertAccessible(page);
  thaw();
  await other;
  const again = problem.getByRole("button", { name: "Send again", exact: true });
  await again.click();
  const turn = await answer(page);
  assert.match(await turn.locator(".text").textContent(), /4/);
  assert.equal(await page.locator(".turn").count(), 2);
  // Who was refused is listed.
  await page.locator("#refusals li", { hasText: "429 too_many" }).waitFor();
}

export async function server_that_ends_in_the_middle_is_shown(test) {
  const { env, freeze } = freezer(test);
  const server = await test.programs.server([], env);
  const page = await open(test, server);
  freeze();
  await ask(page, COUNT);
  await server.shows("/health", "the request runs", (health) => health.in_flight === 1);
  server.program.signal("SIGKILL");
  await page.locator(".problem").waitFor();
  assert.match(await page.locator(".problem").textContent(), /does not answer|ended before the answer was complete/);
  await page.locator('#state[data-state="gone"]').waitFor();
  await page.locator("#status-problem", { hasText: "does not answer" }).waitFor();
}

export async function live_state_shows_requests_clients_and_refusals(test) {
  const { env, freeze, thaw } = freezer(test);
  const server = await test.programs.server([], env);
  const page = await open(test, server);
  assert.match(await page.locator("#state-detail").textContent(), /^Version \d+\.\d+\.\d+, up \d+ s, \d+ connection/);
  await page.getByText("None since the server started.").waitFor();
  await ask(page, COUNT);
  await answer(page);
  await server.ask("/v1/chat/completions", { body: { messages: "hi" } });
  await page.locator("#refusals li", { hasText: "400 invalid_request_error" }).waitFor();
  assert.match(await page.locator("#refusals li").first().textContent(), /POST \/v1\/chat\/completions, loopback at 127.0.0.1/);
  freeze();
  const other = server.ask("/v1/completions", { body: { prompt: "Count", max_tokens: 5, ignore_eos: true } });
  await page.locator("#requests-now", { hasText: "1" }).waitFor();
  const loopback = page.locator("#clients tr", { hasText: "loopback" });
  await loopback.getByRole("cell", { name: "now" }).waitFor();
  thaw();
  await other;
  const described = await page.locator("#chart-tokens svg").getAttribute("aria-label");
  assert.match(described, /^Last 1 minute\. tokens generated a second: now .*, at most \d/);
  assert.match(await page.locator("#chart-tokens path.first").getAttribute("d"), /^M.*L/);
  await test.browser.screenshot(page, "console-status");
}

export async function front_shows_its_upstreams(test) {
  const upstream = await test.programs.server();
  const gone = "http://127.0.0.1:9";
  const front = await test.programs.server(["--upstream", `sanctum-tiny=${upstream.url}`, "--upstream", `sanctum-tiny=${gone}`]);
  const page = await open(test, front);
  await ask(page, "What is 2+2?");
  const turn = await answer(page);
  assert.match(await turn.locator(".facts").textContent(), /answered by 127\.0\.0\.1:/);
  await page.locator('#upstreams li[data-state="open"]', { hasText: "down" }).waitFor();
  assert.equal(await page.locator("#upstreams li").count(), 2);
  assert(await page.locator("#card-memory").isHidden());
  await test.browser.screenshot(page, "console-front");
  await test.browser.assertAccessible(page);
}

export async function other_website_gets_nothing(test) {
  const server = await test.programs.server();
  const website = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html><title>other</title>"));
  await new Promise((resolve) => website.listen(0, "127.0.0.1", resolve));
  try {
    const page = await test.browser.open(`http://127.0.0.1:${website.address().port}/`, { isQuiet: true });
    const outcomes = await page.evaluate(async (base) => {
      const body = JSON.stringify({ messages: [{ role: "user", content: "hi" }], max_tokens: 1 });
      const attempt = async (path, options) => {
        try {
          const response = await fetch(base + path, options);
          return response.type === "opaque" ? "opaque" : `read ${response.status}`;
        } catch {
          return "blocked";
        }
      };
      const loads = (name, attributes) =>
        new Promise((resolve) => {
          const made = Object.assign(document.createElement(name), attributes);
          made.onload = () => resolve("loaded");
          made.onerror = () => resolve("blocked");
          document.body.append(made);
        });
      const framed = document.createElement("iframe");
      const isFramed = new Promise((resolve) => (framed.onload = resolve));
      framed.src = base + "/";
      document.body.append(framed);
      await isFramed;
      let frame = "blocked";
      try {
        frame = framed.contentDocument === null ? "blocked" : "read";
      } catch {
        // Another origin.
      }
      return {
        status: await attempt("/status"),
        chat: await attempt("/v1/chat/completions", { method: "POST", headers: { "content-type": "application/json" }, body }),
        form: await attempt("/v1/chat/completions", { method: "POST", mode: "no-cors", headers: { "content-type": "text/plain" }, body }),
        script: await loads("script", { src: base + "/console.js" }),
        icon: await loads("img", { src: base + "/console.svg" }),
        frame,
      };
    }, server.url);
    assert.deepEqual(outcomes, { status: "blocked", chat: "blocked", form: "opaque", script: "blocked", icon: "blocked", frame: "blocked" });
    // What could not be read was not done either.
    const { refusals } = (await server.ask("/status")).json;
    assert(refusals.every(({ code, status }) => code === "origin" && status === 403), JSON.stringify(refusals));
    const metrics = (await server.ask("/metrics")).text;
    assert.doesNotMatch(metrics, /sanctum_generations_total\{/);
  } finally {
    website.close();
  }
}

export async function page_works_by_the_name_localhost(test) {
  const server = await test.programs.server();
  server.url = server.url.replace("127.0.0.1", "localhost");
  const page = await open(test, server);
  await ask(page, "What is 2+2?");
  await answer(page);
}

export async function phone_needs_no_sideways_scroll(test) {
  const model = test.programs.scriptedModel();
  const server = await test.programs.server(["--model", `scripted=${model}`, "--model", `sanctum-tiny=${join(test.programs.root, "models/tiny")}`]);
  await server.ask("/v1/nothing-of-a-very-long-name-that-no-route-has");
  const page = await open(test, server, { size: PHONE });
  await test.browser.assertFits(page);
  await test.browser.screenshot(page, "console-phone-empty");
  await ask(page, "[hostile] " + "x".repeat(300));
  await answer(page);
  await test.browser.assertFits(page);
  await test.browser.screenshot(page, "console-phone-chat");
  assert(await page.locator("#status").isHidden());
  await page.getByRole("button", { name: "Status" }).click();
  assert(await page.locator("#chat").isHidden());
  await page.locator("#refusals li").first().waitFor();
  await test.browser.assertFits(page);
  await test.browser.assertAccessible(page);
  await test.browser.screenshot(page, "console-phone-status");
  await page.locator("#status").evaluate((node) => node.scrollTo(0, node.scrollHeight));
  await test.browser.screenshot(page, "console-phone-status-end");

  const asks = await locked(test);
  const token = await test.browser.open(asks.url + "/", { size: PHONE });
  await token.getByLabel("Token", { exact: true }).waitFor();
  await test.browser.assertFits(token);
  await test.browser.screenshot(token, "console-phone-token");
}

export async function light_and_dark_are_accessible(test) {
  const server = await test.programs.server();
  const brightness = (page) =>
    page.evaluate(() => {
      const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
      return (red + green + blue) / 3;
    });
  for (const [scheme, isRight] of [
    ["light", (value) => value > 200],
    ["dark", (value) => value < 50],
  ]) {
    for (const [size, name] of [
      [DESKTOP, "desktop"],
      [PHONE, "phone"],
    ]) {
      const page = await open(test, server, { scheme, size });
      assert(isRight(await brightness(page)), scheme);
      await test.browser.assertAccessible(page);
      await ask(page, "What is the capital of Kenya?");
      await answer(page);
      await test.browser.assertAccessible(page);
      await test.browser.screenshot(page, `console-${scheme}-${name}`);
      await page.close();
    }
  }
}

export async function everything_is_reached_by_the_keyboard(test) {
  const server = await test.programs.server();
  const page = await open(test, server);
  // From the beginning of the page.
  await page.locator("h1").click();
  const reached = [];
  for (let presses = 0; presses < 30; presses += 1) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => {
      const one = document.activeElement;
      const style = getComputedStyle(one.id === "prompt" ? one.parentElement : one);
      const isVisible = style.outlineStyle !== "none" || style.boxShadow !== "none";
      return one === document.body ? null : { name: one.id || one.textContent, isVisible };
    });
    if (focused === null || focused.name === reached[0]?.name) break;
    reached.push(focused);
  }
  assert.deepEqual(
    reached.map(({ name }) => name),
    ["model", "new", "transcript", "What is 23 minus 61?", "What is the capital of Kenya?", "Reverse the word lantern.", "prompt", "send", "reasoning", "status"],
  );
  assert(reached.every(({ isVisible }) => isVisible), JSON.stringify(reached));
  // An example is asked, the conversation is read and left by keys alone.
  await page.locator("#examples button").first().focus();
  await page.keyboard.press("Enter");
  await answer(page);
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
  await page.keyboard.press("Shift+Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "transcript");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Space");
  assert.equal(await page.locator(".turn").count(), 0);
}
