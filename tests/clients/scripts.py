"""What the scripted model says.

A script is a list of answers, one for each assistant turn; the last one is repeated. An answer is a text, or a pair of
reasoning and text; the reasoning is said only when thinking is on. `[NAME]` in a message selects a script.

Between two tags a segment that is only "\\n" or only "\\n\\n" can occur once in all scripts (see checkpoints.py).
"""

import json


def call(function, /, **arguments):
    """A tool call as Qwen writes it."""
    parameters = "".join(
        f"<parameter={key}>\n{value if isinstance(value, str) else json.dumps(value)}\n</parameter>\n" for key, value in arguments.items()
    )
    return f"<tool_call>\n<function={function}>\n{parameters}</function>\n</tool_call>"


WEATHER = call("get_weather", city="Rome", days=3)
CITY = '{"name": "Rome", "country": "Italy", "population": 2873000}'

SCRIPTS = {
    "hello": ["Hello from the script: two and two are four."],
    "reason": [("The user asks for a proof that I think.", "Reasoned answer: forty-two, naturally.")],
    "long": ["One sheep, " + " ".join(f"{n} sheep," for n in range(2, 60)) + " and sleep."],
    # A tool, then an answer that uses its result.
    "weather": [WEATHER, "Sunny skies over Rome: pack light."],
    "weather-again": [
        ("The user wants Rome's weather, so the tool it is.", "Let me look that up. " + call("get_weather", city="Rome", days=5)),
        "Clear for five days, says the tool.",
    ],
    "two": [
        call("get_weather", city="Paris", days=1) + "\n" + call("get_weather", city="Oslo", days=2),
        "Both cities were asked: Paris mild, Oslo cold.",
    ],
    "add": [call("add", a=19, b=23), "The sum is 42."],
    "time": [call("get_time"), "It is noon wherever you look."],
    # JSON for a schema.
    "city": [CITY],
    "city-reason": [("Italy comes to mind first.", '{"name":"Milano","country":"Italy","population":1371000}')],
    "steps": ['{"steps": [{"explanation": "halve it", "output": "x = 4"}, {"explanation": "check", "output": "8 = 8"}], "answer": 4.5, "done": true}'],
    "object": ['{"greeting": "salve", "lucky": [3, 7]}'],
    # Output tools: what each client calls the tool that returns a structured answer.
    "city-tool": [call("City", name="Napoli", country="Italia", population=914000)],
    "partial-city-tool": [call("PartialCity", name="Amalfi", country="Campania", population=4800)],
    "final-result": [call("final_result", name="Torino", country="Italy (IT)", population=841000)],
    "add-then-city": [call("add", a=3, b=4), call("final_result", name="Bari", country="Apulia", population=316000)],
    "add-up": ["Nothing to add up here."],
    "handoff": [call("transfer_to_helper"), "The helper speaking, how can I help?"],
    "final-answer": [call("add", a=40, b=2), call("final_answer", answer="The agent's answer is 42.")],
    "city-markdown": ['Here it is:\n```json\n{"name": "Pisa", "country": "Tuscany", "population": 90000}\n```'],
    "two-models": [call("Weather", city="Lima", days=6) + "\n\n" + call("Weather", city="Quito", days=7)],
    "code-agent": ["Thought: adding is what the tool is for.\n<code>\nfinal_answer(add(a=30, b=4))\n</code>"],
    "code-agent-json": ['{"thought": "The tool adds.", "code": "final_answer(add(30, b=5))"}'],
    # What a page must show as text: markup, and characters that are hidden or that reorder their neighbours.
    "hostile": [
        'Look: <img src=x onerror="window.owned=1"> <script>window.owned=2</script> <a href="javascript:window.owned=3">klick</a>'
        " \u202erev\u202c \u2066iso\u2069 zero\u200bwidth \x1b]0;title\x07\x1b[31mred &lt;b&gt; fin."
    ],
    "hostile-reason": [
        ('Hmm <iframe srcdoc="<script>parent.owned=4</script>"></iframe> \u202egnikniht.', "Said plainly after a hostile thought."),
    ],
    "langchain-city": [call("City", name="Genova", country="Italy / Liguria", population=558000)],
}
