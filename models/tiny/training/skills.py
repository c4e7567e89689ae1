"""One function a skill: each makes a question and the one answer that counts as right.

A skill takes a random generator, the side of the split and the conversation's memory. Held-out questions use phrasings
(phrasings.py), operands and strings that training never shows. Recall, talk and the unknown have files of their own.
Where a bare answer exists (`4` besides `2 + 2 = 4`), the turn carries both, and the user's words decide which is right.
"""

import random
from dataclasses import dataclass, field

from facts import CAPITALS, DAYS, MONTH_LENGTHS, MONTHS, OPPOSITES, ORDINALS
from phrasings import (
    ADD,
    CAPITAL,
    COPY,
    COUNT,
    COUNT_DOWN,
    COUNT_UP,
    COUNTRY,
    LENGTH,
    LIST,
    MULTIPLY,
    NEXT,
    NTH,
    OPPOSITE,
    PREDECESSOR,
    PREVIOUS,
    REVERSE,
    SPELL,
    SUBTRACT,
    SUCCESSOR,
    TOMORROW,
    YESTERDAY,
)
from words import (
    ADJECTIVES,
    ADVERBS,
    ALL_WORDS,
    ANIMALS,
    CITIES,
    EXOTIC,
    HELD_OUT,
    NOUNS,
    TRAIN,
    VERBS,
    any_string,
    is_held_out,
)


@dataclass
class Turn:
    """A user's message and its answer; `bare` is the answer without its sentence, where one exists."""

    skill: str
    user: str
    answer: str
    bare: str | None = None
    bare_kind: str = "answer"  # what the user may ask for alone: number, word, name, …
    fixed: bool = False  # the text must stand as it is: no politeness around it, no change of case


@dataclass
class Memory:
    """What the user has told so far: attribute to value."""

    told: dict[str, str] = field(default_factory=dict)


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _operand(rng: random.Random) -> int:
    return rng.randint(10, 99) if rng.random() < 0.8 else rng.randint(0, 20)


def _operands(rng: random.Random, split: str, operation: str) -> tuple[int, int]:
    """Two numbers below 100; both orders of a pair stand on the same side of the split. 2 and 2 is always trained."""
    while True:
        a, b = _operand(rng), _operand(rng)
        held_out = is_held_out(f"{operation} {min(a, b)} {max(a, b)}") and (a, b) != (2, 2)
        if held_out == (split == HELD_OUT):
            return a, b


def addition(rng: random.Random, split: str, _: Memory) -> Turn:
    a, b = (2, 2) if split == TRAIN and rng.random() < 0.003 else _operands(rng, split, "+")
    return Turn("addition", ADD.pick(rng, split).format(a=a, b=b), f"{a} + {b} = {a + b}", str(a + b), "number")


def subtraction(rng: random.Random, split: str, _: Memory) -> Turn:
    a, b = _operands(rng, split, "-")
    return Turn("subtraction", SUBTRACT.pick(rng, split).format(a=a, b=b), f"{a} - {b} = {a - b}", str(a - b), "number")


def multiplication(rng: random.Random, split: str, _: Memory) -> Turn:
    """The times tables: facts like any other, so only the phrasings are held out."""
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    return Turn("multiplication", MULTIPLY.pick(rng, split).format(a=a, b=b), f"{a} × {b} = {a * b}", str(a * b), "number")


# --- closed facts ----------------------------------------------------------------------------------------------------


def capital(rng: random.Random, split: str, _: Memory) -> Turn:
    country, city = rng.choice(list(CAPITALS.items()))
    sentence = f"The capital of {with_article(country)} is {city}"
    sentence += "" if sentence.endswith(".") else "."
    if rng.random() < 0.2:
        return Turn("capitals", COUNTRY.pick(rng, split).format(x=city), sentence, country, "country")
    name = with_article(country) if rng.random() < 0.7 else country
    return Turn("capitals", CAPITAL.pick(rng, split).format(x=name), sentence, city, "city")


def with_article(country: str) -> str:
    plural = country.startswith("United") or country == "Philippines"
    return f"the {country}" if plural else country


def opposite(rng: random.Random, split: str, _: Memory) -> Turn:
    word, other = rng.choice(list(OPPOSITES.items()))
    return Turn("opposites", OPPOSITE.pick(rng, split).format(x=word), f"The opposite of {word} is {other}.", other, "word")


def _calendar(rng: random.Random, split: str, skill: str, names: list[str], unit: str, whole: str) -> Turn:
    """Next, previous, n-th or the whole list: the questions that days and months share."""
    i = rng.randrange(len(names))
    x, following, preceding = names[i], names[(i + 1) % len(names)], names[i - 1]
    kind = rng.random()
    if kind < 0.38:
        sentence, bare, asked = f"The {unit} after {x} is {following}.", following, NEXT
    elif kind < 0.76:
        sentence, bare, asked = f"The {unit} before {x} is {preceding}.", preceding, PREVIOUS
    elif kind < 0.94:
        sentence, bare, asked = f"The {ORDINALS[i]} {unit} of the {whole} is {x}.", x, NTH
    else:
        listing = ", ".join(names)
        return Turn(skill, LIST.pick(rng, split).format(units=unit + "s", whole=whole), listing + ".")
    question = asked.pick(rng, split).format(unit=unit, whole=whole, n=ORDINALS[i], x=x)
    question = question[0].upper() + question[1:] if rng.random() < 0.9 else question
    return Turn(skill, question, sentence, bare, unit)


def day(rng: random.Random, split: str, _: Memory) -> Turn:
    if rng.random() < 0.2:
        i = rng.randrange(7)
        if rng.random() < 0.5:
            answer, asked, when = DAYS[(i + 1) % 7], TOMORROW, "after"
        else:
            answer, asked, when = DAYS[i - 1], YESTERDAY, "before"
        return Turn("days", asked.pick(rng, split).format(x=DAYS[i]), f"The day {when} {DAYS[i]} is {answer}.", answer, "day")
    return _calendar(rng, split, "days", DAYS, "day", "week")


def month(rng: random.Random, split: str, _: Memory) -> Turn:
    if rng.random() < 0.25:
        name, length = rng.choice(list(MONTH_LENGTHS.items()))
        leap = " (29 in a leap year)" if name == "February" else ""
        return Turn("months", LENGTH.pick(rng, split).format(x=name), f"{name} has {length} days{leap}.", str(length), "number")
    return _calendar(rng, split, "months", MONTHS, "month", "year")


# --- counting --------------------------------------------------------------------------------------------------------


def counting(rng: random.Random, split: str, _: Memory) -> Turn:
    kind = rng.random()
    if kind < 0.12:
        a = rng.randint(1, 99)
        if rng.random() < 0.5:
            return Turn("counting", SUCCESSOR.pick(rng, split).format(a=a), f"The number after {a} is {a + 1}.", str(a + 1), "number")
        return Turn("counting", PREDECESSOR.pick(rng, split).format(a=a), f"The number before {a} is {a - 1}.", str(a - 1), "number")
    if kind < 0.22:
        a, b, asked = 1, rng.randint(3, 20), COUNT_UP
    elif kind < 0.32:
        a, b, asked = rng.randint(3, 20), 1, COUNT_DOWN
    else:
        asked = COUNT
        while True:
            a = rng.randint(0, 90)
            b = a + rng.choice([1, 1, -1]) * rng.randint(2, 14)
            if 0 <= b <= 100 and is_held_out(f"count {a} {b}") == (split == HELD_OUT):
                break
    step = 1 if b > a else -1
    answer = ", ".join(str(n) for n in range(a, b + step, step))
    question = asked.pick(rng, split).format(a=a, b=b, direction="up" if b > a else "down")
    return Turn("counting", question, answer)


# --- copying, spelling, reversing ------------------------------------------------------------------------------------


def _sentence(rng: random.Random, split: str) -> str:
    """Several words; with `HELD_OUT` the whole string is one that training never shows."""
    while True:
        count = rng.randint(2, 8)
        if rng.random() < 0.5:
            words = [rng.choice(ALL_WORDS) if rng.random() < 0.8 else any_string(rng, split) for _ in range(count)]
            text = " ".join(words)
        else:
            text = (
                f"{rng.choice(['The', 'A', 'My', 'Our', 'Every', 'This'])} {rng.choice(ADJECTIVES)} "
                f"{rng.choice(NOUNS + ANIMALS)} {rng.choice(['can', 'will', 'must', 'did not', 'likes to'])} {rng.choice(VERBS)}"
                f"{rng.choice([' ' + rng.choice(ADVERBS), ' with the ' + rng.choice(NOUNS), ' in ' + rng.choice(CITIES), ''])}"
                f"{rng.choice(['.', '!', '', '?'])}"
            )
        if rng.random() < 0.15:
            text = text.capitalize()
        if is_held_out(text) == (split == HELD_OUT):
            return text


def _exotic_string(rng: random.Random, split: str) -> str:
    while True:
        letters = [rng.choice(EXOTIC) if rng.random() < 0.5 else rng.choice("abcdefghilmnoprstu") for _ in range(rng.randint(2, 7))]
        text = "".join(letters)
        if is_held_out(text) == (split == HELD_OUT):
            return text


def copying(rng: random.Random, split: str, _: Memory) -> Turn:
    kind = rng.random()
    text = any_string(rng, split) if kind < 0.55 else _sentence(rng, split) if kind < 0.92 else _exotic_string(rng, split)
    return Turn("copying", COPY.pick(rng, split).format(x=text), text, fixed=True)


def reversing(rng: random.Random, split: str, _: Memory) -> Turn:
    text = any_string(rng, split)
    return Turn("reversing", REVERSE.pick(rng, split).format(x=text), text[::-1], fixed=True)


def spelling(rng: random.Random, split: str, _: Memory) -> Turn:
    text = any_string(rng, split)
    return Turn("spelling", SPELL.pick(rng, split).format(x=text), " ".join(text), fixed=True)
