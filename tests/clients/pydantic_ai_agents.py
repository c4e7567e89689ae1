"""pydantic-ai: agents with tools and structured outputs, on chat completions and on Responses."""

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

from checks import SCRIPTED, TINY, City, case, equal, holds, main

HELLO = "Hello from the script: two and two are four."
TORINO = City(name="Torino", country="Italy (IT)", population=841000)
ROME = City(name="Rome", country="Italy", population=2873000)
KINDS = {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}


def agent(kind, model=SCRIPTED, **more):
    return Agent(KINDS[kind](model), **more)


def both(check):
    """Declares a case for chat completions and one for Responses."""
    for kind in KINDS:

        async def one(kind=kind):
            await check(kind)

        one.__name__ = f"{check.__name__}_on_{kind}"
        case(one)
    return check


@both
async def agent_answers(kind):
    result = await agent(kind, instructions="Be brief.", system_prompt="Be kind.").run("[hello]")
    equal(result.output, HELLO, "the output")
    holds(result.usage.output_tokens > 0, "there is no usage")


@both
async def agent_of_the_built_in_model(kind):
    result = await agent(kind, TINY, model_settings={"temperature": 0}).run("What is 23 minus 61?")
    equal(result.output, "23 - 61 = -38", "the output")


@both
async def agent_calls_a_tool(kind):
    seen = []
    forecaster = agent(kind)

    @forecaster.tool_plain
    def get_weather(city: str, days: int) -> str:
        """The weather of a city."""
        seen.append((city, days))
        return "sunny"

    result = await forecaster.run("[weather]")
    equal((seen, result.output), ([("Rome", 3)], "Sunny skies over Rome: pack light."), "the calls and the output")


@both
async def output_type_is_returned_by_a_tool(kind):
    result = await agent(kind, output_type=City).run("[final-result]")
    equal(result.output, TORINO, "the output")


@both
async def tool_and_output_type(kind):
    seen = []
    adder = agent(kind, output_type=City)

    @adder.tool_plain
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        seen.append((a, b))
        return a + b

    result = await adder.run("[add-then-city]")
    equal((seen, result.output), ([(3, 4)], City(name="Bari", country="Apulia", population=316000)), "the calls and the output")


@both
async def native_output_is_parsed(kind):
    result = await agent(kind, output_type=NativeOutput(City)).run("[city]")
    equal(result.output, ROME, "the output")


@both
async def prompted_output_is_parsed(kind):
    result = await agent(kind, output_type=PromptedOutput(City)).run("[city]")
    equal(result.output, ROME, "the output")


class Verdict(BaseModel):
    certain: bool


@both
async def output_type_forces_the_built_in_model(kind):
    result = await agent(kind, TINY, output_type=Verdict).run("What is 7 times 8?")
    holds(isinstance(result.output, Verdict), f"the output is {result.output!r}")


@both
async def stream_yields_text(kind):
    async with agent(kind).run_stream("[long]") as result:
        pieces = [piece async for piece in result.stream_text(delta=True)]
    holds("".join(pieces).endswith("59 sheep, and sleep."), f"the text ends with {''.join(pieces)[-40:]!r}")


@both
async def stream_calls_a_tool(kind):
    seen = []
    forecaster = agent(kind)

    @forecaster.tool_plain
    def get_weather(city: str, days: int) -> str:
        """The weather of a city."""
        seen.append((city, days))
        return "sunny"

    async with forecaster.run_stream("[weather]") as result:
        output = await result.get_output()
    equal((seen, output), ([("Rome", 3)], "Sunny skies over Rome: pack light."), "the calls and the output")


@both
async def stream_yields_structured_output(kind):
    async with agent(kind, output_type=City).run_stream("[final-result]") as result:
        output = await result.get_output()
    equal(output, TORINO, "the output")


@both
async def history_is_continued(kind):
    first = await agent(kind).run("[hello]")
    second = await agent(kind).run("And now: [add-up]", message_history=first.all_messages())
    equal(second.output, "Nothing to add up here.", "the output")


if __name__ == "__main__":
    main()
