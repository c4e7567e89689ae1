"""smolagents: ToolCallingAgent and CodeAgent over OpenAIModel."""

from smolagents import CodeAgent, LogLevel, OpenAIModel, ToolCallingAgent, tool

from checks import SCRIPTED, URL, case, equal, holds, main

HELLO = "Hello from the script: two and two are four."
model = OpenAIModel(model_id=SCRIPTED, api_base=URL, api_key="dummy")
seen = []


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers.

    Args:
        a: The first.
        b: The second.
    """
    seen.append((a, b))
    return a + b


def agent(kind=ToolCallingAgent, **more):
    seen.clear()
    return kind(tools=[add], model=model, max_steps=4, verbosity_level=LogLevel.OFF, **more)


@case
def model_answers():
    message = model.generate([{"role": "user", "content": [{"type": "text", "text": "[hello]"}]}])
    equal(message.content, HELLO, "the content")


@case
def tool_calling_agent_answers():
    answer = agent().run("Add 40 and 2. [final-answer]")
    equal((seen, answer), ([(40, 2)], "The agent's answer is 42."), "the calls and the answer")


@case
def tool_calling_agent_streams():
    answer = agent(stream_outputs=True).run("Add 40 and 2. [final-answer]")
    equal((seen, answer), ([(40, 2)], "The agent's answer is 42."), "the calls and the answer")


@case
def tool_calling_agent_yields_steps():
    steps = list(agent().run("Add 40 and 2. [final-answer]", stream=True))
    equal(steps[-1].output, "The agent's answer is 42.", "the last step's output")


@case
def code_agent_answers():
    answer = agent(CodeAgent).run("Add 30 and 4. [code-agent]")
    equal((seen, answer), ([(30, 4)], 34), "the calls and the answer")


@case
def code_agent_with_structured_output():
    answer = agent(CodeAgent, use_structured_outputs_internally=True).run("Add 30 and 5. [code-agent-json]")
    equal((seen, answer), ([(30, 5)], 35), "the calls and the answer")


@case
def token_usage_is_counted():
    told = agent()
    told.run("Add 40 and 2. [final-answer]")
    holds(told.monitor.total_output_token_count > 0, "there is no usage")


if __name__ == "__main__":
    main()
