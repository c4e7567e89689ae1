#!/usr/bin/env python3
"""Lists the request fields of OpenAI's and Anthropic's published APIs. Standard library only.

    target/clients/…/bin/python tests/clients/request_fields.py > server/src/api/tests/request_fields.json

Reads the types of the installed `openai` and `anthropic` packages (the versions that requirements.txt pins), which are
generated from the published specifications. A test of the server checks that docs/api.md has each field in one of its lists
and that the server treats it so. Run it again when the pins change, and put new fields into the lists.

Prints {"sources": […], "ROUTE": {"FIELD": "TYPE", …}, …}; a type is as the package writes it, without its own names.
"""

import ast
import importlib.metadata
import json
import pathlib
import sys

# Route: the package, and the files and classes that have its fields.
ROUTES = {
    "/v1/chat/completions": (
        "openai",
        ["types/chat/completion_create_params.py"],
    ),
    "/v1/completions": ("openai", ["types/completion_create_params.py"]),
    "/v1/responses": ("openai", ["types/responses/response_create_params.py"]),
    "/v1/messages": (
        "anthropic",
        ["types/message_create_params.py", "types/beta/message_create_params.py"],
    ),
    "/v1/messages/count_tokens": (
        "anthropic",
        [
            "types/message_count_tokens_params.py",
            "types/beta/message_count_tokens_params.py",
        ],
    ),
}
# The classes of a request's own fields begin so; other classes of the files are values of fields.
CLASSES = ("CompletionCreateParams", "ResponseCreateParams", "MessageCreateParams", "MessageCountTokensParams")
SIMPLE = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def folder(package):
    for path in map(pathlib.Path, sys.path):
        if (path / package / "types").is_dir():
            return path / package
    raise SystemExit(f"{package} is not installed; run this with the Python of tests/clients/run.py")


def kinds(node):
    """The JSON types of an annotation."""
    if isinstance(node, ast.BinOp):
        return kinds(node.left) | kinds(node.right)
    if isinstance(node, ast.Constant):
        return {"null"} if node.value is None else {"object"}
    if isinstance(node, ast.Name):
        return {SIMPLE.get(node.id, "object")}
    if not isinstance(node, ast.Subscript):
        return {"object"}
    name = getattr(node.value, "id", getattr(node.value, "attr", ""))
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    match name:
        case "Union":
            return set().union(*map(kinds, inner))
        case "Optional":
            return kinds(inner[0]) | {"null"}
        case "Required" | "Annotated":
            return kinds(inner[0])
        case "Literal":
            types = {type(value.value) for value in inner}
            return {SIMPLE[kind.__name__] for kind in types}
        case "Iterable" | "List" | "SequenceNotStr":
            return {"array"}
    return {"object"}


def fields(path):
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name.startswith(CLASSES):
            for member in node.body:
                if isinstance(member, ast.AnnAssign):
                    found.setdefault(member.target.id, set()).update(kinds(member.annotation))
    return found


def main():
    out = {"sources": []}
    for package in ("openai", "anthropic"):
        out["sources"].append(f"{package} {importlib.metadata.version(package)}")
    for route, (package, files) in ROUTES.items():
        found = {}
        for file in files:
            for name, types in fields(folder(package) / file).items():
                found.setdefault(name, set()).update(types)
        out[route] = {name: " | ".join(sorted(types)) for name, types in sorted(found.items())}
    json.dump(out, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
