"""anthropic-python: messages plain, streamed and parsed, tools, thinking, token counts."""

import json

import anthropic
from anthropic import Anthropic, beta_tool
from pydantic import BaseModel

from checks import SCRIPTED, TINY, City, case, equal, holds, main, raises

client = Anthropic()

HELLO = "Hello from the script: two and two are four."
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"]},
}
ADD = {
    "name": "add",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
}
ROME = ("get_weather", {"city": "Rome", "days": 3})


def ask(text, model=SCRIPTED, max_tokens=1000, **more):
    return client.messages.create(model=model, max_tokens=max_tokens, messages=[{"role": "user", "content": text}], **more)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def calls(message):
    return [(block.name, block.input) for block in message.content if block.type == "tool_use"]


@case
def message_has_text_and_usage():
    message = ask("[hello]")
    equal((message.type, message.role, message.stop_reason), ("message", "assistant", "end_turn"), "the head")
    equal([block.type for block in message.content], ["text"], "the blocks")
    equal(text_of(message), HELLO, "the text")
    holds(message.usage.input_tokens > 0 and message.usage.output_tokens > 0, f"the usage is {message.usage}")


@case
def usage_counts_reused_tokens():
    def send(header, messages, **more):
        system = [
            {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1.0.123; cch={header};"},
            {"type": "text", "text": "You count lamps. " + "A lamp is not a candle. " * 8, "cache_control": {"type": "ephemeral"}},
        ]
        salt = {"cache_salt": "usage of messages"}
        return client.messages.create(model=SCRIPTED, max_tokens=200, system=system, messages=messages, extra_body=salt, **more)

    turn = [{"role": "user", "content": "[hello]"}]
    first = send("11111", turn)
    equal(first.usage.cache_read_input_tokens, 0, "the reused tokens of the first turn")
    turns = [*turn, {"role": "assistant", "content": first.content}, {"role": "user", "content": "Again: [hello]"}]
    # Another billing header must not make another prompt.
    usage = send("22222", turns).usage
    holds(usage.cache_read_input_tokens > 40 and usage.input_tokens > 0, f"the usage of the second turn is {usage}")
    events = list(send("33333", turns, stream=True))
    streamed = [event.usage for event in events if event.type == "message_delta"][-1]
    holds(streamed.cache_read_input_tokens >= usage.cache_read_input_tokens, f"the streamed usage is {streamed}")
    whole = usage.input_tokens + usage.cache_read_input_tokens
    equal(streamed.input_tokens + streamed.cache_read_input_tokens, whole, "the tokens of the prompt")


@case
def message_of_the_built_in_model():
    equal(text_of(ask("What is 23 minus 61?", TINY, extra_body={"temperature": 0})), "23 - 61 = -38", "the text")


@case
def system_and_blocks_are_read():
    system = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]
    messages = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
        {"role": "user", "content": [{"type": "text", "text": "Once more: [hello]", "cache_control": {"type": "ephemeral"}}]},
    ]
    message = client.messages.create(model=SCRIPTED, max_tokens=200, system=system, messages=messages, metadata={"user_id": "me"})
    equal(text_of(message), HELLO, "the text")


@case
def max_tokens_beyond_the_context_is_clamped():
    # A stream, because the client itself refuses so many tokens otherwise.
    with client.messages.stream(model=SCRIPTED, max_tokens=128000, messages=[{"role": "user", "content": "[hello]"}]) as stream:
        equal(stream.get_final_text(), HELLO, "the text")


@case
def stream_helper_yields_text():
    with client.messages.stream(model=SCRIPTED, max_tokens=200, messages=[{"role": "user", "content": "[long]"}]) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    holds(len(pieces) > 10, "the text came in few pieces")
    equal("".join(pieces), text_of(final), "the text of the final message")
    equal(final.stop_reason, "end_turn", "stop_reason")
    holds(final.usage.output_tokens > 10, f"the usage is {final.usage}")


@case
def stream_has_the_documented_events():
    kinds = [event.type for event in ask("[hello]", stream=True)]
    kinds = [kind for kind in kinds if kind not in ("ping", "content_block_delta")]
    equal(kinds, ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"], "the events")


@case
def tool_use_and_its_result():
    messages = [{"role": "user", "content": "[weather]"}]
    first = client.messages.create(model=SCRIPTED, max_tokens=300, messages=messages, tools=[WEATHER])
    equal((first.stop_reason, calls(first)), ("tool_use", [ROME]), "the calls")
    result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": [{"type": "text", "text": "sunny"}]}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = client.messages.create(model=SCRIPTED, max_tokens=300, messages=messages, tools=[WEATHER])
    equal(text_of(second), "Sunny skies over Rome: pack light.", "the text")


@case
def tool_use_streams():
    messages = [{"role": "user", "content": "[weather]"}]
    with client.messages.stream(model=SCRIPTED, max_tokens=300, messages=messages, tools=[WEATHER]) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    equal(json.loads("".join(pieces)), ROME[1], "the streamed input")
    equal((final.stop_reason, calls(final)), ("tool_use", [ROME]), "the calls")


@case
def tool_choices():
    equal(calls(ask("[add]", tools=[WEATHER, ADD], tool_choice={"type": "any"})), [("add", {"a": 19, "b": 23})], "any")
    equal(calls(ask("[add]", tools=[WEATHER, ADD], tool_choice={"type": "tool", "name": "add"})), [("add", {"a": 19, "b": 23})], "a named tool")
    equal(text_of(ask("[hello]", tools=[WEATHER], tool_choice={"type": "none"})), HELLO, "none")


@case
def strict_tool_is_called():
    schema = WEATHER["input_schema"] | {"additionalProperties": False}
    equal(calls(ask("[weather]", tools=[WEATHER | {"strict": True, "input_schema": schema}])), [ROME], "the calls")


@case
def disable_parallel_tool_use_returns_one():
    equal(len(calls(ask("[two]", tools=[WEATHER]))), 2, "the number of calls")
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    equal(len(calls(ask("[two]", tools=[WEATHER], tool_choice=choice))), 1, "the number of calls with disable_parallel_tool_use")


@case
def tool_runner_answers_with_the_result():
    seen = []

    @beta_tool
    def add(a: int, b: int) -> str:
        """Adds two numbers.

        Args:
            a: The first.
            b: The second.
        """
        seen.append((a, b))
        return str(a + b)

    runner = client.beta.messages.tool_runner(model=SCRIPTED, max_tokens=300, tools=[add], messages=[{"role": "user", "content": "[add]"}])
    final = runner.until_done()
    equal((seen, text_of(final)), ([(19, 23)], "The sum is 42."), "the calls and the answer")


@case
def parse_returns_a_model():
    message = client.messages.parse(model=SCRIPTED, max_tokens=300, messages=[{"role": "user", "content": "[city]"}], output_format=City)
    equal(message.parsed_output, City(name="Rome", country="Italy", population=2873000), "parsed_output")


class Verdict(BaseModel):
    certain: bool


@case
def parse_forces_the_built_in_model():
    messages = [{"role": "user", "content": "What is 7 times 8?"}]
    message = client.messages.parse(model=TINY, max_tokens=300, messages=messages, output_format=Verdict)
    holds(isinstance(message.parsed_output, Verdict), "there is no parsed output")


@case
def thinking_is_a_block():
    message = ask("[reason]", max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024})
    equal([block.type for block in message.content], ["thinking", "text"], "the blocks")
    equal(message.content[0].thinking, "The user asks for a proof that I think.", "the thinking")
    equal(text_of(message), "Reasoned answer: forty-two, naturally.", "the text")


@case
def thinking_streams_and_is_echoed():
    messages = [{"role": "user", "content": "[weather-again]"}]
    thinking = {"type": "adaptive"}
    with client.messages.stream(model=SCRIPTED, max_tokens=2000, thinking=thinking, messages=messages, tools=[WEATHER]) as stream:
        thought = "".join(event.thinking for event in stream if event.type == "thinking")
        first = stream.get_final_message()
    equal(thought, "The user wants Rome's weather, so the tool it is.", "the thinking")
    equal(([block.type for block in first.content], calls(first)), (["thinking", "text", "tool_use"], [("get_weather", {"city": "Rome", "days": 5})]),
          "the blocks")  # fmt: skip
    result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": "clear", "is_error": False}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = client.messages.create(model=SCRIPTED, max_tokens=2000, messages=messages, tools=[WEATHER], thinking={"type": "disabled"})
    equal(text_of(second), "Clear for five days, says the tool.", "the text")


@case
def tokens_are_counted():
    messages = [{"role": "user", "content": "[hello]"}]
    counted = client.messages.count_tokens(model=SCRIPTED, messages=messages).input_tokens
    usage = client.messages.create(model=SCRIPTED, max_tokens=10, messages=messages).usage
    equal(counted, usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0), "the count")
    with_tools = client.messages.count_tokens(model=SCRIPTED, messages=messages, tools=[WEATHER], system="Be brief.").input_tokens
    holds(with_tools > counted, "tools and system text do not count")


@case
def stop_sequence_and_limit_are_reported():
    message = ask("[hello]", stop_sequences=[" script"])
    equal((message.stop_reason, message.stop_sequence, text_of(message)), ("stop_sequence", " script", "Hello from the"), "the end")
    equal(ask("[long]", max_tokens=3).stop_reason, "max_tokens", "stop_reason")


@case
def trailing_assistant_turn_is_continued():
    messages = [{"role": "user", "content": "What is 23 minus 61?"}, {"role": "assistant", "content": "23 - 61 ="}]
    message = client.messages.create(model=TINY, max_tokens=50, messages=messages, extra_body={"temperature": 0})
    equal(text_of(message).strip(), "-38", "the continuation")


@case
def errors_have_anthropics_shape():
    error = raises(anthropic.NotFoundError, ask, "hi", model="no-such-model")
    equal((error.body["type"], error.body["error"]["type"]), ("error", "not_found_error"), "the body's types")
    error = raises(anthropic.BadRequestError, ask, "hi", max_tokens=0)
    equal(error.body["error"]["type"], "invalid_request_error", "the type")
    holds("max_tokens" in error.body["error"]["message"], f"the message does not name the field: {error}")


@case
def models_are_listed():
    holds({SCRIPTED, TINY} <= {model.id for model in client.models.list()}, "the models are not listed")


if __name__ == "__main__":
    main()
