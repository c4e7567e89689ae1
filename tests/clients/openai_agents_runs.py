"""openai-agents: runs on Responses (its default) and on chat completions."""

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool
from openai import AsyncOpenAI
from pydantic import BaseModel

from checks import SCRIPTED, TINY, City, case, equal, holds, main

HELLO = "Hello from the script: two and two are four."
ROME = City(name="Rome", country="Italy", population=2873000)


def both(check):
    """Declares a case for Responses and one for chat completions."""

    async def on_responses():
        await check(lambda name: name)

    async def on_chat():
        client = AsyncOpenAI()
        await check(lambda name: OpenAIChatCompletionsModel(model=name, openai_client=client))

    for function in (on_responses, on_chat):
        function.__name__ = f"{check.__name__}_{function.__name__}"
        case(function)
    return check


def forecaster(model, seen, **more):
    @function_tool
    def get_weather(city: str, days: int) -> str:
        """The weather of a city."""
        seen.append((city, days))
        return "sunny"

    return Agent(name="forecaster", instructions="Be brief.", model=model(SCRIPTED), tools=[get_weather], **more)


@both
async def agent_answers(model):
    result = await Runner.run(Agent(name="greeter", instructions="Be brief.", model=model(SCRIPTED)), "[hello]")
    equal(result.final_output, HELLO, "final_output")


@both
async def agent_of_the_built_in_model(model):
    agent = Agent(name="sums", model=model(TINY), model_settings=ModelSettings(temperature=0))
    result = await Runner.run(agent, "What is 23 minus 61?")
    equal(result.final_output, "23 - 61 = -38", "final_output")


@both
async def agent_calls_a_tool(model):
    seen = []
    result = await Runner.run(forecaster(model, seen), "[weather]")
    equal((seen, result.final_output), ([("Rome", 3)], "Sunny skies over Rome: pack light."), "the calls and the output")


@both
async def agent_must_call_a_tool(model):
    seen = []
    agent = forecaster(model, seen, model_settings=ModelSettings(tool_choice="required", parallel_tool_calls=False))
    result = await Runner.run(agent, "[weather]")
    equal((seen, result.final_output), ([("Rome", 3)], "Sunny skies over Rome: pack light."), "the calls and the output")


@both
async def agent_calls_two_tools(model):
    seen = []
    result = await Runner.run(forecaster(model, seen), "[two]")
    equal(sorted(seen), [("Oslo", 2), ("Paris", 1)], "the calls")
    equal(result.final_output, "Both cities were asked: Paris mild, Oslo cold.", "final_output")


@both
async def output_type_is_parsed(model):
    result = await Runner.run(Agent(name="cities", model=model(SCRIPTED), output_type=City), "[city]")
    equal(result.final_output, ROME, "final_output")


class Verdict(BaseModel):
    certain: bool


@both
async def output_type_forces_the_built_in_model(model):
    result = await Runner.run(Agent(name="verdicts", model=model(TINY), output_type=Verdict), "What is 7 times 8?")
    holds(isinstance(result.final_output, Verdict), f"final_output is {result.final_output!r}")


@both
async def stream_yields_deltas(model):
    result = Runner.run_streamed(Agent(name="greeter", model=model(SCRIPTED)), "[long]")
    pieces = []
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            pieces.append(event.data.delta)
    holds(len(pieces) > 10, "the text came in few pieces")
    equal("".join(pieces), result.final_output, "the text")


@both
async def stream_calls_a_tool(model):
    seen = []
    result = Runner.run_streamed(forecaster(model, seen), "[weather]")
    async for _ in result.stream_events():
        pass
    equal((seen, result.final_output), ([("Rome", 3)], "Sunny skies over Rome: pack light."), "the calls and the output")


@both
async def agent_hands_off(model):
    helper = Agent(name="helper", model=model(SCRIPTED))
    result = await Runner.run(Agent(name="desk", model=model(SCRIPTED), handoffs=[helper]), "[handoff]")
    equal((result.last_agent.name, result.final_output), ("helper", "The helper speaking, how can I help?"), "the last agent and its answer")


@both
async def conversation_is_continued(model):
    agent = Agent(name="greeter", model=model(SCRIPTED))
    first = await Runner.run(agent, "[hello]")
    second = await Runner.run(agent, [*first.to_input_list(), {"role": "user", "content": "And now: [add-up]"}])
    equal(second.final_output, "Nothing to add up here.", "final_output")


if __name__ == "__main__":
    main()
