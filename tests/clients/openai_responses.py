"""openai-python: the Responses API, plain, streamed and parsed."""

import json

import openai
from openai import OpenAI
from pydantic import BaseModel

from checks import SCRIPTED, TINY, City, case, equal, holds, main, raises

client = OpenAI()

HELLO = "Hello from the script: two and two are four."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
TIME = {"type": "function", "name": "get_time", "parameters": None, "strict": None}
ADD = {
    "type": "function",
    "name": "add",
    "strict": False,
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
}


def ask(question, model=SCRIPTED, **more):
    return client.responses.create(model=model, input=question, **more)


def calls(response):
    return [(item.name, json.loads(item.arguments)) for item in response.output if item.type == "function_call"]


@case
def response_has_text_and_usage():
    response = ask("[hello]")
    equal(response.output_text, HELLO, "output_text")
    equal((response.object, response.status, response.error, response.incomplete_details), ("response", "completed", None, None), "the head")
    equal([item.type for item in response.output], ["message"], "the items")
    equal(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens, "total_tokens")


@case
def usage_counts_reused_tokens():
    more = {"instructions": "You count lamps. " + "A lamp is not a candle. " * 8, "extra_body": {"cache_salt": "usage of responses"}}
    first = ask("[hello]", **more)
    equal(first.usage.input_tokens_details.cached_tokens, 0, "the reused tokens of the first turn")
    usage = ask("Again: [hello]", previous_response_id=first.id, **more).usage
    holds(40 < usage.input_tokens_details.cached_tokens < usage.input_tokens, f"the usage of the second turn is {usage}")
    events = list(ask("Again: [hello]", previous_response_id=first.id, stream=True, **more))
    streamed = events[-1].response.usage
    holds(streamed.input_tokens_details.cached_tokens >= usage.input_tokens_details.cached_tokens, f"the streamed usage is {streamed}")


@case
def response_of_the_built_in_model():
    equal(ask("What is 23 minus 61?", TINY, temperature=0).output_text, "23 - 61 = -38", "output_text")


@case
def instructions_and_items_are_read():
    items = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
         "content": [{"type": "output_text", "text": "Hello.", "annotations": []}]},
        {"type": "message", "role": "user", "content": "Once more: [hello]"},
    ]  # fmt: skip
    equal(ask(items, instructions="You are a greeter.").output_text, HELLO, "output_text")


@case
def advisory_fields_are_accepted():
    response = ask(
        "[hello]", store=False, metadata={"job": "1"}, user="me", include=["reasoning.encrypted_content"], truncation="auto", service_tier="auto",
        prompt_cache_key="k", parallel_tool_calls=True, text={"format": {"type": "text"}, "verbosity": "low"}, reasoning={"summary": "auto"},
    )  # fmt: skip
    equal(response.output_text, HELLO, "output_text")


@case
def stream_has_the_documented_events():
    events = list(ask("[hello]", stream=True))
    equal([event.sequence_number for event in events], list(range(len(events))), "the sequence numbers")
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    wanted = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added", "response.output_text.done",
              "response.content_part.done", "response.output_item.done", "response.completed"]  # fmt: skip
    equal(kinds, wanted, "the events")
    equal("".join(event.delta for event in events if event.type == "response.output_text.delta"), HELLO, "the text")
    equal(events[-1].response.output_text, HELLO, "the completed response's text")


@case
def stream_helper_returns_the_final_response():
    with client.responses.stream(model=SCRIPTED, input="[hello]") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    equal((text, final.output_text), (HELLO, HELLO), "the texts")


@case
def parse_returns_a_model():
    response = client.responses.parse(model=SCRIPTED, input="[city]", text_format=City)
    equal(response.output_parsed, City(name="Rome", country="Italy", population=2873000), "output_parsed")


@case
def stream_helper_parses():
    with client.responses.stream(model=SCRIPTED, input="[city]", text_format=City) as stream:
        for _ in stream:
            pass
        parsed = stream.get_final_response().output_parsed
    equal(parsed, City(name="Rome", country="Italy", population=2873000), "output_parsed")


class Flags(BaseModel):
    red: bool
    green: bool
    blue: bool


@case
def parse_forces_the_built_in_model():
    response = client.responses.parse(model=TINY, input="What is 7 times 8?", text_format=Flags, temperature=1)
    holds(isinstance(response.output_parsed, Flags), "there is no parsed answer")


@case
def json_object_is_valid_json():
    response = ask("[object]", text={"format": {"type": "json_object"}})
    equal(json.loads(response.output_text), {"greeting": "salve", "lucky": [3, 7]}, "the object")


@case
def reasoning_is_an_item():
    response = ask("[reason]", reasoning={"effort": "high"})
    equal([item.type for item in response.output], ["reasoning", "message"], "the items")
    equal(response.output[0].content[0].text, "The user asks for a proof that I think.", "the reasoning")
    equal(response.output_text, "Reasoned answer: forty-two, naturally.", "output_text")


@case
def reasoning_streams():
    events = list(ask("[reason]", reasoning={"effort": "high"}, stream=True))
    thought = "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
    equal(thought, "The user asks for a proof that I think.", "the reasoning")


@case
def function_call_and_its_output():
    items = [{"role": "user", "content": "[weather]"}]
    first = client.responses.create(model=SCRIPTED, input=items, tools=[WEATHER, TIME])
    equal(calls(first), [("get_weather", {"city": "Rome", "days": 3})], "the calls")
    items += first.output
    items += [{"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "sunny"}]
    second = client.responses.create(model=SCRIPTED, input=items, tools=[WEATHER, TIME])
    equal(second.output_text, "Sunny skies over Rome: pack light.", "output_text")


@case
def function_call_streams():
    with client.responses.stream(model=SCRIPTED, input="[weather]", tools=[WEATHER]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    text = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    equal(json.loads(text), {"city": "Rome", "days": 3}, "the streamed arguments")
    equal(calls(final), [("get_weather", {"city": "Rome", "days": 3})], "the calls")


@case
def previous_response_id_continues():
    first = ask("[weather]", tools=[WEATHER])
    output = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "sunny"}
    second = ask([output], tools=[WEATHER], previous_response_id=first.id)
    equal(second.output_text, "Sunny skies over Rome: pack light.", "output_text")
    equal(second.previous_response_id, first.id, "previous_response_id")


@case
def stored_response_is_retrieved_and_deleted():
    first = ask("[hello]")
    equal(client.responses.retrieve(first.id).output_text, HELLO, "output_text")
    client.responses.delete(first.id)
    raises(openai.NotFoundError, client.responses.retrieve, first.id)


@case
def store_false_keeps_nothing():
    first = ask("[hello]", store=False)
    raises(openai.NotFoundError, client.responses.retrieve, first.id)


@case
def tool_choices():
    equal(calls(ask("[add]", tools=[WEATHER, ADD], tool_choice="required")), [("add", {"a": 19, "b": 23})], "required")
    equal(calls(ask("[add]", tools=[WEATHER, ADD], tool_choice={"type": "function", "name": "add"})), [("add", {"a": 19, "b": 23})], "a named function")
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "add"}]}
    equal(calls(ask("[add]", tools=[WEATHER, ADD], tool_choice=allowed)), [("add", {"a": 19, "b": 23})], "allowed_tools")
    equal(ask("[hello]", tools=[ADD], tool_choice="none").output_text, HELLO, "none")


@case
def parallel_tool_calls_false_returns_one():
    equal(len(calls(ask("[two]", tools=[WEATHER]))), 2, "the number of calls")
    equal(len(calls(ask("[two]", tools=[WEATHER], parallel_tool_calls=False))), 1, "the number of calls without parallel_tool_calls")


@case
def hosted_tools_are_dropped():
    equal(ask("[hello]", tools=[{"type": "web_search"}, WEATHER]).output_text, HELLO, "output_text")


@case
def cut_answer_is_incomplete():
    response = ask("[long]", max_output_tokens=4)
    equal((response.status, response.incomplete_details.reason), ("incomplete", "max_output_tokens"), "the status")
    equal(list(ask("[long]", max_output_tokens=4, stream=True))[-1].type, "response.incomplete", "the last event")


@case
def unknown_model_is_not_found():
    raises(openai.NotFoundError, ask, "hi", model="no-such-model")


if __name__ == "__main__":
    main()
