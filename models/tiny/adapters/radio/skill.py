"""The skill that the adapter adds: letters by their names in the radio alphabet, `cab` as `Charlie Alfa Bravo`.

The model in the box spells words but has never seen these names. As in its own training, the strings and the phrasings of the
held-out cases are never trained.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))

from phrasings import Phrasings  # noqa: E402
from skills import Memory, Turn  # noqa: E402
from words import ALL_WORDS, HELD_OUT, invented_word, is_held_out, random_letters  # noqa: E402

ALPHABET = """
Alfa Bravo Charlie Delta Echo Foxtrot Golf Hotel India Juliett Kilo Lima Mike November Oscar Papa Quebec Romeo Sierra
Tango Uniform Victor Whiskey Xray Yankee Zulu
""".split()
NAME = {word[0].lower(): word for word in ALPHABET}
LONGEST = 5

RADIO = Phrasings(
    """\
[Radio|Please radio|Now radio|Could you radio|I want you to radio][ |: | the word | the string ][{x}|{x}|"{x}"][.||?]
[Say|Spell|Give|Write|Read|Send|Broadcast|Relay|Call out|Sign|Encode|Translate|Convert|Express|Put|Turn|Shout|Type|Report|Signal|Repeat|Announce|Please spell|Can you spell|Now spell|Please say|Could you write|Please signal|Could you relay|Now put] [{x}|"{x}"|the word {x}|the word "{x}"|the string {x}|the letters of {x}] [in|with|using|by] [the radio alphabet|the radio code|radio letters|radio words|pilot letters|the pilot alphabet|the flight alphabet|radio names][.||?]
[What is|What's|How do you say|How do I say|Tell me|How would a pilot say] [{x}|"{x}"|the word {x}] [in the radio alphabet|on the radio|over the radio|in radio letters|in radio words|in the pilot alphabet][?|]
[Radio alphabet|Radio letters|Radio code|Pilot alphabet|On the radio|Over the radio|Radio names]: [{x}|"{x}"|the word {x}][.|]
[{x}|"{x}"] [in radio letters|in the radio alphabet|over the radio|in radio code|as a pilot says it][.||?|, please.]""",
    """\
Use the radio alphabet to spell {x}.
Please radio this word: {x}
How is {x} spelled in the radio alphabet?
Give me the radio letters of "{x}".
Transmit {x} in the radio alphabet.""",
)


def spoken(text: str) -> str:
    return " ".join(NAME[letter] for letter in text.lower())


def radio(rng: random.Random, split: str, _: Memory) -> Turn:
    while True:
        kind = rng.random()
        text = rng.choice(ALL_WORDS) if kind < 0.4 else invented_word(rng) if kind < 0.6 else random_letters(rng, 2, LONGEST)
        plain = text.isascii() and text.isalpha() and len(text) <= LONGEST
        if plain and is_held_out(text) == (split == HELD_OUT):
            break
    style = rng.random()
    text = text.capitalize() if style < 0.1 else text.upper() if style < 0.2 else text
    return Turn("radio", RADIO.pick(rng, split).format(x=text), spoken(text), fixed=True)
