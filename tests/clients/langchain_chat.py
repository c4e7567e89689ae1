"""langchain-openai: ChatOpenAI with tools and structured output, on chat completions and on Responses."""

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from checks import SCRIPTED, TINY, City, case, equal, holds, main

HELLO = "Hello from the script: two and two are four."
ROME = City(name="Rome", country="Italy", population=2873000)
GENOVA = City(name="Genova", country="Italy / Liguria", population=558000)

chat = ChatOpenAI(model=SCRIPTED)
responses = ChatOpenAI(model=SCRIPTED, use_responses_api=True)
tiny = ChatOpenAI(model=TINY)


@tool
def get_weather(city: str, days: int) -> str:
    """The weather of a city."""
    return "sunny"


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


def calls(message):
    return [(call["name"], call["args"]) for call in message.tool_calls]


@case
def invoke_returns_text_and_usage():
    message = chat.invoke([SystemMessage("Be brief."), HumanMessage("[hello]")])
    equal(message.content, HELLO, "the content")
    holds(message.usage_metadata["output_tokens"] > 0, "there is no usage")


@case
def invoke_with_the_built_in_model():
    equal(ChatOpenAI(model=TINY, temperature=0).invoke("What is 23 minus 61?").content, "23 - 61 = -38", "the content")


@case
def stream_and_batch():
    pieces = [chunk.content for chunk in chat.stream("[long]")]
    holds(len(pieces) > 10, "the text came in few pieces")
    holds("".join(pieces).endswith("59 sheep, and sleep."), "the streamed text is not whole")
    equal([message.content for message in chat.batch(["[hello]", "[hello]"])], [HELLO, HELLO], "the batch")


@case
async def asynchronous_calls():
    equal((await chat.ainvoke("[hello]")).content, HELLO, "the content")


@case
def bound_tool_is_called_and_answered():
    bound = chat.bind_tools([get_weather, add])
    messages = [HumanMessage("[weather]")]
    first = bound.invoke(messages)
    equal(calls(first), [("get_weather", {"city": "Rome", "days": 3})], "the calls")
    messages += [first, ToolMessage("sunny", tool_call_id=first.tool_calls[0]["id"])]
    equal(bound.invoke(messages).content, "Sunny skies over Rome: pack light.", "the content")


@case
def bound_tool_streams():
    whole = None
    for chunk in chat.bind_tools([get_weather]).stream("[weather]"):
        whole = chunk if whole is None else whole + chunk
    equal(calls(whole), [("get_weather", {"city": "Rome", "days": 3})], "the calls")


@case
def strict_tools_and_choices():
    add_call = [("add", {"a": 19, "b": 23})]
    equal(calls(chat.bind_tools([get_weather, add], strict=True).invoke("[add]")), add_call, "strict")
    equal(calls(chat.bind_tools([get_weather, add], tool_choice="any").invoke("[add]")), add_call, "any")
    equal(calls(chat.bind_tools([get_weather, add], tool_choice="add").invoke("[add]")), add_call, "a named tool")
    equal(len(calls(chat.bind_tools([get_weather], parallel_tool_calls=False).invoke("[two]"))), 1, "the number of calls")


@case
def structured_output_by_default():
    equal(chat.with_structured_output(City).invoke("[city]"), ROME, "the output")


@case
def structured_output_by_function_calling():
    equal(chat.with_structured_output(City, method="function_calling").invoke("[langchain-city]"), GENOVA, "the output")


@case
def structured_output_by_json_mode():
    equal(chat.with_structured_output(City, method="json_mode").invoke("[city]"), ROME, "the output")


@case
def structured_output_of_a_json_schema():
    schema = City.model_json_schema()
    equal(chat.with_structured_output(schema).invoke("[city]"), ROME.model_dump(), "the output")


@case
def structured_output_streams():
    equal(list(chat.with_structured_output(City).stream("[city]"))[-1], ROME, "the output")


class Verdict(BaseModel):
    certain: bool


@case
def structured_output_forces_the_built_in_model():
    output = tiny.with_structured_output(Verdict).invoke("What is 7 times 8?")
    holds(isinstance(output, Verdict), f"the output is {output!r}")
    output = tiny.with_structured_output(Verdict, method="function_calling").invoke("What is 7 times 8?")
    holds(isinstance(output, Verdict), f"the output by function calling is {output!r}")


@case
def reasoning_effort_is_accepted():
    equal(ChatOpenAI(model=SCRIPTED, reasoning_effort="high").invoke("[reason]").content, "Reasoned answer: forty-two, naturally.", "the content")


@case
def responses_invoke_and_stream():
    equal(responses.invoke("[hello]").text, HELLO, "the text")
    text = "".join(chunk.text for chunk in responses.stream("[hello]"))
    equal(text, HELLO, "the streamed text")


@case
def responses_tools():
    bound = responses.bind_tools([get_weather])
    messages = [HumanMessage("[weather]")]
    first = bound.invoke(messages)
    equal(calls(first), [("get_weather", {"city": "Rome", "days": 3})], "the calls")
    messages += [first, ToolMessage("sunny", tool_call_id=first.tool_calls[0]["id"])]
    equal(bound.invoke(messages).text, "Sunny skies over Rome: pack light.", "the text")


@case
def responses_structured_output():
    equal(responses.with_structured_output(City).invoke("[city]"), ROME, "the output")
    equal(responses.with_structured_output(City, method="function_calling").invoke("[langchain-city]"), GENOVA, "the output by function calling")


if __name__ == "__main__":
    main()
