"""openai-python: chat completions, `parse`, the stream helper, completions, models."""

import json
from typing import Literal

import openai
from openai import OpenAI
from pydantic import BaseModel

from checks import SCRIPTED, TINY, City, case, equal, holds, main, raises

client = OpenAI()


class GetWeather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


def weather_tool(strict=True):
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    tool["function"]["strict"] = strict
    return tool


ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
    },
}


def ask(text, model=SCRIPTED, **more):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


def arguments(call):
    return json.loads(call.function.arguments)


@case
def chat_returns_scripted_text():
    answer = ask("Say hello. [hello]")
    equal(answer.choices[0].message.content, "Hello from the script: two and two are four.", "the content")
    equal(answer.choices[0].finish_reason, "stop", "finish_reason")
    equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens, "total_tokens")


@case
def chat_with_built_in_model_computes():
    answer = ask("What is 23 minus 61?", TINY, temperature=0)
    equal(answer.choices[0].message.content, "23 - 61 = -38", "the content")


@case
def stream_joins_to_the_whole_answer():
    chunks = list(ask("[long]", stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = ask("[long]").choices[0].message.content
    equal(text, whole, "the streamed text")
    holds(sum(bool(chunk.choices) for chunk in chunks) > 10, "the answer came in few chunks")
    equal(chunks[-1].choices, [], "the choices of the chunk with the usage")
    holds(chunks[-1].usage.completion_tokens > 10, "the usage is missing")


@case
def usage_counts_reused_tokens():
    first = [{"role": "system", "content": "You count lamps. " + "A lamp is not a candle. " * 8}, {"role": "user", "content": "[hello]"}]

    def send(messages, **more):
        return client.chat.completions.create(model=SCRIPTED, messages=messages, **more)

    answer = send(first, extra_body={"cache_salt": "usage"})
    equal(answer.usage.prompt_tokens_details.cached_tokens, 0, "the reused tokens of the first turn")
    second = [*first, {"role": "assistant", "content": answer.choices[0].message.content}, {"role": "user", "content": "Again: [hello]"}]
    usage = send(second, extra_body={"cache_salt": "usage"}).usage
    holds(40 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens, f"the usage of the second turn is {usage}")
    chunks = list(send(second, stream=True, stream_options={"include_usage": True}, extra_body={"cache_salt": "usage"}))
    streamed = chunks[-1].usage
    holds(streamed.prompt_tokens_details.cached_tokens >= usage.prompt_tokens_details.cached_tokens, f"the streamed usage is {streamed}")
    for declined in ({"cache_salt": "another"}, {"cache_prompt": False, "cache_salt": "usage"}):
        usage = send(second, extra_body=declined).usage
        equal(usage.prompt_tokens_details.cached_tokens, 0, f"the reused tokens with {declined}")


@case
def system_and_developer_messages_are_joined():
    messages = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "developer", "content": [{"type": "text", "text": "And politely."}]},
        {"role": "user", "name": "ada", "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "[hello]"}]},
    ]
    answer = client.chat.completions.create(model=SCRIPTED, messages=messages)
    equal(answer.choices[0].message.content, "Hello from the script: two and two are four.", "the content")


@case
def later_system_message_is_accepted():
    messages = [
        {"role": "user", "content": "[hello]"},
        {"role": "assistant", "content": "Hello."},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Once more: [hello]"},
    ]
    answer = client.chat.completions.create(model=SCRIPTED, messages=messages)
    equal(answer.choices[0].message.content, "Hello from the script: two and two are four.", "the content")


@case
def several_choices():
    answer = ask("[hello]", n=3)
    equal([choice.index for choice in answer.choices], [0, 1, 2], "the indexes")
    equal({choice.message.content for choice in answer.choices}, {"Hello from the script: two and two are four."}, "the contents")


@case
def several_choices_stream():
    texts = {}
    for chunk in ask("[hello]", n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    equal(texts, {n: "Hello from the script: two and two are four." for n in range(2)}, "the streamed choices")


@case
def reasoning_effort_switches_thinking():
    message = ask("[reason]", reasoning_effort="high").choices[0].message
    equal(message.content, "Reasoned answer: forty-two, naturally.", "the content")
    equal(getattr(message, "reasoning_content", None), "The user asks for a proof that I think.", "reasoning_content")
    message = ask("[reason]", reasoning_effort="none").choices[0].message
    equal(message.content, "Reasoned answer: forty-two, naturally.", "the content without thinking")
    equal(getattr(message, "reasoning_content", None), None, "reasoning_content without thinking")


@case
def advisory_fields_are_accepted():
    answer = ask(
        "[hello]", user="me", metadata={"job": "1"}, store=False, service_tier="auto", verbosity="low", seed=2**63, prompt_cache_key="k",
        safety_identifier="s", prediction={"type": "content", "content": "Hello"}, modalities=["text"], parallel_tool_calls=None,
        response_format={"type": "text"},
    )  # fmt: skip
    equal(answer.choices[0].message.content, "Hello from the script: two and two are four.", "the content")


@case
def strict_tool_is_called():
    choice = ask("[weather]", tools=[weather_tool()]).choices[0]
    equal(choice.finish_reason, "tool_calls", "finish_reason")
    call = choice.message.tool_calls[0]
    equal((call.type, call.function.name, arguments(call)), ("function", "get_weather", {"city": "Rome", "days": 3}), "the call")


@case
def tool_result_is_answered():
    messages = [{"role": "user", "content": "[weather]"}]
    first = client.chat.completions.create(model=SCRIPTED, messages=messages, tools=[weather_tool()]).choices[0].message
    messages += [first, {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "sunny"}]
    second = client.chat.completions.create(model=SCRIPTED, messages=messages, tools=[weather_tool()]).choices[0].message
    equal(second.content, "Sunny skies over Rome: pack light.", "the content")


@case
def tool_call_streams_in_deltas():
    name, text, reason = None, "", None
    for chunk in ask("[weather]", tools=[weather_tool()], stream=True):
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            for delta in choice.delta.tool_calls or []:
                if delta.function.name:
                    equal(name, None, "the name before its only delta")
                    name = delta.function.name
                text += delta.function.arguments or ""
    equal((name, json.loads(text), reason), ("get_weather", {"city": "Rome", "days": 3}, "tool_calls"), "the call")


@case
def required_tool_choice_calls():
    choice = ask("[add]", tools=[weather_tool(), ADD], tool_choice="required").choices[0]
    equal([(c.function.name, arguments(c)) for c in choice.message.tool_calls], [("add", {"a": 19, "b": 23})], "the calls")


@case
def required_tool_choice_forces_the_built_in_model():
    # It never calls a tool by itself. The numbers are bounded, so that the call ends.
    small = {"type": "integer", "minimum": 0, "maximum": 99}
    function = ADD["function"] | {"strict": True, "parameters": ADD["function"]["parameters"] | {"properties": {"a": small, "b": small}}}
    tools = [{"type": "function", "function": function}]
    choice = ask("What is 2 plus 2?", TINY, tools=tools, tool_choice="required", parallel_tool_calls=False, temperature=0).choices[0]
    call = choice.message.tool_calls[0]
    equal(call.function.name, "add", "the name")
    equal({key: type(value) for key, value in arguments(call).items()}, {"a": int, "b": int}, "the types of the arguments")


@case
def named_tool_choice_calls_that_function():
    choice = ask("[add]", tools=[weather_tool(), ADD], tool_choice={"type": "function", "function": {"name": "add"}}).choices[0]
    equal([(c.function.name, arguments(c)) for c in choice.message.tool_calls], [("add", {"a": 19, "b": 23})], "the calls")


@case
def allowed_tools_restrict_calls():
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "add"}}]}
    choice = ask("[add]", tools=[weather_tool(), ADD], tool_choice={"type": "allowed_tools", "allowed_tools": allowed}).choices[0]
    equal([c.function.name for c in choice.message.tool_calls], ["add"], "the calls")


@case
def tool_choice_none_returns_text():
    choice = ask("[hello]", tools=[ADD], tool_choice="none").choices[0]
    equal(choice.message.content, "Hello from the script: two and two are four.", "the content")


@case
def two_tools_are_called():
    calls = ask("[two]", tools=[weather_tool()]).choices[0].message.tool_calls
    equal([arguments(c) for c in calls], [{"city": "Paris", "days": 1}, {"city": "Oslo", "days": 2}], "the arguments")
    holds(calls[0].id != calls[1].id, "both calls have the same id")


@case
def parallel_tool_calls_false_returns_one():
    calls = ask("[two]", tools=[weather_tool()], parallel_tool_calls=False).choices[0].message.tool_calls
    equal([arguments(c) for c in calls], [{"city": "Paris", "days": 1}], "the arguments")


@case
def tool_without_parameters_is_called():
    tool = {"type": "function", "function": {"name": "get_time"}}
    calls = ask("[time]", tools=[tool]).choices[0].message.tool_calls
    equal([(c.function.name, arguments(c)) for c in calls], [("get_time", {})], "the calls")


@case
def parse_returns_tool_arguments():
    answer = client.chat.completions.parse(model=SCRIPTED, messages=[{"role": "user", "content": "[weather]"}], tools=[weather_tool()])
    call = answer.choices[0].message.tool_calls[0]
    equal(call.function.parsed_arguments, GetWeather(city="Rome", days=3), "parsed_arguments")


@case
def parse_returns_a_model():
    answer = client.chat.completions.parse(model=SCRIPTED, messages=[{"role": "user", "content": "[city]"}], response_format=City)
    equal(answer.choices[0].message.parsed, City(name="Rome", country="Italy", population=2873000), "parsed")


class Step(BaseModel):
    explanation: str
    output: str


class Solution(BaseModel):
    steps: list[Step]
    answer: float
    done: bool


@case
def parse_returns_a_nested_model():
    answer = client.chat.completions.parse(model=SCRIPTED, messages=[{"role": "user", "content": "[steps]"}], response_format=Solution)
    wanted = Solution(steps=[Step(explanation="halve it", output="x = 4"), Step(explanation="check", output="8 = 8")], answer=4.5, done=True)
    equal(answer.choices[0].message.parsed, wanted, "parsed")


@case
def parse_after_thinking():
    answer = client.chat.completions.parse(
        model=SCRIPTED, messages=[{"role": "user", "content": "[city-reason]"}], response_format=City, reasoning_effort="medium"
    )
    equal(answer.choices[0].message.parsed, City(name="Milano", country="Italy", population=1371000), "parsed")


class Verdict(BaseModel):
    verdict: Literal["yes", "no"]
    certain: bool


@case
def parse_forces_the_built_in_model():
    answer = client.chat.completions.parse(
        model=TINY, messages=[{"role": "user", "content": "What is 7 times 8?"}], response_format=Verdict, temperature=1, seed=4
    )
    holds(isinstance(answer.choices[0].message.parsed, Verdict), "there is no parsed answer")


@case
def parse_raises_when_the_answer_is_cut():
    raises(
        openai.LengthFinishReasonError, client.chat.completions.parse,
        model=SCRIPTED, messages=[{"role": "user", "content": "[city]"}], response_format=City, max_completion_tokens=3,
    )  # fmt: skip


@case
def json_object_is_valid_json():
    content = ask("[object]", response_format={"type": "json_object"}).choices[0].message.content
    equal(json.loads(content), {"greeting": "salve", "lucky": [3, 7]}, "the object")


@case
def unsupported_schema_keyword_is_named():
    schema = {"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}}}
    form = {"type": "json_schema", "json_schema": {"name": "tags", "strict": True, "schema": schema}}
    error = raises(openai.BadRequestError, ask, "[city]", response_format=form)
    holds("uniqueItems" in str(error), f"the error does not name uniqueItems: {error}")


@case
def stream_helper_parses():
    with client.chat.completions.stream(model=SCRIPTED, messages=[{"role": "user", "content": "[city]"}], response_format=City) as stream:
        kinds = [event.type for event in stream]
        parsed = stream.get_final_completion().choices[0].message.parsed
    equal(parsed, City(name="Rome", country="Italy", population=2873000), "parsed")
    holds(kinds.count("content.delta") > 3 and "content.done" in kinds, f"the events are {kinds}")


@case
def stream_helper_reports_tool_calls():
    with client.chat.completions.stream(model=SCRIPTED, messages=[{"role": "user", "content": "[weather]"}], tools=[weather_tool()]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    equal([(e.name, e.parsed_arguments) for e in done], [("get_weather", GetWeather(city="Rome", days=3))], "the calls")


@case
def stop_strings_logprobs_and_limits():
    equal(ask("[hello]", stop=[" script"]).choices[0].message.content, "Hello from the", "the content before a stop string")
    choice = ask("[hello]", max_tokens=2, logprobs=True, top_logprobs=2).choices[0]
    equal(choice.finish_reason, "length", "finish_reason")
    equal([len(token.top_logprobs) for token in choice.logprobs.content], [2, 2], "the neighbours")


@case
def unknown_model_is_not_found():
    error = raises(openai.NotFoundError, ask, "hi", model="no-such-model")
    holds("no-such-model" in str(error), f"the error does not name the model: {error}")


@case
def completions_take_lists_of_prompts():
    answer = client.completions.create(model=TINY, prompt=["Rome is", [72, 105]], max_tokens=3, temperature=0)
    equal([choice.index for choice in answer.choices], [0, 1], "the indexes")




@case
def models_are_listed():
    holds({SCRIPTED, TINY} <= {model.id for model in client.models.list()}, "the models are not listed")
    equal(client.models.retrieve(SCRIPTED).id, SCRIPTED, "the id")


if __name__ == "__main__":
    main()
