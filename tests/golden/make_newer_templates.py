"""Makes template/newer.jsonl: conversations through two templates of the tests, as transformers renders them.

keeps-reasoning.jinja and reasoning-effort.jinja have the constructs, variables and branches of the templates of Qwen3.6 and
Qwen3.8, in other words: theirs are not in this repository. A line is {template, name, messages, tools, kwargs,
rendered | error}, with the fields of qwen3.5.jsonl (make_template.py).

    python make_newer_templates.py                       writes the file
    python make_newer_templates.py TEMPLATE... > FILE    prints the same conversations through other templates
"""

import json
import sys
from pathlib import Path

from make_template import (
    ANSWERED, ASKED, CALLED, EVERY_KIND, HELLO, HERE, SEARCH, TWO_CALLS, WEATHER,
    assistant, call, outcome, render_qwen, system, text, tool, user, write,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

TEMPLATES = ["keeps-reasoning.jinja", "reasoning-effort.jinja"]

REASONED = [
    user("What is 2 + 2?"),
    assistant("4", reasoning_content="\nTwo and two.\n"),
    user("And 3 + 3?"),
    assistant("<think>\nThree and three.\n</think>\n\n6"),
    user("Thanks."),
]
# A question that two rounds of calls answer, with reasoning before each of them and an older question before it.
ROUNDS = [
    *REASONED[:2],
    user("Compare the weather in Paris and Rome."),
    assistant("Paris first.", reasoning_content="One at a time.", tool_calls=[call("get_weather", {"city": "Paris"})]),
    tool("21"),
    assistant("", reasoning_content="Now the other.", tool_calls=[call("get_weather", {"city": "Rome"})]),
    tool("27"),
]
NESTED = {
    "filter": {"any": [{"tag": "größe", "n": 1.0}, None, [True, False, []]], "not": {}},
    "text": "<b>\"Zürich\"\n東京</b>",
    "tags": ["\u2028", "a\\b", "\U0001f30d"],
}


def cases():
    """(name, messages, tools, kwargs); a generation prompt is asked for unless a case says otherwise."""
    yield "thinking-not-said", HELLO, None, {}
    yield "thinking-on", [system("Be brief."), *HELLO], None, {"enable_thinking": True}
    yield "thinking-off", [system("Be brief."), *HELLO], None, {"enable_thinking": False}
    yield "thinking-off-no-generation-prompt", REASONED[:4], None, {"enable_thinking": False, "add_generation_prompt": False}

    yield "reasoning-kept-not-said", REASONED, None, {}
    yield "reasoning-kept", REASONED, None, {"preserve_thinking": True}
    yield "reasoning-not-kept", REASONED, None, {"preserve_thinking": False}
    yield "reasoning-kept-none", REASONED, None, {"preserve_thinking": None}
    yield "reasoning-kept-number", REASONED, None, {"preserve_thinking": 1}
    yield "reasoning-kept-thinking-off", REASONED, None, {"preserve_thinking": True, "enable_thinking": False}

    for level in ["xhigh", "medium", "low"]:
        yield f"effort-{level}", [system("Be brief."), *HELLO], None, {"reasoning_effort": level, "enable_thinking": True}
    yield "effort-low-no-system", HELLO, None, {"reasoning_effort": "low"}
    yield "effort-medium-no-system", HELLO, None, {"reasoning_effort": "medium"}
    yield "effort-medium-tools", ASKED, [WEATHER], {"reasoning_effort": "medium"}
    yield "effort-low-tools-system", [system(" Be brief.\n"), *ASKED], [WEATHER, SEARCH], {"reasoning_effort": "low"}
    yield "effort-thinking-off", HELLO, None, {"reasoning_effort": "high", "enable_thinking": False}
    yield "effort-high", HELLO, None, {"reasoning_effort": "high"}
    yield "effort-none", HELLO, None, {"reasoning_effort": None}
    yield "effort-empty", HELLO, None, {"reasoning_effort": ""}
    yield "effort-true", HELLO, None, {"reasoning_effort": True, "enable_thinking": True}

    yield "system-empty", [system(" \n"), *HELLO], None, {}
    yield "system-empty-thinking-off", [system(""), *HELLO], None, {"enable_thinking": False}
    yield "system-empty-tools", [system(""), *ASKED], [WEATHER], {"enable_thinking": False}
    yield "system-parts", [system([text("a"), text(" b ")]), *HELLO], None, {"reasoning_effort": "low"}

    yield "argument-kinds", [*ASKED, assistant("ok", tool_calls=[call("f", EVERY_KIND)])], None, {}
    yield "arguments-nested", [*ASKED, assistant("", tool_calls=[call("f", NESTED), call("g", {})]), tool("")], [SEARCH], {}
    yield "arguments-none", [*ASKED, assistant("", tool_calls=[call("f", None), {"function": {"name": "g"}}])], None, {}
    yield "arguments-empty-text", [*ASKED, assistant("", tool_calls=[call("f", "")])], None, {}
    yield "call-bare", [*ASKED, assistant("", tool_calls=[{"name": "f", "arguments": {"x": True}}])], None, {}
    yield "tool-result", ANSWERED, [WEATHER], {"enable_thinking": True}
    yield "tool-results-two", TWO_CALLS, [WEATHER], {"enable_thinking": False}
    yield "tool-rounds", ROUNDS, [WEATHER], {}
    yield "tool-rounds-not-kept", ROUNDS, [WEATHER], {"preserve_thinking": False, "reasoning_effort": "medium"}
    yield "tool-rounds-answered", [*ROUNDS, assistant("Rome is warmer.", reasoning="27 > 21"), user("Sure?")], [WEATHER], {
        "preserve_thinking": True,
        "enable_thinking": False,
    }
    yield "tool-result-as-user", [*CALLED, user("<result>\n21\n</result>")], [WEATHER], {"preserve_thinking": False}

    yield "reasoning-by-another-name", [*HELLO, assistant("a", thinking=" b "), user("c")], None, {"preserve_thinking": True}
    yield "reasoning-not-text", [*HELLO, assistant("<think>x</think>a", reasoning_content=["b"])], None, {}
    yield "content-none", [*HELLO, assistant(None, tool_calls=[call("f", {"n": None})]), tool([text("a"), text("b")])], None, {}
    yield "picture-numbered", [user([text("See "), {"type": "image"}, {"type": "video"}]), assistant("Yes."), user([
        {"type": "image_url", "image_url": {"url": "x"}},
    ])], None, {"add_vision_id": True, "enable_thinking": False}

    yield "error-no-messages", [], None, {}
    yield "error-no-query", [system("a"), assistant("b")], None, {}
    yield "error-only-results", [user("<result>x</result>")], None, {}
    yield "error-system-late", [*HELLO, system("late")], None, {"enable_thinking": False}
    yield "error-developer", [{"role": "developer", "content": "Be brief."}, *HELLO], None, {"reasoning_effort": "low"}
    yield "error-system-picture", [system([{"type": "image"}]), *HELLO], None, {}
    yield "error-part-unknown", [user([{"type": "audio", "audio": "x"}])], None, {}
    yield "error-content-number", [user(42)], None, {"reasoning_effort": "medium"}


def rendered(template, source):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"x": 0}, unk_token="x")))
    tokenizer.chat_template = source
    for name, messages, tools, kwargs in cases():
        kwargs = {"add_generation_prompt": True} | kwargs
        case = {"template": template, "name": f"{template}/{name}", "messages": messages, "tools": tools, "kwargs": kwargs}
        yield case | outcome(lambda: render_qwen(tokenizer, messages, tools, kwargs))


def main(others):
    for path in map(Path, others):
        for case in rendered(path.name, path.read_text(encoding="utf-8")):
            print(json.dumps(case))
    if not others:
        write("newer.jsonl", [case for name in TEMPLATES for case in rendered(name, (HERE / name).read_text(encoding="utf-8"))])


if __name__ == "__main__":
    main(sys.argv[1:])
