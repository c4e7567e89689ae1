#!/usr/bin/env python3
"""Hostile constraint test: a model with random weights at temperature 2 must satisfy every schema that is accepted.

    tests/clients/constraints.py [--server BINARY] [--schemas N] [--tools M] [--seed S]

Half of the N schemas are of the JSON-Schema-Test-Suite (as many as it has), the rest is generated. Every finished answer
must parse and validate, and every refusal must be a 400 that names a keyword of the schema. M generated sets of strict
tools are asked for calls, with `tool_choice` required or a named function, plain and streaming; 16 requests run at once.
An answer that max_tokens cut is counted and not checked. Prints `constraints: N passed, M failed` last.
"""

import argparse
import collections
import concurrent.futures
import datetime
import functools
import http.client
import json
import os
import pathlib
import random
import re
import sys
import time
import urllib.parse

import run

AT_ONCE = 16
MODEL = "random"
MAX_TOKENS = 600
REQUEST_SECONDS = 120
#: Finished answers in percent of those that were not refused, at least: a test of cut answers would show nothing.
LEAST_FINISHED = 40

KEYWORDS = set(
    """$anchor $comment $defs $dynamicAnchor $dynamicRef $id $ref $schema $vocabulary additionalProperties allOf anyOf const contains
    contentEncoding contentMediaType contentSchema default definitions dependencies dependentRequired dependentSchemas deprecated description else enum
    examples exclusiveMaximum exclusiveMinimum format if items maxContains maxItems maxLength maxProperties maximum minContains minItems minLength
    minProperties minimum multipleOf not oneOf pattern patternProperties prefixItems properties propertyNames readOnly required then title type
    unevaluatedItems unevaluatedProperties uniqueItems writeOnly""".split()
)


class Request(Exception):
    """A request that did not end as it should; the text says how."""


class Api:
    """The server's chat completions."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url).netloc

    def post(self, body):
        """(status, the answer's text) of one request."""
        connection = http.client.HTTPConnection(self.address, timeout=REQUEST_SECONDS)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def choice(self, body):
        """The first choice of an answer: (message, finish_reason, None), or (None, None, error)."""
        status, text = self.post(body)
        if status == 400:
            return None, None, json.loads(text)["error"]
        if status != 200:
            raise Request(f"status {status}: {text[:300]}")
        if not body.get("stream"):
            choice = json.loads(text)["choices"][0]
            return choice["message"], choice["finish_reason"], None
        return *joined(text), None


def joined(text):
    """The message that a stream makes, and its finish_reason; checks the rules of streamed calls."""
    message, calls, reason, done = {"content": ""}, {}, None, False
    for block in text.split("\n\n"):
        data = block.partition("data: ")[2]
        if data == "[DONE]":
            done = True
            continue
        if not data:
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            raise Request(f"the stream ended with an error: {chunk['error']}")
        for choice in chunk["choices"]:
            reason = choice.get("finish_reason") or reason
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            for part in delta.get("tool_calls") or []:
                function = part.get("function") or {}
                if part["index"] not in calls:
                    if not function.get("name") or not part.get("id"):
                        raise Request(f"the first delta of a call has no name or no id: {part}")
                    calls[part["index"]] = {"id": part["id"], "function": {"name": function["name"], "arguments": function.get("arguments") or ""}}
                elif "name" in function:
                    raise Request(f"a later delta of a call repeats the name: {part}")
                else:
                    calls[part["index"]]["function"]["arguments"] += function.get("arguments") or ""
    if not done:
        raise Request("the stream has no [DONE]")
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return message, reason


def keys(schema):
    """Every key in a schema, and so every keyword."""
    if isinstance(schema, dict):
        return set(schema) | {key for value in schema.values() for key in keys(value)}
    return {key for value in schema for key in keys(value)} if isinstance(schema, list) else set()


def check_refusal(error, schema):
    """A refusal is at the schema's place and names a keyword of it: in `param`, or in the message in quotes or in a path."""
    param, message = error.get("param") or "", error["message"]
    if not param.startswith(("response_format", "tools", "tool_choice")):
        raise Request(f"the refusal's param is not the schema's place: {error}")
    marked = re.findall(r"`[^`]*`|\"[^\"]*\"|'[^']*'|[\w$\[\]]+(?:[.][\w$\[\]]+)+", message)
    words = set(re.findall(r"[$\w]+", " ".join([param, *marked])))
    if isinstance(schema, (dict, list)) and not words & KEYWORDS & keys(schema):
        raise Request(f"the refusal names no keyword of the schema: {error}")


@functools.cache
def format_checker():
    """jsonschema's own formats, and those of RFC 3339 that it knows only with another package."""
    import jsonschema

    import schemas

    checker = jsonschema.FormatChecker([name for name in schemas.FORMATS if name in jsonschema.FormatChecker.checkers])
    clock = r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)([.]\d+)?(z|[+-]([01]\d|2[0-3]):[0-5]\d)"

    @checker.checks("time")
    def is_time(value):
        return not isinstance(value, str) or re.fullmatch(clock, value.lower(), re.ASCII) is not None

    @checker.checks("date-time", raises=ValueError)
    def is_date_time(value):
        if not isinstance(value, str):
            return True
        datetime.date.fromisoformat(value[:10])
        return value[10:11].lower() == "t" and is_time(value[11:])

    return checker


@functools.cache
def validator():
    """Draft 2020-12 with patterns in ECMA-262's meaning: `\\d` is an ASCII digit, `$` the end of the text."""
    import jsonschema

    def pattern(_, source, instance, __):
        anchored = source[:-1] + r"\Z" if source.endswith("$") and not source.endswith(r"\$") else source
        if isinstance(instance, str) and not re.search(anchored, instance, re.ASCII):
            yield jsonschema.ValidationError(f"{instance!r} does not match {source!r}")

    return jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": pattern})


def validate(instance, schema, assert_formats=True):
    formats = format_checker() if assert_formats else None
    errors = list(validator()(schema, format_checker=formats).iter_errors(instance))
    if errors:
        place = "/".join(map(str, errors[0].absolute_path))
        raise Request(f"does not validate at `{place}`: {errors[0].message[:200]} (keyword {errors[0].validator})")


def parsed(text):
    try:
        return json.loads(text)
    except ValueError as error:
        raise Request(f"does not parse: {error}: {text[:200]!r}") from error


def ask_schema(api, number, schema, generated):
    """`valid`, `cut` or `refused`."""
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"Answer number {number}."}], "temperature": 2, "seed": number,
            "max_tokens": MAX_TOKENS, "response_format": form, "stream": number % 4 == 3}  # fmt: skip
    message, reason, error = api.choice(body)
    if error:
        check_refusal(error, schema)
        return "refused"
    if reason == "length":
        return "cut"
    if reason != "stop":
        raise Request(f"finish_reason is {reason!r}")
    try:
        validate(parsed(message["content"]), schema, assert_formats=generated)
    except Request as problem:
        raise Request(f"{problem}; the answer: {message['content'][:200]!r}") from problem
    return "valid"


def ask_tools(api, number, tools, named, parallel, stream):
    functions = {tool["function"]["name"]: tool["function"].get("parameters") or {"type": "object", "properties": {}} for tool in tools}
    choice = {"type": "function", "function": {"name": next(iter(functions))}} if named else "required"
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"Call number {number}."}], "temperature": 2, "seed": number,
            "max_tokens": MAX_TOKENS, "tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel, "stream": stream}  # fmt: skip
    message, reason, error = api.choice(body)
    if error:
        check_refusal(error, [tool["function"].get("parameters") for tool in tools])
        return "refused"
    if reason == "length":
        return "cut"
    calls = message.get("tool_calls") or []
    if not calls:
        raise Request(f"there is no call; finish_reason is {reason!r}, the content {(message['content'] or '')[:200]!r}")
    if (named or not parallel) and len(calls) != 1:
        raise Request(f"there are {len(calls)} calls where one is allowed")
    if reason not in ("tool_calls", "stop"):
        raise Request(f"finish_reason is {reason!r}")
    for call in calls:
        function = call["function"]
        if function["name"] not in functions or (named and function["name"] != next(iter(functions))):
            raise Request(f"the function {function['name']!r} may not be called")
        try:
            arguments = parsed(function["arguments"])
            validate(arguments, functions[function["name"]])
        except Request as problem:
            raise Request(f"{problem}; the arguments of {function['name']}: {function['arguments'][:300]}") from problem
    return "valid"


def run_all(title, jobs, failures):
    """Runs (label, subject, function, arguments), 16 at once; returns how many passed."""
    outcomes = collections.Counter()
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(function, *arguments): (label, subject) for label, subject, function, arguments in jobs}
        for job in concurrent.futures.as_completed(running):
            label, subject = running[job]
            try:
                outcomes[job.result()] += 1
            except Exception as error:
                outcomes["failed"] += 1
                why = str(error) if isinstance(error, Request) else f"{type(error).__name__}: {error}"
                failures.append(f"{title}: {label}: {why}\n    {json.dumps(subject)[:600]}")
    counted = ", ".join(f"{outcomes[kind]} {kind}" for kind in ("valid", "cut", "refused", "failed"))
    print(f"{title}: {counted} ({time.monotonic() - started:.0f} s)", flush=True)
    answered = outcomes["valid"] + outcomes["cut"]
    if answered and outcomes["valid"] * 100 < LEAST_FINISHED * answered:
        failures.append(f"{title}: {outcomes['valid']} of {answered} answers finished, expected at least {LEAST_FINISHED}%")
    elif jobs and not answered and not outcomes["failed"]:
        failures.append(f"{title}: every request was refused")
    return outcomes["valid"] + outcomes["cut"] + outcomes["refused"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--server", help="the sanctum-server binary [default: target/release, else target/debug]")
    parser.add_argument("--schemas", type=int, default=60, metavar="N", help="schemas to ask for [default: 60]")
    parser.add_argument("--tools", type=int, default=30, metavar="M", help="sets of tools to ask for calls [default: 30]")
    parser.add_argument("--seed", type=int, default=15, help="of the generated schemas, the choice and the weights [default: 15]")
    args = parser.parse_args()
    python = run.python_for("requirements.txt")
    if pathlib.Path(sys.prefix).resolve() != python.parents[1].resolve():
        os.execv(python, [python, *sys.argv])

    import checkpoints
    import schemas

    binary = run.server_binary(args.server)
    checkpoints.random_weights(run.TARGET / MODEL, args.seed)
    requirement = next(line for line in (run.HERE / "requirements.txt").read_text().split() if line.startswith("jsonschema=="))
    public = schemas.suite(run.TARGET / "suite", python, requirement)
    draw = random.Random(args.seed)
    public = draw.sample(public, min(len(public), args.schemas // 2))
    generator = schemas.Generator(draw)
    generated = [(f"generated {n}", generator.object()) for n in range(args.schemas - len(public))]
    tool_sets = [generator.tools() for _ in range(args.tools)]

    failures, passed = [], 0
    with run.Server(binary, [f"{MODEL}={run.TARGET / MODEL}"], ["--queue", "256"]) as server:
        api = Api(server.url)
        jobs = [(label, schema, ask_schema, (api, n, schema, False)) for n, (label, schema) in enumerate(public)]
        passed += run_all("schemas of the suite", jobs, failures)
        jobs = [(label, schema, ask_schema, (api, n, schema, True)) for n, (label, schema) in enumerate(generated)]
        passed += run_all("generated schemas", jobs, failures)
        for stream in (False, True):
            jobs = [(f"set {n}", tools, ask_tools, (api, n, tools, n % 3 == 2, n % 2 == 0, stream)) for n, tools in enumerate(tool_sets)]
            passed += run_all("sets of tools, streaming" if stream else "sets of tools", jobs, failures)
        if server.process.poll() is not None:
            failures.append(f"the server ended with code {server.process.returncode}; its log: {server.log_path}")
    for failure in failures:
        print(f"  failed: {failure}")
    print(f"constraints: {passed} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
