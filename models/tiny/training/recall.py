"""What a user tells about himself, and the questions that ask for it later.

Nothing here can be known by heart: the answer stands in the conversation, often several turns back, in a name or a word
that training never showed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from phrasings import Phrasings
from skills import Memory, Turn
from words import (
    ALL_WORDS,
    ANIMALS,
    CITIES,
    COLOURS,
    FOODS,
    HELD_OUT,
    JOBS,
    NAMES,
    SPORTS,
    TRAIN,
    invented_name,
    invented_word,
    is_held_out,
    pick,
    random_letters,
)


@dataclass
class Attribute:
    """Something a user may tell: how it is told, acknowledged, asked for and answered."""

    values: Callable[[random.Random, str], str]
    tell: Phrasings
    acknowledge: str
    ask: Phrasings
    answer: str
    missing: str
    bare_kind: str


def _until_on_side(split: str, make: Callable[[], str]) -> str:
    while True:
        value = make()
        if 2 <= len(value) <= 12 and is_held_out(value) == (split == HELD_OUT):
            return value


def _from_pool(pool: list[str]) -> Callable[[random.Random, str], str]:
    return lambda rng, split: pick(rng, pool, split)


def _any_name(rng: random.Random, split: str) -> str:
    name = pick(rng, NAMES, split) if rng.random() < 0.5 else _until_on_side(split, lambda: invented_name(rng))
    return name.lower() if split == TRAIN and rng.random() < 0.05 else name


def _any_city(rng: random.Random, split: str) -> str:
    return pick(rng, CITIES, split) if rng.random() < 0.7 else _any_name(rng, split)


def _any_number(rng: random.Random, split: str) -> str:
    return _until_on_side(split, lambda: str(rng.randint(10, 10 ** rng.randint(2, 6) - 1)))


def _any_age(rng: random.Random, _: str) -> str:
    return str(rng.randint(5, 99))


def _any_word(rng: random.Random, split: str) -> str:
    if rng.random() < 0.6:
        return pick(rng, ALL_WORDS, split)
    return _until_on_side(split, lambda: invented_word(rng) if rng.random() < 0.5 else random_letters(rng, 3, 7))


_ASK = "[Tell me|Say|Can you tell me|Could you tell me|Do you know|Do you remember|Can you remember|Do you still know|Remind me of|Please say|Repeat|Can you say|I forgot, tell me|Please repeat|Name|Recall|Do you happen to know]"
_ASK_WHAT = "[Tell me|Say|Can you tell me|Could you tell me|Do you know|Do you remember|Can you remember|Do you still know|Please tell me|Remind me|Can you say|Please repeat|Do you recall|Can you recall|Would you tell me]"
_NOTE = "[|||Remember this: |Please remember: |Note: |For your information: |By the way, |Just so you know: |You should know: |I want you to know: |Listen: |Something about me: |Fact: ]"
_NOTE_THAT = "[Please remember that|Note that|Know that|Keep in mind that|You must know that|I want you to know that|I should mention that|Don't forget that|It is true that|Let me tell you that|I tell you that]"


def _favourite(thing: str, pool: list[str]) -> Attribute:
    liked = "[favourite|favorite]"
    return Attribute(
        _from_pool(pool),
        Phrasings(
            f"""\
{_NOTE}[My|my] {liked} {thing} is {{x}}[.||!|, please remember that.|. Remember it.]
{_NOTE_THAT} my {liked} {thing} [is {{x}}|has always been {{x}}][.||!]
{{x}} is my {liked} {thing}[.|, remember that.|!|, you know.]
{{x}} is the {thing} [I like most|that I love|I like best|I prefer][.|]
[The|Of all, the] {thing} [I like most|I like best|I love most|that I prefer|I prefer] is {{x}}[.||!]
I have a {liked} {thing}[: {{x}}| and it is {{x}}|, namely {{x}}|, it's {{x}}][.|]
[For me, the best {thing} is|My {liked} {thing}? It is|As for my {liked} {thing}, it is|My {liked} {thing} has always been|When it comes to my {liked} {thing}, it is] {{x}}[.|]""",
            f"""\
Remember that my favourite {thing} is {{x}}.
{{x}} is my favorite {thing}.
You should know that my favorite {thing} is {{x}}.""",
        ),
        f"Noted, your favourite {thing} is {{x}}.",
        Phrasings(
            f"""\
[What is|what is|What was|Which is] my {liked} {thing}[?|?| again?| then?]
What's my favorite {thing}[| again| now]?
[Which|What] {thing} [is my {liked}|is my {liked} one|did I call my {liked}|was my {liked}|do I love|do I like most|do I like best|do I prefer|did I say I like most|did I name]?
{_ASK} my {liked} {thing}[?|.]
{_ASK_WHAT} [what my {liked} {thing} is|which {thing} I like most|which {thing} is my {liked}|what I said about my {liked} {thing}][?|.]
[What|Which {thing}] did I [say|tell you|mention] [my {liked} {thing} is|is my {liked}|was my {liked} {thing}]?
My {liked} {thing}[?| is?| is what?| is...|, what is it?|: which one?]""",
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
        Phrasings(
            f"""\
[|||Hi, |Hello, |Hi! |Hello! |Good day, |Hey, |Good evening, |Hi there, |Greetings, |Hello there! ][my|My] name is {{x}}[.||!|, nice to meet you.|. Please remember it.|, by the way.|. How are you?| and I like to chat.|, remember it.]
[|||Hi, |Hello, |Hello! |Good day, |Hey, |Good evening, |Hi there, |Greetings, ][I am|I'm|i am|it is me,|this is|I am called|my friends call me|you can call me|call me|they call me|everyone calls me|please call me|just call me] {{x}}[.||!|, nice to meet you.|, remember that.|. Pleased to meet you.]
[The name is|The name's|My first name is|My full name is|My nickname is|You are talking to|You are speaking with|I go by|I go by the name of|I was named|My parents named me|I introduce myself: I am|Let me introduce myself, I am|Let me introduce myself: my name is] {{x}}[.||!]
{_NOTE}[my name is|I am|I am called] {{x}}[.|]
{_NOTE_THAT} [my name is|I am|I am called] {{x}}[.||!]
{{x}} is my name[.|!|, remember it.|, what is yours?]
{{x}} here[.|!|, hello.]""",
            """\
Hey, my name is {x}.
People call me {x}.
Hi! I'm {x}.
Hello, my name is {x}. Nice to meet you.
Remember that my name is {x}.
Good morning, I am {x}.""",
        ),
        "Nice to meet you, {x}.",
        Phrasings(
            f"""\
[What is|what is|What's|what's|whats] my name[?|?|| again?| then?|, please?| now?| by the way?]
{_ASK} my [name|first name|name again][?|.|, please.]
{_ASK_WHAT} [what my name is|what I am called|who I am|how I am called|what name I gave you|the name I gave you|what I said my name is][?|.]
[Who am I|Who is talking to you|Who are you talking to|What am I called|How am I called|What do people call me|What should you call me|What do you call me|Who is this user|Who did I say I am][?| again?| then?]
[What did I say|What did I tell you|Which name did I give you|What name did I tell you|What name did I give you][ my name was?| my name is?| for my name?]
[I forgot my name|I can't remember my name]. [What is it?|Can you help?|Tell me.|Do you know it?|What was it?]
[So, who am I?|Now say my name.|Say my name.|My name?|My name is?|And my name is...|Address me by name.|And what is my name?|Tell me who I am.|By what name do I go?|You know my name, right? Say it.]""",
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
        Phrasings(
            f"""\
{_NOTE}[I am|I'm|i am|I just turned|I have turned|I will soon be] {{x}}[ years old| years of age][.||!|, remember that.]
[My age is|My age:|My current age is|My age in years is] {{x}}[.|]
{_NOTE_THAT} I am {{x}} years old[.|]
I am a {{x}}[-year-old| year old][ person| student| human|][.|]
[Last week|Yesterday|This month|In May] I turned {{x}} years old[.|]""",
            """\
Remember that I am {x} years old.
I turned {x} this year, so I am {x} years old.""",
        ),
        "Noted, you are {x} years old.",
        Phrasings(
            f"""\
[How old am I|how old am i|What is my age|What's my age|What age did I tell you|How many years old am I|How old did I say I am|What is my current age][?|?| again?| now?]
{_ASK} [my age|how old I am|my current age][?|.]
{_ASK_WHAT} [what my age is|how many years old I am|what age I have|my age in years][?|.]
My age[?| is?|: what is it?| in years?]
[At what age|What age] am I [now|at the moment|today]?""",
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
        Phrasings(
            f"""\
{_NOTE}[I live in|I am living in|I'm living in|i live in|My home is in|My house is in|I am from|I'm from|I come from|I grew up in|I reside in|I stay in|I am based in|My flat is in] {{x}}[.||!|, remember that.| with my family.]
[My city is|My hometown is|The city where I live is|The place where I live is|The city I live in is|My home is|My town is called|My town is] {{x}}[.|]
[I moved to {{x}}, so I live there now|I moved to {{x}}, so I live in {{x}} now|For many years I have lived in {{x}}|Right now I live in {{x}}|Since last year I live in {{x}}|At the moment I live in {{x}}|Currently I live in {{x}}|{{x}} is where I live|{{x}} is my home town|{{x}} is my city|We live in {{x}}][.|]
{_NOTE_THAT} [I live in|I come from|my home is in] {{x}}[.|]""",
            """\
Remember that I live in {x}.
These days I live in {x}.
My home town is {x}.""",
        ),
        "Noted, you live in {x}.",
        Phrasings(
            f"""\
[Where do I live|where do i live|Where am I from|Where is my home|Where do I come from|Where is my house|Where do I reside|Where did I say I live][?|?| again?| now?]
[Which|What] [city|town|place] [do I live in|am I from|is my home|did I say I live in|do I come from|is my home town|do I call home|is my city]?
In [which|what] [city|town|place] [do I live|is my home|is my house]?
{_ASK} [my city|my hometown|where I live|where I am from|my home|my home city][?|.]
{_ASK_WHAT} [where my home is|which city I live in|what city I am from|where I come from|in which city I live][?|.]
[What is|What's] [my city|my hometown|the city where I live|the place I live in|my town][?| again?]
[My city|My home][?| is?| is where?]""",
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
        Phrasings(
            f"""\
{_NOTE}[I work as a|i work as a|I am working as a|I earn my money as a|I earn my living as a|I have a job as a|My job is to be a|I make my living as a|I got a job as a|I am employed as a] {{x}}[.||!|, remember that.]
[My job is|My profession is|My occupation is|My trade is|My job:|Profession:|My current job is] {{x}}[.|]
I am a {{x}} by [profession|trade|training|occupation][.|]
[By profession I am a|Professionally, I am a|At work I am a|My work? I am a|In my job I am a] {{x}}[.|]
{_NOTE_THAT} [I work as a|my job is] {{x}}[.|]""",
            """\
Remember that I work as a {x}.
For a living, I work as a {x}.""",
        ),
        "Noted, you work as a {x}.",
        Phrasings(
            f"""\
[What is|What's|what is|What was] my [job|profession|occupation|trade|work][?|?| again?| now?]
[What do I do for a living|What do I work as|As what do I work|What kind of work do I do|What work do I do|What do I do|How do I earn my living|How do I earn my money|What did I say my job is|Which job do I have|Which profession do I have|What job do I have|What am I by profession][?|?| again?]
{_ASK} [my job|my profession|my occupation|what I do for a living][?|.]
{_ASK_WHAT} [what I work as|which job I have|what my profession is|what I do for work|what I am by profession|what job I have][?|.]
My [job|profession|occupation][?| is?| is what?]""",
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
        Phrasings(
            f"""\
{_NOTE}[My|my] [dog|cat|pet|hamster|rabbit|parrot|horse|puppy|kitten] is [called|named] {{x}}[.||!|, remember that.]
[My|my] [dog|cat|pet|hamster|rabbit|parrot|horse|puppy]'s name is {{x}}[.||!]
The name of my [dog|cat|pet|hamster|rabbit|puppy] is {{x}}[.|]
[I have|I own|At home I have|There is|We have|I got|I just got] a [cat|hamster|rabbit|parrot|horse|puppy|little dog] [called|named|whose name is|with the name] {{x}}[.||!]
I have a dog [named|whose name is|with the name] {{x}}[.|]
[I call my pet|I call my dog|I call my cat|We named our dog|We call our cat|I named my pet|We named our pet] {{x}}[.|]
{_NOTE_THAT} [my pet is called|my dog is called|my cat is named|my pet's name is] {{x}}[.|]
{{x}} is [my pet|my dog|my cat|the name of my pet|what I call my pet][.|]""",
            """\
Remember that my pet is called {x}.
I have a pet named {x}.
I have a dog called {x}.""",
        ),
        "Noted, your pet is called {x}.",
        Phrasings(
            f"""\
[What is|what is|What was] [my pet's name|the name of my animal|the pet's name|the name of my little friend][?|?| again?]
[What is|What was] the name of my pet[?| again?]
[What|How] is my pet [called|named][?|?| again?]
{_ASK} [the name of my pet|my pet's name|how my pet is called|what my pet is named][?|.]
{_ASK_WHAT} [how my pet is called|what I call my pet|what name my pet has|what my pet's name is][?|.]
[What do I call my pet|What name did I give my pet|Which name does my pet have|How do I call my pet|What name does my pet have|What did I name my pet][?| again?]
My pet's name[?| is?| is what?]""",
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
        Phrasings(
            """\
[Remember|Please remember|Memorize|Please memorize|Store|Save|Note|Write down|Keep|Try to remember|Learn|I want you to remember|You must remember] the number {x}[.||!| for me.| for later.]
[Remember|Please remember|Memorize|Store|Save|Note|Please note|Keep] this number[: |, it is ]{x}[.|]
[The number is|The number to remember is|My number is|My lucky number is|The secret number is|The code is|My code is|The number I give you is|Here is a number:|A number for you to remember:|My secret number is] {x}[.||!]
[Keep|Hold] the number {x} in [mind|memory|your memory|your head][.|]
[Could you remember|Will you remember|Please keep in mind|Do not forget|Never forget] the number {x}[.|?|]""",
            """\
Can you remember the number {x}?
Keep this number in mind: {x}
Don't forget the number {x}.""",
        ),
        "I will remember the number {x}.",
        Phrasings(
            f"""\
[What|Which] number [did I ask you to keep|did I tell you|did I mention|should you remember|did I want you to remember|was it|did you remember|did you store|do you remember|have I told you|did I tell you to remember|did I say]?
What number did I ask you to remember[?| earlier?]
[What is|What's|what was] the [number|secret number|code|lucky number|number I told you|number I gave you|number you should remember|number to remember][?|?| again?]
What was the [number|code|secret number|number again|number to remember|number I mentioned]?
[Tell me|Say|Repeat|Give me|Recall|Please tell me] the [number|number again|number I gave you|number I told you|code|number you remember|number from before][.|]
{_ASK_WHAT} [the number|which number I told you|what number I gave you|the number I gave you|which number it was][?|.]
[The number?|My number?|And the number was?|The number was?|The number, please.|Which number was it?]""",
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
        Phrasings(
            """\
[Remember|Please remember|Memorize|Please memorize|Store|Save|Note|Write down|Keep|Try to remember|Learn|I want you to remember|You must remember] the word {x}[.||!| for me.| for later.]
[Remember|Please remember|Memorize|Store|Save|Note|Please note|Keep] this word[: |, it is ]{x}[.|]
[The secret word is|The password is|The code word is|My password is|The magic word is|My secret word is|The word to remember is|The word is|My code word is|The key word is|Here is a word for you:|A word for you to remember:|My word is|Our secret word is] {x}[.||!]
[Keep|Hold] the word {x} in [memory|your memory|your head][.|]
[Could you remember|Will you remember|Please keep in mind|Do not forget|Never forget] the word {x}[.|?|]""",
            """\
Keep the word {x} in mind.
Can you remember the word {x}?
Don't forget the word {x}.""",
        ),
        "I will remember the word {x}.",
        Phrasings(
            f"""\
[What|Which] word [did I ask you to keep|did I mention|should you remember|did I want you to remember|was it|did you remember|did you store|do you remember|have I told you|did I tell you to remember|did I say|did I tell you]?
What word did I ask you to remember[?| earlier?]
[What is|What's|what is] the [word|secret word|password|code word|magic word|word I told you|word I gave you|word you should remember|word to remember][?|?| again?]
What was the [word|code word|magic word|word again|word to remember|word I told you|word I mentioned]?
[Tell me|Say|Repeat|Give me|Recall|Please tell me] the [word|word again|word I gave you|word I told you|code word|password|secret word|word you remember|word from before][.|]
{_ASK_WHAT} [the word|which word I told you|what word I gave you|the word I gave you|the password|the secret word][?|.]
[The word?|My word?|And the word was?|The word was?|The password, please.|Which word was it?|The secret word?|The password?]""",
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
    name = "name" if rng.random() < 0.3 else rng.choice(list(ATTRIBUTES))
    attribute = ATTRIBUTES[name]
    value = attribute.values(rng, split)
    told = attribute.tell.pick(rng, split).format(x=value)
    if name == "colour" and rng.random() < 0.5:
        told = told.replace(*_COLOR_SPELLINGS)
    if name in memory.told and rng.random() < 0.5:
        told = rng.choice(["Actually, ", "No wait, ", "Correction: ", "Sorry, I meant: "]) + told
    memory.told[name] = value
    return Turn("recall", told, attribute.acknowledge.format(x=value), fixed=True)


def ask(rng: random.Random, split: str, memory: Memory) -> Turn:
    """The user asks for something told before, or, now and then, for something never told."""
    name = rng.choice(list(memory.told if memory.told and rng.random() < 0.9 else ATTRIBUTES))
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
