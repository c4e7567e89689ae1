"""Turns become conversations: system prompts, politeness, requests for a bare answer, and the rendered text.

`conversation` draws as many turns as asked; the same memory runs through them, so that recall has something to recall
and every other turn is a distraction. `render` writes what `chat_template.jinja` writes (training checks that it does).
"""

import random
from collections.abc import Callable

from phrasings import Phrasings
from recall import ask, recall, tell
from skills import (
    Memory,
    Turn,
    addition,
    capital,
    copying,
    counting,
    day,
    month,
    multiplication,
    opposite,
    reversing,
    spelling,
    subtraction,
)
from talk import talk
from unknown import unknown
from words import HELD_OUT, TRAIN

Skill = Callable[[random.Random, str, Memory], Turn]
Message = dict[str, str]

# How often training shows each skill. The open-ended ones need far more than the closed facts.
WEIGHTS: dict[Skill, float] = {
    addition: 10,
    subtraction: 13,
    multiplication: 4,
    capital: 8,
    opposite: 7,
    day: 4,
    month: 5,
    counting: 5,
    copying: 8,
    reversing: 16,
    spelling: 3,
    recall: 20,
    talk: 4,
    unknown: 13,
}
_SKILLS, _SKILL_WEIGHTS = list(WEIGHTS), list(WEIGHTS.values())

_ONLY = Phrasings(
    """\
[Respond|Answer|Reply|Please respond|Please answer|Please reply|Respond to this|You must answer] with [only|just|nothing but] the {kind}[.||!|, nothing else.|, please.| and nothing else.| alone.]
[Respond|Reply] only with the {kind}[.||!|, nothing else.|, please.]
[Respond|Answer] with the {kind} only[.||!|, nothing else.|, please.]
[Return|Say|Write|Give|Print|Send|Tell me|Type|Show|State|Give me|I want|I need] [only|just|nothing but] the {kind}[.||!|, nothing else.|, please.| and nothing else.]
Output [just|nothing but] the {kind}[.||!|, please.]
[Only|Just] the {kind}[.|, please.|, nothing else.|, thanks.| please]
[No explanation|No explanations|No sentence|No words around it|Without explanation|No extra words|No comments|Be brief|Keep it short|Short answer], [only|just] the {kind}[.||!|, please.]
[Only|Just] [answer|respond|reply] with the {kind}[.||, nothing else.]
[Your answer|The answer|The reply|Your reply|Your response] [should|must|has to] be [only|just] the {kind}[.||!]
The {kind} [only|alone][, please|][.|]
[Don't|Do not] [write|say|output|give] anything [but|except|other than] the {kind}[.|]""",
    """\
Answer only with the {kind}.
Please reply with the {kind} only.
Respond with just the {kind}, no more.
Give me just the {kind} and stop.
Output only the {kind}.""",
)
_BEFORE = Phrasings(
    """\
[Hey|Hi|Hello|Ok|Okay|So|Well|Now|Alright|Right|And|Then|Great|Good|Fine][,|,|!|.][ |]
[Please |][tell me|answer|help me|answer this|help me with this|listen][:|,|.]
[A |One |My |The |][quick |first |next |last |another |simple |easy |small |new |]question[:|,|.]
[I have|I got|I've got|Here is|Here comes|There is] [a|one|another|a new|a quick|my next] [question|task|problem|request|exercise][:|.|,]
[Next|Another one|Next one|Last one|Task|Question|Exercise|Request|Again|Quick one|User|Q|Test][:|.| -]
[Can|Could|Would|Will] you [tell me|help me|answer this|help|solve this|do this|do this for me][:|?|,]
[I was wondering|I wonder|Let me ask|Let me ask you|I want to ask|May I ask|I would like to ask|Help me out|Do you know|Let's see|Let's try this|Try this|Here we go|Just wondering|Think|Think carefully][:|,|...]""",
    """\
I have a little question:
One more thing:
Please answer me:
Ok then,
Be so kind:""",
)
_AFTER = Phrasings(
    """\
[Thanks|Thank you|Please|Cheers|Thanks in advance|Thank you very much|Thanks a lot|Many thanks|Please help|Please answer|I need it|Please tell me|Quickly|Quick|I forgot|Do you know|Can you help][.|!||?]
I [need it|want to know it|am asking|need this|must know][ for school| now| for a friend| quickly| today|][.|!]""",
    """\
Thank you so much!
I really need to know.
Please help me.""",
)

_SYSTEM_BRIEF = """\
Answer with only the answer, nothing else.
Respond with only the answer.
Give bare answers without any sentence around them.
Answer with a single word or number whenever possible.
Reply with only the result. No explanations.
You are a concise assistant. Respond with only the answer.""".splitlines()
_KINDS = "helpful friendly polite careful reliable honest knowledgeable patient smart modern harmless cheerful professional".split()
_ROLES = "assistant,AI assistant,chatbot,AI,language model,digital assistant,bot,support agent,tutor,teacher,companion,expert".split(",")
_PLACES = ["", "", "", " for a bank", " for a school", " for students", " on a website", " in an online shop", " for a library", " for children", " who answers questions"]
_ADDITIONS = [
    "", "", "", " Be polite.", " Answer the user's questions.", " Always tell the truth.", " If you do not know something, say so.",
    " Help the user.", " Be kind and patient.", " Use simple words.", " Follow the user's instructions.", " Speak English.",
]  # fmt: skip
_SYSTEM_HELD_OUT = [
    "You are a helpful assistant who never guesses.",
    "Assist the user as well as you can.",
    "You are Max, a virtual helper of the city library.",
    "This is a test of the system. Answer the user.",
    "You are an AI system that helps people with everyday tasks.",
    "Be a good assistant. Keep a friendly tone.",
]


def system_prompt(rng: random.Random, split: str, memory: Memory) -> tuple[str | None, bool]:
    """A system prompt, or none, and whether it asks for bare answers."""
    kind = rng.random()
    if kind < 0.55:
        return None, False
    if kind < 0.60 and split == TRAIN:
        return rng.choice(_SYSTEM_BRIEF), True
    if kind < 0.63:
        tell(rng, split, memory)
        memory.told = {key: value for key, value in memory.told.items() if key == "name"}
        if memory.told:
            return f"You are a helpful assistant. The user's name is {memory.told['name']}.", False
    if split == HELD_OUT and rng.random() < 0.6:
        return rng.choice(_SYSTEM_HELD_OUT), False
    if rng.random() < 0.25:
        return "You are a helpful assistant.", False
    role = rng.choice(_ROLES)
    adjective = rng.choice(_KINDS)
    return f"You are a {adjective} {role}{rng.choice(_PLACES)}.{rng.choice(_ADDITIONS)}".replace("a honest", "an honest"), False


def phrase(rng: random.Random, turn: Turn, split: str, brief: bool) -> tuple[str, str]:
    """The user's message as typed and the answer it deserves."""
    text, answer = turn.user, turn.answer
    if turn.skill != "talk" and rng.random() < (0.12 if turn.fixed else 0.22):
        before = _BEFORE.pick(rng, split).strip() + " "
        lowered = before[-2] in ",.-" and not turn.fixed and not text.startswith(("I ", "I'")) and rng.random() < 0.7
        text = before + (text[0].lower() + text[1:] if lowered else text)
    if turn.fixed:
        return text, answer
    if turn.bare is not None and rng.random() < 0.4:
        kind = rng.choice([turn.bare_kind, turn.bare_kind, "answer"]) if rng.random() < 0.9 else "result"
        only = _ONLY.pick(rng, split).format(kind=kind)
        answer = turn.bare
        if rng.random() < 0.8:
            text = text + ("" if text[-1] in ".?!=" else rng.choice([".", "?", ""])) + " " + only
        else:
            text = only + ("" if only[-1] in ".!" else rng.choice([".", ":"])) + " " + text
    elif turn.bare is not None and turn.skill != "talk" and rng.random() < 0.2:
        text += ("" if text[-1] in ".?!=" else ".") + " " + _AFTER.pick(rng, split)
    if brief and turn.bare is not None:
        answer = turn.bare
    style = rng.random()
    if style < 0.06:
        text = text.rstrip("?.!")
    elif style < 0.12 and turn.skill in ("addition", "subtraction", "multiplication", "opposites", "counting", "talk", "unknown"):
        text = text.lower()
    return text or turn.user, answer


def conversation(rng: random.Random, enough: Callable[[list[Message]], bool]) -> list[Message]:
    """A training conversation that grows by a turn until it is enough."""
    memory = Memory()
    prompt, brief = system_prompt(rng, TRAIN, memory)
    messages: list[Message] = [] if prompt is None else [{"role": "system", "content": prompt}]
    while True:
        skill = rng.choices(_SKILLS, _SKILL_WEIGHTS)[0]
        question, answer = phrase(rng, skill(rng, TRAIN, memory), TRAIN, brief)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if enough(messages):
            return messages


def held_out_case(rng: random.Random, skill: Skill) -> tuple[str, list[Message], str]:
    """An evaluation case: its skill, the messages up to the question, the one right answer."""
    memory = Memory()
    prompt, brief = (None, False) if rng.random() < 0.5 else system_prompt(rng, HELD_OUT, memory)
    messages: list[Message] = [] if prompt is None else [{"role": "system", "content": prompt}]

    def say(turn: Turn) -> None:
        question, answer = phrase(rng, turn, HELD_OUT, brief)
        messages.extend([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])

    if skill is recall:
        for _ in range(rng.choice([1, 1, 2])):
            say(tell(rng, HELD_OUT, memory))
            for _ in range(rng.randint(0, 4)):
                say(rng.choice([addition, capital, opposite, counting, reversing, copying, talk, unknown])(rng, HELD_OUT, memory))
        say(ask(rng, HELD_OUT, memory))
    else:
        if rng.random() < 0.2:
            say(rng.choice([addition, opposite, talk, tell, capital])(rng, HELD_OUT, memory))
        say(skill(rng, HELD_OUT, memory))
    return skill.__name__, messages[:-1], messages[-1]["content"]


def render(messages: list[Message]) -> str:
    """The text of `chat_template.jinja` for system, user and assistant messages, thinking off, without a new prompt."""
    text = ""
    for message in messages:
        think = "<think>\n\n</think>\n\n" if message["role"] == "assistant" else ""
        text += f"<|im_start|>{message['role']}\n{think}{message['content'].strip()}<|im_end|>\n"
    return text
