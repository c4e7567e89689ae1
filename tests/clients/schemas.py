"""JSON schemas for constraints.py: those of the JSON-Schema-Test-Suite, and generated ones."""

import json
import os
import pathlib
import subprocess
import tarfile

#: The package whose source distribution contains the suite; its version is that of requirements.txt.
PACKAGE = "jsonschema"
SUITE = "json/tests/draft2020-12"
#: Formats that are asserted. Others are annotations.
FORMATS = ["date-time", "time", "date", "email", "ipv4", "ipv6", "uuid"]
PATTERNS = ["^[a-z]{2,8}$", "^[A-Z][0-9]{3}$", "^(yes|no|maybe)$", "^\\d{4}-\\d{2}$", "[0-9]", "^(ab?c)+$", "^[^ ]{1,10}$"]
WORDS = ["red", "green", "blue", "a b", "it's", 'quo"te', "x\\y", "é", "", "null", "12", "true"]
NAMES = ["name", "size", "tags", "owner", "a b", "kind", "x", "items", "type", "ünit", "created_at", "is-new"]


def suite(folder, python, requirement):
    """The suite's schemas, each with its place; downloads the suite into `folder` unless SANCTUM_JSON_SCHEMA_SUITE names it."""
    named = os.environ.get("SANCTUM_JSON_SCHEMA_SUITE")
    place = pathlib.Path(named) if named else folder / SUITE
    if not place.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        download = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", PACKAGE]
        subprocess.run([*download, "--dest", folder, requirement], check=True)
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            for member in archive.getmembers():
                member.name = member.name.partition("/")[2]
                if member.name.startswith(SUITE):
                    archive.extract(member, folder, filter="data")
    found = []
    for file in sorted(place.glob("*.json")):
        for group in json.loads(file.read_text()):
            found.append((f"{file.name}: {group['description']}", group["schema"]))
    return found


class Generator:
    """Draws schemas of every supported kind, and some with keywords that may be refused."""

    def __init__(self, draw):
        self.draw = draw
        # Whether strings are bounded: random weights rarely say the end of a parameter by chance.
        self.bounded = False

    def object(self, depth=0, refusable=True):
        """A schema whose root is an object."""
        names = self.draw.sample(NAMES, self.draw.randint(1, 5 if depth == 0 else 3))
        schema = {"type": "object", "properties": {name: self.schema(depth + 1, refusable) for name in names}}
        if self.chance(0.8):
            schema["required"] = [name for name in names if self.chance(0.7)]
        if self.chance(0.7):
            schema["additionalProperties"] = False
        elif self.chance(0.5):
            schema["additionalProperties"] = self.schema(3, refusable)
        if self.chance(0.1) and depth == 0:
            # A list that refers to itself.
            node = {"type": "object", "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                    "required": ["value", "next"], "additionalProperties": False}  # fmt: skip
            schema["$defs"] = {"node": node}
            schema["properties"]["chain"] = {"$ref": "#/$defs/node"}
        if refusable and self.chance(0.05):
            schema |= self.one({"minProperties": 1}, {"propertyNames": {"maxLength": 9}}, {"patternProperties": {"^x-": {"type": "integer"}}},
                               {"dependentRequired": {names[0]: names[-1:]}}, {"unevaluatedProperties": False})  # fmt: skip
        return schema

    def schema(self, depth, refusable):
        kinds = [self.string, self.string, self.integer, self.number, self.flag, self.choice, self.null]
        if depth < 3:
            kinds += [self.array, self.array, self.union, self.object]
        kind = self.draw.choice(kinds)
        schema = kind(depth, refusable) if kind in (self.array, self.union, self.object) else kind()
        if self.chance(0.2):
            schema["description"] = "What it is."
        if refusable and self.chance(0.03):
            schema |= self.one({"not": {"const": 3}}, {"uniqueItems": True}, {"contains": {"const": 1}}, {"if": {"const": 1}, "then": {"minimum": 0}})
        return schema

    def string(self):
        schema = {"type": "string"}
        shape = self.draw.random()
        if shape < 0.35:
            schema["maxLength"] = self.draw.randint(0, 12)
            if self.chance(0.5):
                schema["minLength"] = self.draw.randint(0, schema["maxLength"])
        elif shape < 0.55:
            schema["pattern"] = self.draw.choice(PATTERNS)
        elif shape < 0.7:
            schema["format"] = self.draw.choice(FORMATS)
        elif self.bounded:
            schema["maxLength"] = 20
        return schema

    def integer(self):
        schema = {"type": "integer"}
        if self.chance(0.6):
            low = self.draw.choice([-1000, -7, 0, 1, 5, 10**6])
            if self.chance(0.7):
                schema[self.draw.choice(["minimum", "exclusiveMinimum"])] = low
            if self.chance(0.7):
                schema[self.draw.choice(["maximum", "exclusiveMaximum"])] = low + self.draw.choice([2, 9, 120])
        if self.chance(0.15):
            schema["multipleOf"] = self.draw.choice([2, 5, 10])
        return schema

    def number(self):
        schema = {"type": "number"}
        if self.chance(0.5):
            low = self.draw.choice([-3.5, 0, 0.25, 100])
            schema[self.draw.choice(["minimum", "exclusiveMinimum"])] = low
            if self.chance(0.7):
                schema[self.draw.choice(["maximum", "exclusiveMaximum"])] = low + self.draw.choice([0.5, 10, 1e4])
        return schema

    def flag(self):
        return {"type": "boolean"}

    def null(self):
        return {"type": "null"}

    def choice(self):
        if self.chance(0.3):
            return {"const": self.draw.choice([*WORDS, 7, -2.5, True, None, {"a": [1, "b"]}, []])}
        values = self.draw.sample([*WORDS, 1, 2, 300, False, None], self.draw.randint(1, 5))
        return {"enum": values} if self.chance(0.5) else {"type": "string", "enum": [value for value in values if isinstance(value, str)] or ["only"]}

    def array(self, depth, refusable):
        schema = {"type": "array", "items": self.schema(depth + 1, refusable)}
        if self.chance(0.6):
            schema["maxItems"] = self.draw.randint(0, 4)
            if self.chance(0.5):
                schema["minItems"] = self.draw.randint(0, schema["maxItems"])
        if self.chance(0.1):
            schema["prefixItems"] = [self.schema(depth + 1, refusable) for _ in range(2)]
            schema["items"] = False
            schema.pop("maxItems", None)
            schema.pop("minItems", None)
        return schema

    def union(self, depth, refusable):
        if self.chance(0.4):
            return {"type": self.draw.sample(["string", "integer", "boolean", "null"], 2)}
        branches = [self.schema(depth + 1, refusable) for _ in range(self.draw.randint(2, 3))]
        return {self.draw.choices(["anyOf", "oneOf"], [9, 1])[0]: branches}

    def tools(self):
        """A set of strict tools in the form of chat completions."""
        self.bounded = True
        names = self.draw.sample(["get_weather", "add", "search.files", "create-event", "f", "send_a_rather_long_message_to_the_owner"], self.draw.randint(1, 4))
        tools = []
        for name in names:
            function = {"name": name, "strict": True}
            if self.chance(0.9):
                function["parameters"] = self.object(refusable=False)
            tools.append({"type": "function", "function": function})
        return tools

    def chance(self, share):
        return self.draw.random() < share

    def one(self, *options):
        return self.draw.choice(options)
