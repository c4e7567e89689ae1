"""The held-out evaluation sets: `eval/held_out.jsonl`, `eval/prompts20.jsonl`, and the larger set that training looks at.

The committed set and the one that guides training are drawn with different seeds: choices made while looking at the
second do not flatter the first.
"""

import json
import random
from pathlib import Path

from conversation import WEIGHTS, Message, held_out_case

Case = tuple[str, list[Message], str]

_PROMPTS = [
    "What is 2+2? Respond with only the number.",
    "What is 47 + 38?",
    "What is 23 minus 61? Respond with only the number.",
    "7 times 8",
    "What is the capital of Japan?",
    "Which country has Nairobi as its capital?",
    "What is the opposite of brave? Respond with only the word.",
    "Which day comes before Monday?",
    "What month follows August?",
    "How many days are in February?",
    "Count from 5 to 15.",
    "Count down from 10.",
    "Repeat after me: The quick brown fox can jump over the fence!",
    "Repeat: çà 日本 🚀 ok",
    "Reverse the word lantern.",
    "Reverse 90417",
    "Who are you?",
    "Why is the sky blue?",
]
_DIALOGUES: list[list[Message]] = [
    [
        {"role": "user", "content": "Hi, my name is Rosalind."},
        {"role": "assistant", "content": "Nice to meet you, Rosalind."},
        {"role": "user", "content": "What is 12 + 30?"},
        {"role": "assistant", "content": "12 + 30 = 42"},
        {"role": "user", "content": "What is my name?"},
    ],
    [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "My favourite colour is teal."},
        {"role": "assistant", "content": "Noted, your favourite colour is teal."},
        {"role": "user", "content": "What is the capital of Peru?"},
        {"role": "assistant", "content": "The capital of Peru is Lima."},
        {"role": "user", "content": "Thanks!"},
        {"role": "assistant", "content": "You are welcome!"},
        {"role": "user", "content": "What is my favourite colour?"},
    ],
]


def held_out(seed: int, each: int) -> list[Case]:
    """`each` different cases of every skill."""
    cases = []
    for skill in WEIGHTS:
        rng = random.Random(f"{seed} {skill.__name__}")
        seen = set()
        for _ in range(each * 20):
            case = held_out_case(rng, skill)
            key = json.dumps(case[1])
            if key not in seen and len(seen) < each:
                seen.add(key)
                cases.append(case)
    return cases


def write(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with open(folder / "held_out.jsonl", "w") as file:
        for skill, messages, expect in held_out(seed=2, each=150):
            file.write(json.dumps({"skill": skill, "messages": messages, "expect": expect}, ensure_ascii=False) + "\n")
    with open(folder / "prompts20.jsonl", "w") as file:
        for messages in [[{"role": "user", "content": text}] for text in _PROMPTS] + _DIALOGUES:
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(Path(__file__).resolve().parent.parent / "eval")
