"""litellm: completions, its bridge to Responses, and its bridges from and to Anthropic's messages."""

import json

import litellm

from checks import SCRIPTED, SERVER, TINY, URL, City, case, equal, holds, main

HELLO = "Hello from the script: two and two are four."
ROME = City(name="Rome", country="Italy", population=2873000)
OPENAI = {"api_base": URL, "api_key": "dummy"}
ANTHROPIC = {"api_base": SERVER, "api_key": "dummy"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"]},
    },
}
CALL = [("get_weather", {"city": "Rome", "days": 3})]


def user(text):
    return [{"role": "user", "content": text}]


def calls(response):
    return [(call.function.name, json.loads(call.function.arguments)) for call in response.choices[0].message.tool_calls or []]


def text_of(response):
    return response.choices[0].message.content


def streamed(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@case
def completion_returns_text():
    response = litellm.completion(model=f"openai/{SCRIPTED}", messages=user("[hello]"), **OPENAI)
    equal(text_of(response), HELLO, "the content")
    holds(response.usage.completion_tokens > 0, "there is no usage")


@case
def completion_of_the_built_in_model():
    response = litellm.completion(model=f"openai/{TINY}", messages=user("What is 23 minus 61?"), temperature=0, **OPENAI)
    equal(text_of(response), "23 - 61 = -38", "the content")


@case
async def completion_streams():
    chunks = await litellm.acompletion(model=f"openai/{SCRIPTED}", messages=user("[hello]"), stream=True, **OPENAI)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])
    equal(text, HELLO, "the streamed text")


@case
def completion_as_vllm_with_reasoning():
    response = litellm.completion(model=f"hosted_vllm/{SCRIPTED}", messages=user("[reason]"), reasoning_effort="high", **OPENAI)
    equal(text_of(response), "Reasoned answer: forty-two, naturally.", "the content")
    equal(response.choices[0].message.reasoning_content, "The user asks for a proof that I think.", "reasoning_content")


@case
def completion_calls_tools_and_echoes_them():
    messages = user("[weather]")
    first = litellm.completion(model=f"openai/{SCRIPTED}", messages=messages, tools=[WEATHER], tool_choice="auto", **OPENAI)
    equal(calls(first), CALL, "the calls")
    message = first.choices[0].message
    messages += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}]
    second = litellm.completion(model=f"openai/{SCRIPTED}", messages=messages, tools=[WEATHER], **OPENAI)
    equal(text_of(second), "Sunny skies over Rome: pack light.", "the content")


@case
def completion_with_required_tool():
    response = litellm.completion(model=f"openai/{SCRIPTED}", messages=user("[weather]"), tools=[WEATHER], tool_choice="required", **OPENAI)
    equal(calls(response), CALL, "the calls")


@case
def completion_with_a_response_model():
    response = litellm.completion(model=f"openai/{SCRIPTED}", messages=user("[city]"), response_format=City, **OPENAI)
    equal(City.model_validate_json(text_of(response)), ROME, "the model")


@case
def cache_control_in_parts_is_ignored():
    parts = [{"type": "text", "text": "[hello]", "cache_control": {"type": "ephemeral"}}]
    equal(text_of(litellm.completion(model=f"openai/{SCRIPTED}", messages=user(parts), **OPENAI)), HELLO, "the content")


@case
def completion_over_responses():
    model = f"openai/responses/{SCRIPTED}"
    equal(text_of(litellm.completion(model=model, messages=user("[hello]"), **OPENAI)), HELLO, "the content")
    equal(calls(litellm.completion(model=model, messages=user("[weather]"), tools=[WEATHER], **OPENAI)), CALL, "the calls")


@case
def completion_over_responses_streams():
    chunks = litellm.completion(model=f"openai/responses/{SCRIPTED}", messages=user("[hello]"), stream=True, **OPENAI)
    equal(streamed(chunks), HELLO, "the streamed text")


@case
def responses_pass_through():
    response = litellm.responses(model=f"openai/{SCRIPTED}", input="[hello]", **OPENAI)
    equal(response.output[-1].content[0].text, HELLO, "the text")
    kinds = [event.type for event in litellm.responses(model=f"openai/{SCRIPTED}", input="[hello]", stream=True, **OPENAI)]
    equal(kinds[-1], "response.completed", "the last event")


@case
def responses_over_completion():
    # litellm knows no Responses of this provider and translates to chat completions.
    response = litellm.responses(model=f"lm_studio/{SCRIPTED}", input="[hello]", **OPENAI)
    equal(response.output[-1].content[0].text, HELLO, "the text")


@case
def completion_over_anthropic_messages():
    model = f"anthropic/{SCRIPTED}"
    equal(text_of(litellm.completion(model=model, messages=user("[hello]"), **ANTHROPIC)), HELLO, "the content")
    equal(calls(litellm.completion(model=model, messages=user("[weather]"), tools=[WEATHER], **ANTHROPIC)), CALL, "the calls")
    response = litellm.completion(model=model, messages=user("[weather]"), tools=[WEATHER], tool_choice="required", **ANTHROPIC)
    equal(calls(response), CALL, "the required calls")


@case
def completion_over_anthropic_messages_streams():
    chunks = litellm.completion(model=f"anthropic/{SCRIPTED}", messages=user("[hello]"), stream=True, **ANTHROPIC)
    equal(streamed(chunks), HELLO, "the streamed text")


@case
async def anthropic_messages_pass_through():
    message = await litellm.anthropic.messages.acreate(model=f"anthropic/{SCRIPTED}", max_tokens=200, messages=user("[hello]"), **ANTHROPIC)
    equal(message["content"][0]["text"], HELLO, "the text")


@case
async def anthropic_messages_over_openai():
    tool = {"name": "get_weather", "description": "The weather.", "input_schema": WEATHER["function"]["parameters"]}
    message = await litellm.anthropic.messages.acreate(model=f"openai/{SCRIPTED}", max_tokens=200, messages=user("[weather]"), tools=[tool], **OPENAI)
    block = message["content"][-1]
    equal([(block["name"], block["input"])], CALL, "the calls")


if __name__ == "__main__":
    main()
