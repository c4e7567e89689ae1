"""Turns become conversations: system prompts, politeness, requests for a bare answer, and the rendered text.

`conversation` draws as many turns as asked; the same memory runs through them, so that recall has something to recall
and every other turn is a distraction. `render` writes what `chat_template.jinja` writes (training checks that it does).
"""

import random
from collections.abc import Callable

from skills import (
    Memory,
    Turn,
    addition,
    ask,
    capital,
    copying,
    counting,
    day,
    month,
    multiplication,
    opposite,
    recall,
    reversing,
    spelling,
    subtraction,
    talk,
    tell,
)
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

_ONLY_TRAIN = """\
Respond with only the {kind}.
Answer with only the {kind}.
Reply with only the {kind}.
Only the {kind}, please.
Just the {kind}.
Just give me the {kind}.
Give only the {kind}.
Respond only with the {kind}.
Reply with just the {kind}.
Answer with just the {kind}, nothing else.
No explanation, only the {kind}.
Only answer with the {kind}.
Respond with the {kind} only.
Say only the {kind}.
Return only the {kind}.""".splitlines()
_ONLY_HELD_OUT = """\
Answer only with the {kind}.
Please reply with the {kind} only.
Respond with just the {kind}.
Give me just the {kind}.
Output only the {kind}.""".splitlines()
_BEFORE = ["", "", "", "", "", "", "Please tell me: ", "Can you tell me: ", "Quick question: ", "Question: ", "Hey, ", "Hi! ", "So, ", "Now, ", "Next question: ", "Tell me, "]
_AFTER = ["", "", "", "", "", "", "", "", " Thanks.", " Please.", " Thank you!"]
_BEFORE_HELD_OUT = ["", "", "", "I have a question: ", "One more thing: ", "Please answer: ", "Ok, "]

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
    if turn.fixed:
        return text, answer
    held_out = split == HELD_OUT
    if rng.random() < 0.35 and turn.skill != "talk":
        before = rng.choice(_BEFORE_HELD_OUT if held_out else _BEFORE)
        text = before + (text if not before.endswith(", ") or text.startswith("I ") else text[0].lower() + text[1:])
    if turn.bare is not None and rng.random() < 0.4:
        kind = rng.choice([turn.bare_kind, turn.bare_kind, "answer"]) if rng.random() < 0.9 else "result"
        only = rng.choice(_ONLY_HELD_OUT if held_out else _ONLY_TRAIN).format(kind=kind)
        answer = turn.bare
        if rng.random() < 0.8:
            text = text + ("" if text[-1] in ".?!=" else rng.choice([".", "?", ""])) + " " + only
        else:
            text = only + " " + text
    elif turn.bare is not None and not brief and turn.skill != "talk":
        text += rng.choice(_AFTER)
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
