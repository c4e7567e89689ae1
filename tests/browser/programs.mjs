// Starts the programs whose pages are tested, each in an empty home, and ends them.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";

const READY_SECONDS = 60;

/** One started program. */
class Program {
  constructor(command, args, { env, home }) {
    this.home = home;
    this.lines = [];
    this.waiting = [];
    const keep = Object.fromEntries(["PATH", "LANG", "TMPDIR"].filter((name) => name in process.env).map((name) => [name, process.env[name]]));
    this.child = spawn(command, args, { cwd: home, env: { ...keep, HOME: home, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    this.ended = new Promise((resolve) => this.child.once("close", resolve));
    this.child.once("error", (error) => this.lines.push(String(error)));
    for (const pipe of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: pipe }).on("line", (line) => {
        this.lines.push(line);
        this.waiting.forEach((check) => check());
      });
    }
    this.ended.then(() => this.waiting.forEach((check) => check()));
  }

  /** Waits for a line of output for which `wanted` returns something other than null or undefined, and returns that. */
  async logs(what, wanted) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${what} is not in the output:\n${this.lines.join("\n")}`)), READY_SECONDS * 1000);
      const check = () => {
        const found = this.lines.map(wanted).find((value) => value !== null && value !== undefined);
        const hasEnded = this.child.exitCode !== null || this.child.signalCode !== null;
        if (found === undefined && !hasEnded) return;
        clearTimeout(timer);
        this.waiting = this.waiting.filter((other) => other !== check);
        if (found === undefined) reject(new Error(`the program ended before ${what}:\n${this.lines.join("\n")}`));
        else resolve(found);
      };
      this.waiting.push(check);
      check();
    });
  }

  signal(name) {
    this.child.kill(name);
  }

  async close() {
    this.signal("SIGKILL");
    await this.ended;
  }
}

/** A sanctum-server that is ready. */
class Server {
  constructor(program, url) {
    this.program = program;
    this.url = url;
  }

  /** Sends a request from this program and returns status, headers and JSON. */
  async ask(path, { body, headers = {}, method } = {}) {
    const response = await fetch(this.url + path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    let json = null;
    try {
      json = JSON.parse(text);
    } catch {
      // Not every page is JSON.
    }
    return { status: response.status, headers: response.headers, text, json };
  }

  /** Reads a page of JSON until it satisfies `wanted`, and returns it. */
  async shows(path, what, wanted, headers = {}) {
    const end = performance.now() + READY_SECONDS * 1000;
    for (;;) {
      const { json } = await this.ask(path, { headers });
      if (json !== null && wanted(json)) return json;
      assert(performance.now() < end, `${what}: ${path} is ${JSON.stringify(json)}`);
    }
  }
}

/** The programs of one test. */
export class Programs {
  constructor({ root, target, server }) {
    this.root = root;
    this.target = target;
    this.serverBinary = server;
    this.started = [];
    this.folders = [];
  }

  /** A temporary folder, removed at the end of the test. */
  folder() {
    const folder = mkdtempSync(join(tmpdir(), "sanctum-browser-"));
    this.folders.push(folder);
    return folder;
  }

  /** A file that only its owner can read, as tokens must be. */
  secretFile(text) {
    const file = join(this.folder(), "secret");
    writeFileSync(file, text);
    chmodSync(file, 0o600);
    return file;
  }

  /** Another program of the same build, such as sanctum-launchd. */
  binary(name) {
    return join(dirname(this.serverBinary), name);
  }

  /** Starts any program. */
  start(command, args, { env = {}, home = this.folder() } = {}) {
    const program = new Program(command, args, { env, home });
    this.started.push(program);
    return program;
  }

  /** Starts a sanctum-server on a free port and waits until it is ready. */
  async server(args = [], env = {}) {
    const program = this.start(this.serverBinary, ["--port", "0", "--log-format", "json", ...args], { env });
    const address = await program.logs("the line `ready`", (line) => {
      try {
        const { message, address } = JSON.parse(line);
        return message === "ready" ? address : null;
      } catch {
        return null;
      }
    });
    return new Server(program, address);
  }

  /** The folder of the model that says what tests/clients/scripts.py scripts. */
  scriptedModel() {
    const folder = join(this.target, "scripted");
    const clients = join(this.root, "tests", "clients");
    const made = spawnSync("python3", [join(clients, "checkpoints.py"), "scripted", folder], { encoding: "utf8" });
    assert.equal(made.status, 0, made.stderr);
    assert(existsSync(join(folder, "config.json")));
    return folder;
  }

  lastLines(count) {
    return this.started.flatMap((program) => program.lines.slice(-count));
  }

  async close() {
    await Promise.all(this.started.map((program) => program.close()));
    for (const folder of this.folders) rmSync(folder, { recursive: true, force: true });
  }
}
