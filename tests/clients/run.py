#!/usr/bin/env python3
"""Runs real clients against sanctum-server. Standard library only.

    tests/clients/run.py [--server BINARY] [PROGRAM …]

Installs the pinned clients into target/clients once, writes a scripted checkpoint, starts the server on a free port of
loopback with it and the built-in model, and runs every program (or those that are named) in a home of its own, with
dummy keys and no network beyond loopback. Prints each failed case, one line a program, and last
`clients: N passed, M failed`. Exits with 1 if a case failed.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = ROOT / "target" / "clients"
PROGRAM_SECONDS = 180
READY_SECONDS = 60

# The environment (a requirements file) of each program; None is Node's.
PROGRAMS = {
    "openai_chat.py": "requirements.txt",
    "openai_responses.py": "requirements.txt",
    "anthropic_messages.py": "requirements.txt",
    "pydantic_ai_agents.py": "requirements.txt",
    "openai_agents_runs.py": "requirements.txt",
    "langchain_chat.py": "requirements.txt",
    "instructor_models.py": "requirements-instructor.txt",
    "smolagents_agents.py": "requirements.txt",
    "litellm_bridges.py": "requirements.txt",
    "lm_eval_completions.py": "requirements-lm-eval.txt",
    "ai_sdk.mjs": None,
}


def installed(folder, wanted, install):
    """Runs `install` unless the folder was made from the same pins."""
    stamp, digest = folder / ".pins", hashlib.sha256(wanted).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    install()
    stamp.write_text(digest)


def python_for(requirements):
    """The interpreter of the environment that has these requirements."""
    folder = TARGET / pathlib.Path(requirements).stem
    python = folder / "bin" / "python"
    pins = HERE / requirements

    def install():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        # Every package is pinned, so there is nothing to resolve; what is imported compiles then.
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--requirement", pins]
        subprocess.run(command, check=True)

    installed(folder, pins.read_bytes() + sys.version.encode(), install)
    return python


def node_modules():
    """The folder in which the programs for Node find their packages."""
    folder = TARGET / "node"

    def install():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("npm is missing: install Node.js 20 or newer, or name the programs to run without it")
        subprocess.run([npm, "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, check=True)

    installed(folder, (HERE / "package-lock.json").read_bytes(), install)
    return folder


def environment(home, **more):
    """Nothing of the caller's but the path: no keys, no settings, no proxies."""
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "CLIENTS_TRACEBACK") if name in os.environ}
    return keep | {"HOME": str(home)} | more


class Server:
    """A sanctum-server on a free port, killed at the end of the `with` block."""

    def __init__(self, binary, models, arguments=()):
        self.home = tempfile.mkdtemp(prefix="sanctum-clients-")
        command = [binary, "--port", "0", "--log-format", "json", *arguments]
        for model in models:
            command += ["--model", model]
        self.log_path = TARGET / "server.log"
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment(self.home), text=True)
        self.ready = queue.Queue()
        threading.Thread(target=self.follow, daemon=True).start()
        try:
            self.url = self.ready.get(timeout=READY_SECONDS)
        except queue.Empty:
            self.url = None
        if self.url is None:
            self.process.kill()
            raise SystemExit(f"the server did not start; its log:\n{self.log_path.read_text()}")

    def follow(self):
        with open(self.log_path, "w") as log:
            for line in self.process.stderr:
                log.write(line)
                log.flush()
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    if entry.get("message") == "ready":
                        self.ready.put(entry["address"])
        self.ready.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.home, ignore_errors=True)


def run_program(name, server, cases=()):
    """Returns (passed, [failed case: why], seconds)."""
    requirements = PROGRAMS[name]
    with tempfile.TemporaryDirectory(prefix="sanctum-home-") as home:
        env = environment(
            home,
            SANCTUM_URL=server.url,
            OPENAI_API_KEY="dummy",
            OPENAI_BASE_URL=server.url + "/v1",
            ANTHROPIC_API_KEY="dummy",
            ANTHROPIC_BASE_URL=server.url,
            # What these libraries would otherwise send to or fetch from the network beside their requests to a model.
            OPENAI_AGENTS_DISABLE_TRACING="1",
            LITELLM_LOCAL_MODEL_COST_MAP="True",
            HF_HUB_OFFLINE="1",
            PYTHONPATH=f"{HERE / 'loopback'}:{HERE}",
        )
        if requirements is None:
            # Node looks packages up from the program's own folder.
            program = node_modules() / name
            shutil.copy(HERE / name, program)
            command = ["node", "--require", HERE / "loopback" / "require.cjs", program]
        else:
            command = [python_for(requirements), HERE / name]
        started = time.monotonic()
        try:
            done = subprocess.run([*command, *cases], env=env, cwd=home, text=True, capture_output=True, timeout=PROGRAM_SECONDS)
            output, noise, code = done.stdout, done.stderr, done.returncode
        except subprocess.TimeoutExpired as error:
            output, noise = ((data or b"").decode(errors="replace") for data in (error.stdout, error.stderr))
            code = f"killed after {PROGRAM_SECONDS} s"
        seconds = time.monotonic() - started
    lines = output.splitlines()
    passed = sum(line.startswith("ok ") for line in lines)
    failed = [line.removeprefix("failed ") for line in lines if line.startswith("failed ")]
    if (code != 0 and not failed) or (code == 0 and not passed):
        failed.append(f"the program itself: exit code {code}; the end of its output:\n    " + "\n    ".join([*lines, *noise.splitlines()][-12:]))
    if os.environ.get("CLIENTS_TRACEBACK"):
        print(output + noise)
    return passed, failed, seconds


def server_binary(named):
    candidates = [named] if named else [ROOT / "target" / profile / "sanctum-server" for profile in ("release", "debug")]
    for candidate in candidates:
        if pathlib.Path(candidate).is_file():
            return pathlib.Path(candidate).resolve()
    raise SystemExit(f"no server at {', '.join(map(str, candidates))}; build it (cargo build --release -p sanctum-server) or name it with --server")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--server", help="the sanctum-server binary [default: target/release, else target/debug]")
    parser.add_argument("--install-only", action="store_true", help="install the clients and exit")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="programs at once [default: one a core, at most 4]")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM[:CASE]", help="only these: openai_chat.py, or openai_chat.py:parse")
    args = parser.parse_args()
    started = time.monotonic()
    chosen = {}
    for argument in args.programs or PROGRAMS:
        name, _, case = argument.partition(":")
        if name not in PROGRAMS:
            parser.error(f"unknown program `{name}`; there are {', '.join(PROGRAMS)}")
        chosen.setdefault(name, []).extend([case] if case else [])

    TARGET.mkdir(parents=True, exist_ok=True)
    for requirements in dict.fromkeys(PROGRAMS[name] for name in chosen):
        node_modules() if requirements is None else python_for(requirements)
    print(f"clients are installed ({time.monotonic() - started:.0f} s)", flush=True)
    if args.install_only:
        return 0

    subprocess.run([sys.executable, HERE / "checkpoints.py", "scripted", TARGET / "scripted"], check=True)
    # lm-eval asks for the tokenizer without naming a model, so the built-in one is the first.
    models = [f"sanctum-tiny={ROOT / 'models' / 'tiny'}", f"scripted={TARGET / 'scripted'}"]
    passed = failed = 0
    with Server(server_binary(args.server), models) as server, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        runs = {pool.submit(run_program, name, server, cases): name for name, cases in chosen.items()}
        for run in concurrent.futures.as_completed(runs):
            ok, bad, seconds = run.result()
            for why in bad:
                print(f"  failed: {runs[run]}: {why}")
            print(f"{runs[run]}: {ok} passed, {len(bad)} failed ({seconds:.1f} s)", flush=True)
            passed, failed = passed + ok, failed + len(bad)
        if server.process.poll() is not None:
            failed += 1
            print(f"  failed: the server ended with code {server.process.returncode}; its log: {server.log_path}")
    print(f"clients took {time.monotonic() - started:.0f} s")
    print(f"clients: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
