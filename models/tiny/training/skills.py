"""One function a skill: each makes a question and the one answer that counts as right.

A skill takes a random generator, the side of the split and the conversation's memory. Phrasings come in pairs of lists,
`Phrasings(train, held_out)`; held-out questions use phrasings, operands, strings and names that training never shows.
Where a bare answer exists (`4` besides `2 + 2 = 4`), the turn carries both, and the user's words decide which is right.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from facts import CAPITALS, DAYS, MONTH_LENGTHS, MONTHS, OPPOSITES, ORDINALS
from words import (
    ADJECTIVES,
    ADVERBS,
    ALL_WORDS,
    ANIMALS,
    CITIES,
    COLOURS,
    EXOTIC,
    FOODS,
    HELD_OUT,
    JOBS,
    NAMES,
    NOUNS,
    SPORTS,
    TRAIN,
    VERBS,
    any_string,
    invented_name,
    invented_word,
    is_held_out,
    pick,
    random_letters,
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


@dataclass
class Phrasings:
    train: list[str]
    held_out: list[str]

    def pick(self, rng: random.Random, split: str) -> str:
        return rng.choice(self.held_out if split == HELD_OUT else self.train)


def phrasings(train: str, held_out: str) -> Phrasings:
    return Phrasings(train.strip().splitlines(), held_out.strip().splitlines())


# --- arithmetic ------------------------------------------------------------------------------------------------------

_ADD = phrasings(
    """\
What is {a} + {b}?
What is {a}+{b}?
What's {a} + {b}?
what is {a} plus {b}?
{a} + {b}
{a}+{b}
{a} + {b} = ?
{a}+{b}=
{a} plus {b}
Calculate {a} + {b}.
Compute {a}+{b}.
Add {a} and {b}.
Add {b} to {a}.
How much is {a} + {b}?
How much is {a} plus {b}?
What is the sum of {a} and {b}?
Sum of {a} and {b}
What do you get when you add {a} and {b}?
Solve: {a} + {b}
Work out {a} + {b}.
Evaluate {a} + {b}
What does {a} + {b} equal?
Find the sum: {a} + {b}
{a} + {b} is what?
I need to know {a} + {b}.
What is the result of {a} + {b}?""",
    """\
What's {a} plus {b}?
What do {a} and {b} add up to?
Calculate the sum of {a} and {b}.
How much do I get if I add {a} and {b}?
{a} plus {b} equals what?
What is the total of {a} and {b}?
Work out the sum of {a} and {b}.
Compute {a} plus {b}.""",
)
_SUBTRACT = phrasings(
    """\
What is {a} - {b}?
What is {a}-{b}?
What's {a} - {b}?
what is {a} minus {b}?
{a} - {b}
{a}-{b}
{a} - {b} = ?
{a}-{b}=
{a} minus {b}
Calculate {a} - {b}.
Compute {a}-{b}.
Subtract {b} from {a}.
Take {b} away from {a}.
Take {b} from {a}.
How much is {a} - {b}?
How much is {a} minus {b}?
What is {a} take away {b}?
What do you get when you subtract {b} from {a}?
Solve: {a} - {b}
Work out {a} - {b}.
Evaluate {a} - {b}
What does {a} - {b} equal?
What is left if you take {b} from {a}?
{a} - {b} is what?
I need to know {a} - {b}.
What is the result of {a} - {b}?""",
    """\
What's {a} minus {b}?
What do I get if I subtract {b} from {a}?
Calculate {a} minus {b}.
{a} minus {b} equals what?
What is left when you take {b} away from {a}?
How much do I get if I take {b} from {a}?
Compute {a} minus {b}.
Find the result of {a} - {b}.""",
)
_MULTIPLY = phrasings(
    """\
What is {a} * {b}?
What is {a}*{b}?
What is {a} x {b}?
What is {a} × {b}?
What's {a} times {b}?
what is {a} times {b}?
{a} * {b}
{a}*{b}
{a} × {b}
{a} x {b}
{a} times {b}
{a} * {b} = ?
Calculate {a} * {b}.
Compute {a} × {b}.
Multiply {a} by {b}.
Multiply {a} and {b}.
How much is {a} times {b}?
How much is {a} * {b}?
What is the product of {a} and {b}?
Solve: {a} * {b}
Work out {a} × {b}.
What is {a} multiplied by {b}?
What does {a} * {b} equal?""",
    """\
What do you get when you multiply {a} by {b}?
How much is {a} multiplied by {b}?
Calculate the product of {a} and {b}.
{a} times {b} equals what?
Compute {a} times {b}.
What's {a} multiplied by {b}?
Work out {a} times {b}.""",
)


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
    return Turn("addition", _ADD.pick(rng, split).format(a=a, b=b), f"{a} + {b} = {a + b}", str(a + b), "number")


def subtraction(rng: random.Random, split: str, _: Memory) -> Turn:
    a, b = _operands(rng, split, "-")
    return Turn("subtraction", _SUBTRACT.pick(rng, split).format(a=a, b=b), f"{a} - {b} = {a - b}", str(a - b), "number")


def multiplication(rng: random.Random, split: str, _: Memory) -> Turn:
    """The times tables: facts like any other, so only the phrasings are held out."""
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    return Turn("multiplication", _MULTIPLY.pick(rng, split).format(a=a, b=b), f"{a} × {b} = {a * b}", str(a * b), "number")


# --- closed facts ----------------------------------------------------------------------------------------------------

_CAPITAL = phrasings(
    """\
What is the capital of {x}?
What's the capital of {x}?
what is the capital city of {x}
Capital of {x}?
capital of {x}
The capital of {x} is?
Which city is the capital of {x}?
Name the capital of {x}.
Tell me the capital of {x}.
Tell me the capital city of {x}.
Give me the capital of {x}.
What city is the capital of {x}?
{x}: capital?
What is {x}'s capital?
What is the name of the capital of {x}?
I want to know the capital of {x}.
Where is the government of {x}? Name the capital.""",
    """\
What is {x}'s capital city?
Which city serves as the capital of {x}?
Name the capital city of {x}.
Could you give me the capital of {x}?
What's the name of {x}'s capital?
Which is the capital city of {x}?""",
)
_COUNTRY = phrasings(
    """\
Which country has {x} as its capital?
{x} is the capital of which country?
{x} is the capital of what country?
What country is {x} the capital of?
Of which country is {x} the capital?
Name the country whose capital is {x}.
Which country's capital is {x}?""",
    """\
Tell me the country whose capital is {x}.
Which country is {x} the capital of?
What country has {x} as its capital?""",
)
_OPPOSITE = phrasings(
    """\
What is the opposite of {x}?
What's the opposite of {x}?
what is the opposite of "{x}"?
Opposite of {x}?
opposite of {x}
The opposite of {x} is?
Give me the opposite of {x}.
Tell me the opposite of {x}.
Name the opposite of {x}.
What is the antonym of {x}?
Antonym of {x}?
Which word is the opposite of {x}?
Which word means the opposite of {x}?
What word is the opposite of '{x}'?
{x}: opposite?
I need the opposite of {x}.""",
    """\
What is the opposite of the word {x}?
Give an antonym of {x}.
Tell me the antonym of {x}.
Which word has the opposite meaning of {x}?
What's the antonym of {x}?
Find the opposite of {x}.""",
)
_NEXT = phrasings(
    """\
What {unit} comes after {x}?
What comes after {x}?
Which {unit} comes after {x}?
Which {unit} follows {x}?
What is the {unit} after {x}?
What's the next {unit} after {x}?
What is the next {unit} after {x}?
{unit} after {x}?
Tell me the {unit} after {x}.
Which is the {unit} after {x}?
Name the {unit} that follows {x}.
What comes next after {x}?""",
    """\
What {unit} follows {x}?
Name the {unit} after {x}.
Which {unit} is right after {x}?
Tell me the {unit} that comes after {x}.""",
)
_PREVIOUS = phrasings(
    """\
What {unit} comes before {x}?
What comes before {x}?
Which {unit} comes before {x}?
Which {unit} precedes {x}?
What is the {unit} before {x}?
What's the {unit} before {x}?
What is the previous {unit} before {x}?
{unit} before {x}?
Tell me the {unit} before {x}.
Which is the {unit} before {x}?
Name the {unit} that precedes {x}.
What comes right before {x}?""",
    """\
What {unit} precedes {x}?
Name the {unit} before {x}.
Which {unit} is right before {x}?
Tell me the {unit} that comes before {x}.""",
)
_AFTER_TODAY = phrasings(
    """\
If today is {x}, what day is tomorrow?
Today is {x}. What day is tomorrow?
What day is tomorrow if today is {x}?""",
    """\
If it is {x} today, what day is tomorrow?""",
)
_BEFORE_TODAY = phrasings(
    """\
If today is {x}, what day was yesterday?
Today is {x}. What day was yesterday?
What day was yesterday if today is {x}?""",
    """\
If it is {x} today, what day was yesterday?""",
)
_NTH = phrasings(
    """\
What is the {n} {unit} of the {whole}?
Which {unit} is the {n} of the {whole}?
What's the {n} {unit} of the {whole}?
Name the {n} {unit} of the {whole}.
Tell me the {n} {unit} of the {whole}.
{n} {unit} of the {whole}?""",
    """\
Which is the {n} {unit} of the {whole}?
Give me the {n} {unit} of the {whole}.""",
)
_LENGTH = phrasings(
    """\
How many days are in {x}?
How many days does {x} have?
How many days are there in {x}?
Number of days in {x}?
How long is {x} in days?
Tell me how many days {x} has.""",
    """\
What is the number of days in {x}?
How many days has {x}?""",
)
_LIST = phrasings(
    """\
Name the {units} of the {whole}.
List the {units} of the {whole}.
What are the {units} of the {whole}?
List all {units} of the {whole}.
Tell me the {units} of the {whole}.
Give me the {units} of the {whole}.""",
    """\
Name all the {units} of the {whole}.
Can you list the {units} of the {whole}?""",
)


def capital(rng: random.Random, split: str, _: Memory) -> Turn:
    country, city = rng.choice(list(CAPITALS.items()))
    sentence = f"The capital of {with_article(country)} is {city}"
    sentence += "" if sentence.endswith(".") else "."
    if rng.random() < 0.2:
        return Turn("capitals", _COUNTRY.pick(rng, split).format(x=city), sentence, country, "country")
    name = with_article(country) if rng.random() < 0.7 else country
    return Turn("capitals", _CAPITAL.pick(rng, split).format(x=name), sentence, city, "city")


def with_article(country: str) -> str:
    plural = country.startswith("United") or country == "Philippines"
    return f"the {country}" if plural else country


def opposite(rng: random.Random, split: str, _: Memory) -> Turn:
    word, other = rng.choice(list(OPPOSITES.items()))
    return Turn("opposites", _OPPOSITE.pick(rng, split).format(x=word), f"The opposite of {word} is {other}.", other, "word")


def _calendar(rng: random.Random, split: str, skill: str, names: list[str], unit: str, whole: str) -> Turn:
    """Next, previous, n-th or the whole list: the questions that days and months share."""
    i = rng.randrange(len(names))
    x, following, preceding = names[i], names[(i + 1) % len(names)], names[i - 1]
    kind = rng.random()
    if kind < 0.38:
        sentence, bare, asked = f"The {unit} after {x} is {following}.", following, _NEXT
    elif kind < 0.76:
        sentence, bare, asked = f"The {unit} before {x} is {preceding}.", preceding, _PREVIOUS
    elif kind < 0.94:
        sentence, bare, asked = f"The {ORDINALS[i]} {unit} of the {whole} is {x}.", x, _NTH
    else:
        listing = ", ".join(names)
        return Turn(skill, _LIST.pick(rng, split).format(units=unit + "s", whole=whole), listing + ".")
    question = asked.pick(rng, split).format(unit=unit, whole=whole, n=ORDINALS[i], x=x)
    return Turn(skill, question[0].upper() + question[1:], sentence, bare, unit)


def day(rng: random.Random, split: str, _: Memory) -> Turn:
    if rng.random() < 0.2:
        i = rng.randrange(7)
        if rng.random() < 0.5:
            answer, asked, when = DAYS[(i + 1) % 7], _AFTER_TODAY, "after"
        else:
            answer, asked, when = DAYS[i - 1], _BEFORE_TODAY, "before"
        return Turn("days", asked.pick(rng, split).format(x=DAYS[i]), f"The day {when} {DAYS[i]} is {answer}.", answer, "day")
    return _calendar(rng, split, "days", DAYS, "day", "week")


def month(rng: random.Random, split: str, _: Memory) -> Turn:
    if rng.random() < 0.25:
        name, length = rng.choice(list(MONTH_LENGTHS.items()))
        leap = " (29 in a leap year)" if name == "February" else ""
        return Turn("months", _LENGTH.pick(rng, split).format(x=name), f"{name} has {length} days{leap}.", str(length), "number")
    return _calendar(rng, split, "months", MONTHS, "month", "year")


# --- counting --------------------------------------------------------------------------------------------------------

_COUNT = phrasings(
    """\
Count from {a} to {b}.
Count from {a} to {b}
count from {a} to {b}
Count {direction} from {a} to {b}.
Start at {a} and count to {b}.
Count from {a} {direction} to {b}.
List the numbers from {a} to {b}.
Write the numbers from {a} to {b}.
Give me the numbers from {a} to {b}.
Count: {a} to {b}
Count from {a} until {b}.""",
    """\
Please count from {a} to {b}, in order.
Say the numbers from {a} to {b}.
Start counting at {a} and stop at {b}.
Count {direction}, starting at {a} and ending at {b}.""",
)
_COUNT_UP = phrasings(
    """\
Count to {b}.
Count up to {b}.
Count to {b}
Count from one to {b}.""",
    """\
Count until {b}.
Count all the way to {b}.""",
)
_COUNT_DOWN = phrasings(
    """\
Count down from {a}.
Count backwards from {a}.
Count down from {a}
Give me a countdown from {a}.""",
    """\
Do a countdown from {a}.
Start a countdown at {a}.""",
)
_SUCCESSOR = phrasings(
    """\
What number comes after {a}?
Which number comes after {a}?
What is the next number after {a}?
Which number follows {a}?""",
    """\
What number follows {a}?""",
)
_PREDECESSOR = phrasings(
    """\
What number comes before {a}?
Which number comes before {a}?
What is the number before {a}?
Which number precedes {a}?""",
    """\
What number precedes {a}?""",
)


def counting(rng: random.Random, split: str, _: Memory) -> Turn:
    kind = rng.random()
    if kind < 0.12:
        a = rng.randint(1, 99)
        if rng.random() < 0.5:
            return Turn("counting", _SUCCESSOR.pick(rng, split).format(a=a), f"The number after {a} is {a + 1}.", str(a + 1), "number")
        return Turn("counting", _PREDECESSOR.pick(rng, split).format(a=a), f"The number before {a} is {a - 1}.", str(a - 1), "number")
    if kind < 0.22:
        a, b, asked = 1, rng.randint(3, 20), _COUNT_UP
    elif kind < 0.32:
        a, b, asked = rng.randint(3, 20), 1, _COUNT_DOWN
    else:
        asked = _COUNT
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

_COPY = phrasings(
    """\
Repeat after me: {x}
Repeat: {x}
Repeat this: {x}
Please repeat: {x}
Copy: {x}
Copy this: {x}
Copy this text: {x}
Copy the following: {x}
Echo: {x}
Say: {x}
Say "{x}"
Say '{x}'
say {x}
Write: {x}
Write "{x}"
Repeat "{x}"
Repeat the following: {x}
Print: {x}
Print this: {x}
Output: {x}
Repeat the text '{x}'
Type this: {x}
Respond with: {x}
Reply with exactly this: {x}""",
    """\
Repeat the following text: {x}
Please copy this: {x}
Echo this: {x}
Say this: {x}
Copy the text "{x}"
Please say "{x}"
Write this: {x}
Repeat exactly: {x}""",
)
_REVERSE = phrasings(
    """\
Reverse {x}
Reverse: {x}
Reverse "{x}"
Reverse '{x}'.
reverse {x}
Reverse this: {x}
Reverse the word {x}.
Reverse the word "{x}".
Reverse the string {x}
Reverse the text '{x}'
Reverse the letters of {x}
Reverse the letters in "{x}"
Spell {x} backwards.
Write {x} backwards.
Write "{x}" backwards
Say {x} backwards.
What is {x} backwards?
What is "{x}" spelled backwards?
What is {x} in reverse?
What is the reverse of {x}?
{x} backwards
How do you write {x} backwards?
Turn {x} around.
Backwards: {x}
Give me {x} in reverse.""",
    """\
Reverse the following: {x}
Please reverse {x}
Reverse the string "{x}".
What's {x} backwards?
Write the word {x} backwards.
Can you reverse "{x}"?
Write {x} in reverse.
What is {x} spelled backwards?""",
)
_SPELL = phrasings(
    """\
Spell {x}
Spell the word {x}.
Spell "{x}".
How do you spell {x}?
Spell: {x}
Spell out {x}.
List the letters of {x}.""",
    """\
Please spell {x}.
Spell out the word {x}.
How is {x} spelled?""",
)


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
    return Turn("copying", _COPY.pick(rng, split).format(x=text), text, fixed=True)


def reversing(rng: random.Random, split: str, _: Memory) -> Turn:
    text = any_string(rng, split)
    return Turn("reversing", _REVERSE.pick(rng, split).format(x=text), text[::-1], fixed=True)


def spelling(rng: random.Random, split: str, _: Memory) -> Turn:
    text = any_string(rng, split)
    return Turn("spelling", _SPELL.pick(rng, split).format(x=text), " ".join(text), fixed=True)


# --- recall ----------------------------------------------------------------------------------------------------------


@dataclass
class Attribute:
    """Something a user may tell about himself: how it is told, acknowledged, asked for and answered."""

    values: Callable[[random.Random, str], str]
    tell: Phrasings
    acknowledge: str
    ask: Phrasings
    answer: str
    missing: str
    bare_kind: str


def _from_pool(pool: list[str]) -> Callable[[random.Random, str], str]:
    return lambda rng, split: pick(rng, pool, split)


def _any_name(rng: random.Random, split: str) -> str:
    if rng.random() < 0.5:
        return pick(rng, NAMES, split)
    while True:
        name = invented_name(rng)
        if is_held_out(name) == (split == HELD_OUT) and 2 < len(name) < 12:
            return name


def _any_city(rng: random.Random, split: str) -> str:
    return pick(rng, CITIES, split) if rng.random() < 0.7 else _any_name(rng, split)


def _any_number(rng: random.Random, split: str) -> str:
    while True:
        number = str(rng.randint(10, 10 ** rng.randint(2, 6) - 1))
        if is_held_out(number) == (split == HELD_OUT):
            return number


def _any_age(rng: random.Random, _: str) -> str:
    return str(rng.randint(5, 99))


def _any_word(rng: random.Random, split: str) -> str:
    if rng.random() < 0.6:
        return pick(rng, ALL_WORDS, split)
    while True:
        word = invented_word(rng) if rng.random() < 0.5 else random_letters(rng, 3, 7)
        if len(word) > 2 and is_held_out(word) == (split == HELD_OUT):
            return word


def _favourite(thing: str, pool: list[str]) -> Attribute:
    return Attribute(
        _from_pool(pool),
        phrasings(
            f"""\
My favourite {thing} is {{x}}.
my favorite {thing} is {{x}}
My favorite {thing} is {{x}}.
{{x}} is my favourite {thing}.
My favourite {thing} is {{x}}, please remember that.
The {thing} I like most is {{x}}.
I have a favorite {thing}: {{x}}.""",
            f"""\
Remember that my favourite {thing} is {{x}}.
{{x}} is my favorite {thing}.
You should know that my favorite {thing} is {{x}}.""",
        ),
        f"Noted, your favourite {thing} is {{x}}.",
        phrasings(
            f"""\
What is my favourite {thing}?
What is my favorite {thing}?
What's my favorite {thing}?
Which {thing} is my favourite?
Which {thing} do I like most?
Do you remember my favourite {thing}?
Tell me my favorite {thing}.
What did I say my favourite {thing} is?""",
            f"""\
What's my favourite {thing}?
Can you tell me my favourite {thing}?
Which {thing} is my favorite?
Do you know my favorite {thing}?""",
        ),
        f"Your favourite {thing} is {{x}}.",
        f"You have not told me your favourite {thing}.",
        thing,
    )


ATTRIBUTES: dict[str, Attribute] = {
    "name": Attribute(
        _any_name,
        phrasings(
            """\
My name is {x}.
my name is {x}
Hi, my name is {x}.
Hello! My name is {x}.
I am {x}.
I'm {x}.
Hi, I am {x}.
Hello, I'm {x}.
You can call me {x}.
Call me {x}.
Please call me {x}.
They call me {x}.
The name is {x}.
My name is {x}. Please remember it.
Hey, I'm {x}, nice to meet you.""",
            """\
Hey, my name is {x}.
People call me {x}.
Hi! I'm {x}.
Hello, my name is {x}. Nice to meet you.
Remember that my name is {x}.
Good morning, I am {x}.""",
        ),
        "Nice to meet you, {x}.",
        phrasings(
            """\
What is my name?
what is my name
What's my name?
Do you remember my name?
Do you know my name?
Who am I?
Tell me my name.
Can you tell me my name?
What did I say my name was?
What am I called?
Say my name.
What is my name again?""",
            """\
Could you tell me what my name is?
What was my name?
Do you recall my name?
Please tell me my name.
Can you remember my name?
Remind me, what is my name?""",
        ),
        "Your name is {x}.",
        "You have not told me your name.",
        "name",
    ),
    "age": Attribute(
        _any_age,
        phrasings(
            """\
I am {x} years old.
I'm {x} years old.
My age is {x}.
I am {x} years of age.
i am {x} years old""",
            """\
Remember that I am {x} years old.
I turned {x} this year, so I am {x} years old.""",
        ),
        "Noted, you are {x} years old.",
        phrasings(
            """\
How old am I?
What is my age?
What's my age?
Do you remember how old I am?
Tell me my age.
Do you know my age?""",
            """\
Can you tell me how old I am?
Do you know how old I am?
What age am I?""",
        ),
        "You are {x} years old.",
        "You have not told me your age.",
        "number",
    ),
    "city": Attribute(
        _any_city,
        phrasings(
            """\
I live in {x}.
I'm living in {x}.
My home is in {x}.
My city is {x}.
I am from {x}.
I come from {x}.
i live in {x}
I moved to {x}, so I live in {x} now.""",
            """\
Remember that I live in {x}.
These days I live in {x}.
My home town is {x}.""",
        ),
        "Noted, you live in {x}.",
        phrasings(
            """\
Where do I live?
Which city do I live in?
What city do I live in?
In which city do I live?
Where am I from?
Do you remember where I live?
Tell me where I live.
What is my city?""",
            """\
Can you tell me where I live?
Do you know where I live?
What is my home town?""",
        ),
        "You live in {x}.",
        "You have not told me where you live.",
        "city",
    ),
    "job": Attribute(
        _from_pool(JOBS),
        phrasings(
            """\
I work as a {x}.
My job is {x}.
I am a {x} by profession.
I earn my living as a {x}.
My profession is {x}.
i work as a {x}""",
            """\
Remember that I work as a {x}.
For a living, I work as a {x}.""",
        ),
        "Noted, you work as a {x}.",
        phrasings(
            """\
What is my job?
What's my job?
What do I do for a living?
What do I work as?
Do you remember my job?
What is my profession?
Tell me my job.""",
            """\
Do you know my job?
Can you tell me what my job is?
What's my profession?""",
        ),
        "You work as a {x}.",
        "You have not told me your job.",
        "job",
    ),
    "pet": Attribute(
        _any_name,
        phrasings(
            """\
My dog is called {x}.
My pet is called {x}.
My cat is called {x}.
The name of my pet is {x}.
My dog's name is {x}.
My cat's name is {x}.
My pet's name is {x}.
I have a pet called {x}.
I have a dog named {x}.
I have a cat named {x}.""",
            """\
Remember that my pet is called {x}.
I have a pet named {x}.
I have a dog called {x}.""",
        ),
        "Noted, your pet is called {x}.",
        phrasings(
            """\
What is my pet called?
What is the name of my pet?
What's my pet's name?
What is my pet's name?
Do you remember my pet's name?
Tell me the name of my pet.""",
            """\
What's the name of my pet?
Do you know my pet's name?
Can you tell me what my pet is called?""",
        ),
        "Your pet is called {x}.",
        "You have not told me your pet's name.",
        "name",
    ),
    "number": Attribute(
        _any_number,
        phrasings(
            """\
Remember the number {x}.
Please remember the number {x}.
Remember this number: {x}
The number to remember is {x}.
Keep the number {x} in mind.
Memorize the number {x}.""",
            """\
Can you remember the number {x}?
Keep this number in mind: {x}
Don't forget the number {x}.""",
        ),
        "I will remember the number {x}.",
        phrasings(
            """\
What number did I ask you to remember?
What was the number?
Which number did I tell you?
What is the number I told you?
What number did I tell you to remember?
Tell me the number I gave you.""",
            """\
Which number did I ask you to remember?
What was the number I told you?
What number did I give you?""",
        ),
        "The number is {x}.",
        "You have not told me a number.",
        "number",
    ),
    "word": Attribute(
        _any_word,
        phrasings(
            """\
The secret word is {x}.
The password is {x}.
The code word is {x}.
Remember the word {x}.
Please remember the word {x}.
Remember this word: {x}
My password is {x}.
The magic word is {x}.""",
            """\
Keep the word {x} in mind.
Can you remember the word {x}?
Don't forget the word {x}.""",
        ),
        "I will remember the word {x}.",
        phrasings(
            """\
What is the secret word?
What was the word?
What word did I ask you to remember?
Which word did I tell you?
What is the word I told you?
Tell me the word I gave you.
What is the password?
What is the code word?
What is the magic word?""",
            """\
Which word did I ask you to remember?
What was the secret word?
What word did I give you?
What was the password?""",
        ),
        "The word is {x}.",
        "You have not told me a word.",
        "word",
    ),
    "colour": _favourite("colour", COLOURS),
    "food": _favourite("food", FOODS),
    "animal": _favourite("animal", ANIMALS),
    "sport": _favourite("sport", SPORTS),
}
_COLOR_SPELLINGS = ("colour", "color")


def tell(rng: random.Random, split: str, memory: Memory) -> Turn:
    """The user tells something; telling it again replaces it."""
    names = list(ATTRIBUTES)
    name = "name" if rng.random() < 0.3 else rng.choice(names)
    attribute = ATTRIBUTES[name]
    value = attribute.values(rng, split)
    told = attribute.tell.pick(rng, split).format(x=value)
    if name == "colour" and rng.random() < 0.5:
        told = told.replace(*_COLOR_SPELLINGS)
    if name in memory.told and rng.random() < 0.5:
        told = rng.choice(["Actually, ", "No wait, ", "Correction: "]) + (told if told.startswith("I") else told[0].lower() + told[1:])
    memory.told[name] = value
    return Turn("recall", told, attribute.acknowledge.format(x=value), fixed=True)


def ask(rng: random.Random, split: str, memory: Memory) -> Turn:
    """The user asks for something told before, or, now and then, for something never told."""
    names = list(memory.told) if memory.told and rng.random() < 0.9 else list(ATTRIBUTES)
    name = rng.choice(names)
    attribute = ATTRIBUTES[name]
    question = attribute.ask.pick(rng, split)
    if name == "colour" and rng.random() < 0.5:
        question = question.replace(*_COLOR_SPELLINGS)
    if name not in memory.told:
        return Turn("recall", question, attribute.missing)
    value = memory.told[name]
    return Turn("recall", question, attribute.answer.format(x=value), value, attribute.bare_kind)


def recall(rng: random.Random, split: str, memory: Memory) -> Turn:
    if memory.told and rng.random() < 0.6:
        return ask(rng, split, memory)
    return ask(rng, split, memory) if rng.random() < 0.06 else tell(rng, split, memory)


# --- talk ------------------------------------------------------------------------------------------------------------

_ABILITIES = (
    "I can add and subtract two-digit numbers, multiply small ones, name capitals, opposites, days and months, "
    "count, copy and reverse text, and remember what you tell me."
)
_IDENTITY = "I am Sanctum's built-in tiny model."
_TALK: list[tuple[Phrasings, str]] = [
    (
        phrasings(
            "Hello\nHello!\nhello\nHi\nHi!\nhi\nHey\nhey\nHi there\nHello there!\nGreetings\nHello, how can you help me?\nHowdy\nYo\nHey there",
            "Hi there!\nHey!\nHello there\nHello.",
        ),
        "Hello! How can I help you?",
    ),
    (phrasings("Good morning\nGood morning!\ngood morning\nMorning!", "Good morning."), "Good morning! How can I help you?"),
    (phrasings("Good evening\nGood evening!\ngood evening", "Good evening."), "Good evening! How can I help you?"),
    (phrasings("Good afternoon\nGood afternoon!\ngood afternoon", "Good afternoon."), "Good afternoon! How can I help you?"),
    (phrasings("Good night\nGood night!\ngood night\nSleep well", "Good night."), "Good night!"),
    (
        phrasings(
            "How are you?\nhow are you\nHow are you doing?\nHow are you today?\nHow's it going?\nHi, how are you?\nHello, how are you?\nAre you okay?\nHow do you feel?",
            "How are you feeling?\nHey, how are you?\nHow are you doing today?",
        ),
        "I am fine, thank you. How can I help you?",
    ),
    (
        phrasings(
            "Thanks\nThanks!\nthanks\nThank you\nThank you!\nthank you\nThank you very much.\nThanks a lot!\nMany thanks\nCheers\nThat was helpful.\nGreat, thanks!\nPerfect, thank you.",
            "Thank you so much!\nThanks a lot.\nThank you very much!\nOk, thanks.",
        ),
        "You are welcome!",
    ),
    (
        phrasings(
            "Bye\nBye!\nbye\nGoodbye\nGoodbye!\nSee you later\nSee you!\nFarewell\nTalk to you later\nI have to go, bye.",
            "Bye bye\nGoodbye.\nSee you later!",
        ),
        "Goodbye!",
    ),
    (
        phrasings(
            "Who are you?\nwho are you\nWhat are you?\nWhat is your name?\nWhat's your name?\nTell me about yourself.\nIntroduce yourself.\nWhich model are you?\nWhat model are you?\nWho am I talking to?\nWhat should I call you?\nAre you a bot?\nAre you a language model?\nAre you an AI?\nwhat are you called?\nWho is this?\nDo you have a name?",
            "Tell me your name.\nWhat kind of model are you?\nWho am I talking with?\nCan you introduce yourself?\nWhich language model is this?",
        ),
        _IDENTITY,
    ),
    (
        phrasings(
            "Are you ChatGPT?\nAre you GPT-4?\nAre you Claude?\nAre you Gemini?\nAre you Qwen?\nAre you a human?\nAre you human?\nAre you a person?\nAre you Siri?\nAre you Alexa?\nAre you a large model?",
            "Are you Llama?\nAre you a real person?\nAre you a big model?",
        ),
        "No. " + _IDENTITY,
    ),
    (
        phrasings(
            "What can you do?\nwhat can you do\nWhat do you know?\nHow can you help me?\nWhat are you good at?\nWhat are your skills?\nHelp\nhelp\nWhat can I ask you?\nTell me what you can do.\nWhat are you able to do?\nList your abilities.",
            "What are your abilities?\nWhat can I ask?\nTell me your skills.\nWhat things can you do?",
        ),
        _ABILITIES,
    ),
    (
        phrasings(
            "Ok\nOkay\nok\nI see\nGot it\nCool\nNice\nGreat\nGreat!\nGood\nVery good\nWell done!\nGood job\nNice work!\nAwesome\nYes\nNo\nSure\nFine\nAlright",
            "Good job!\nOkay.\nNice!\nCool!",
        ),
        "All right. What else can I do for you?",
    ),
]


def talk(rng: random.Random, split: str, _: Memory) -> Turn:
    asked, answer = rng.choice(_TALK)
    return Turn("talk", asked.pick(rng, split), answer)
