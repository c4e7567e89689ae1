"""Questions that the model cannot answer, so that it learns to say so.

The hard part of a tiny model is not to answer but to stop: without this skill every unknown question would get a
confident wrong answer from the nearest skill. The questions are templates over word lists, free-standing sentences, and
near misses of the other skills (three-digit sums, capitals of places that have none, opposites of nouns).
"""

import random

from facts import CAPITALS, DAYS, MONTHS, OPPOSITES
from phrasings import ADD, CAPITAL, MULTIPLY, NEXT, OPPOSITE, PREVIOUS, SUBTRACT, Phrasings
from skills import Memory, Turn
from words import (
    ADJECTIVES,
    ANIMALS,
    CITIES,
    COLOURS,
    FOODS,
    JOBS,
    NAMES,
    NOUNS,
    SPORTS,
    VERBS,
    invented_name,
    invented_word,
    pick,
    random_letters,
)

UNKNOWN = "I don't know. I am a tiny model and only know a few simple things."

_PEOPLE = """
Albert Einstein|Isaac Newton|Marie Curie|Charles Darwin|Galileo|Leonardo da Vinci|Mozart|Beethoven|Bach|Shakespeare|Goethe|
Tolstoy|Jane Austen|Charles Dickens|Mark Twain|Napoleon|Julius Caesar|Cleopatra|Alexander the Great|Genghis Khan|
Abraham Lincoln|George Washington|Winston Churchill|Gandhi|Nelson Mandela|Martin Luther King|Queen Victoria|
Ada Lovelace|Alan Turing|Grace Hopper|Linus Torvalds|Bill Gates|Steve Jobs|Picasso|Van Gogh|Rembrandt|Plato|Aristotle|
Socrates|Kant|Nietzsche|Freud|Neil Armstrong|Christopher Columbus|Marco Polo|Elvis Presley|the Beatles|Madonna|the pope|
the president of France|the king of Spain|the prime minister of Japan|the inventor of the telephone
""".replace("\n", "").split("|")

_TOPICS = """
quantum mechanics|photosynthesis|gravity|evolution|electricity|magnetism|democracy|inflation|the stock market|climate change|
the French Revolution|the Roman Empire|World War II|the Cold War|the Renaissance|the Industrial Revolution|black holes|
the Big Bang|DNA|vaccines|antibiotics|the immune system|the human heart|the brain|machine learning|neural networks|blockchain|
cryptocurrency|the internet|databases|operating systems|compilers|Rust|Python|JavaScript|Linux|macOS|Docker|Kubernetes|
philosophy|ethics|psychology|economics|astronomy|chemistry|biology|geology|mathematics|calculus|algebra|statistics|
poetry|opera|jazz|classical music|modern art|architecture|cinema|photography|cooking|gardening|knitting|chess openings|
the rules of football|insurance|mortgages|taxes|contracts|patents|copyright|nuclear power|solar energy|batteries|airplanes|
submarines|volcanoes|earthquakes|hurricanes|glaciers|coral reefs|rainforests|bees|dinosaurs|mummies|pyramids|vikings|knights
""".replace("\n", "").split("|")

_WORKS = """
Hamlet|War and Peace|The Odyssey|Don Quixote|Pride and Prejudice|Moby Dick|Faust|The Hobbit|Dracula|Frankenstein|Ulysses|
the Mona Lisa|the Ninth Symphony|The Magic Flute|Star Wars|Titanic|The Matrix|Casablanca|Romeo and Juliet|Macbeth|
The Great Gatsby|Crime and Punishment|The Little Prince|Alice in Wonderland|Harry Potter|The Lord of the Rings|the Bible
""".replace("\n", "").split("|")

_TEMPLATES = Phrasings(
    """\
Who was {person}?
Who is {person}?
When was {person} born?
When did {person} die?
Where was {person} born?
What did {person} do?
What is {person} famous for?
Tell me about {person}.
How old is {person}?
What did {person} write?
Was {person} married?
Explain {topic}.
Explain {topic} to me like I'm five.
What is {topic}?
How does {topic} work?
Tell me about {topic}.
Tell me something about {topic}.
Why is {topic} important?
Write an essay about {topic}.
Give me an introduction to {topic}.
What are the basics of {topic}?
Summarize {topic} in one sentence.
What do you think about {topic}?
Who invented {topic}?
When did {topic} start?
Can you teach me {topic}?
What is the history of {topic}?
Do you like {topic}?
Who wrote {work}?
When was {work} written?
What is {work} about?
Who is the main character of {work}?
Summarize {work}.
Have you read {work}?
How many pages does {work} have?
Why is the {noun} {adjective}?
How does a {noun} work?
What is a {noun}?
What is a {noun} made of?
How do I repair a {noun}?
How do I make a {noun}?
How much does a {noun} cost?
Where can I buy a {noun}?
Who invented the {noun}?
When was the {noun} invented?
What color is a {noun}?
What is the plural of {noun}?
How heavy is a {noun}?
How big is a {noun}?
Write a poem about a {noun}.
Write a story about a {adjective} {noun}.
Write a song about a {noun} and a {animal}.
Tell me a joke about a {noun}.
What does {noun} mean?
Define {noun}.
Use {noun} in a sentence.
Translate {noun} into French.
What is the German word for {noun}?
How do you say {noun} in Spanish?
What rhymes with {noun}?
Is a {noun} bigger than a {noun2}?
What is the difference between a {noun} and a {noun2}?
How many legs does a {animal} have?
What does a {animal} eat?
How long does a {animal} live?
Where do {animal}s live?
How fast can a {animal} run?
Can a {animal} swim?
What sound does a {animal} make?
Why do {animal}s sleep?
What color is a {animal}?
Is the {animal} a mammal?
Why does my {animal} {verb}?
How do I cook {food}?
Give me a recipe for {food}.
Is {food} healthy?
How many calories are in {food}?
Where does {food} come from?
What goes well with {food}?
How do I become a {job}?
How much does a {job} earn?
What does a {job} do?
What tools does a {job} need?
Who is the best {job} in the world?
What are the rules of {sport}?
Who won the {sport} world cup?
Who is the best {sport} player?
How many players are in a {sport} team?
How many people live in {city}?
What is the population of {country}?
How big is {country}?
What language do they speak in {country}?
What is the currency of {country}?
Who is the president of {country}?
What is the highest mountain in {country}?
What is the longest river in {country}?
What is the weather in {city}?
What is the weather like in {city} today?
How far is {city} from {city2}?
What time is it in {city}?
How do I get from {city} to {city2}?
What is {city} famous for?
What can I see in {city}?
When was {city} founded?
Is {city} in {country}?
What is the flag of {country}?
When is the best time to visit {country}?
Who won the match on {day}?
What will the weather be on {day}?
What happened in {month} {year}?
What happened in {year}?
Who won the election in {year}?
Who was president in {year}?
What was invented in {year}?
Why is {day} called {day}?
Why is {month} called {month}?
How do I {verb} faster?
How do I learn to {verb}?
Why do people {verb}?
Is it good to {verb} every day?
When should I {verb}?
What is the past tense of {verb}?
Should I {verb} or {verb2}?
Why do I feel {adjective}?
What makes a {noun} {adjective}?
What is {invented}?
What is a {invented}?
What does {invented} mean?
Who is {newname}?
Where is {newname}?
Tell me about {newname}.
How do I install {invented}?
What is the capital of {newname}?
What is the capital of {noun}?
Capital of {newname}?
capital of {newname}
What is the capital of the moon?
Which city is the capital of {newname}?
What is the opposite of {noun}?
What is the opposite of {invented}?
What is the opposite of a {animal}?
Opposite of {noun}?
opposite of {food}
What is {big} + {any}?
What is {any} + {big}?
What is {big} - {any}?
What is {big} plus {big2}?
{big} + {any}
{any}-{big}
{big} * {any}
{big} minus {any}
What is {big} times {big2}?
What is {any} * {big}?
What is {two} * {two2}?
{two} * {two2}
{two}*{any}
{two} times {two2}
What is {any} × {two}?
Multiply {two} by {two2}.
Multiply {big} by {any}.
Subtract {any} from {big}.
Add {big} and {big2}.
Calculate {big} + {big2}.
What is {any} / {any2}?
What is {any} divided by {any2}?
{big} / {any}
Divide {big} by {any}.
What is the square root of {any}?
What is {any} squared?
What is {any} percent of {big}?
Is {big} a prime number?
What is {any} to the power of {any2}?
What is {any}.{any2} + {any}?
What is the logarithm of {big}?
What is the factorial of {any}?
Convert {any} miles to kilometers.
Convert {big} degrees to radians.
What is {any} in binary?
How many seconds are in {any} hours?
How many letters are in {noun}?
How many vowels are in {noun}?
Sort these words: {noun}, {noun2}, {animal}
Which is larger, {any} or {any2}?
My {noun} is broken, what should I do?
I lost my {noun}. Where is it?
I think the {noun} is {adjective}.
The {noun} is {adjective}.
The {animal} likes the {noun}.
I bought a {adjective} {noun} yesterday.
I saw a {animal} in {city}.
{letters}
{letters} {letters2}
{noun} {verb} {adjective}
{noun}
{invented} {invented2}
What about the {noun}?
Why?? {noun}
Is {adjective} better than {adjective2}?
Would you rather {verb} or {verb2}?
What is your favourite {noun}?
What is your favorite food?
What do you think of {city}?
Do you like {food}?
Do you have a {noun}?
Have you ever been to {city}?
Can you {verb}?
Can you see the {noun}?
Write a program that {verb}s a {noun}.
Write a function to {verb} a list in Python.
Fix this code: {invented}({letters})
Translate to French: the {noun} is {adjective}
Summarize this text: the {adjective} {animal} will {verb}.
Correct the grammar: {noun} be {adjective}
What is the chemical symbol of {noun}?
What is the boiling point of {noun}?
Plan a trip to {city}.
Recommend a {noun} for {name}.
What should I eat for dinner on {day}?
What should I give {name} for a birthday?
How old is {name}?
Where does {name} live?
Who is {name}?
What does {name} like?
What is {name} doing?
What is the phone number of {name}?
[Explain|Describe|Please explain|Please describe|Can you explain|Can you describe|Summarize|Tell me about|Tell me more about|Teach me about|Talk about|Give me information about|Write about|What do you know about|Inform me about] [{topic}|{person}|{work}|{newname}|a {noun}|the {noun}|the life of a {animal}|the city of {city}|the history of {country}][.|?|| in detail.| briefly.]
[Who|When|Where|Why|How] [is|was|did|does|can|will|should] [{person}|{name}|the {noun}|a {animal}|my {noun}|the {job}|a {job}] {verb}?
[What|Which {noun}] [do|can|should|will] [I|you|we|people|{animal}s] {verb}[ in {city}| on {day}| with a {noun2}|]?
[Why|How|When|Where] [do|can|should|will] [I|you|we|people|{animal}s] {verb}[ the {noun}| in {city}| on {day}| with a {noun2}|]?
[Write|Compose|Make|Create|Give me|Invent|Draft|I need|I want] [a|one|another] [story|poem|song|joke|riddle|recipe|letter|report|speech|list|plan|summary|picture|program|script|tweet|slogan] about [{topic}|a {noun}|{city}|a {animal}|{person}|{food}][.|, please.|]
[Translate|Please translate|Can you translate] ["{noun}"|{noun}|{food}|"the {adjective} {noun}"] [into|to] [French|German|Spanish|Italian|Latin|Japanese|Russian|English][.|?|]
[How many|How much] [{noun}s|{animal}s|{food}|{adjective} {noun}s|people|houses] [are there|do I need|do you have|can I buy|live] in [{city}|{country}|a {noun2}|the world]?
[How|Where|When] [can|should|do] I [find|buy|sell|fix|build|clean|use|get|keep|paint] [a|my|the|an old] [{noun}|{animal}|{adjective} {noun}]?
[My|The|Our|His|Her] [{noun}|{animal}|{adjective} {noun}] [is broken|does not work|is {adjective2}|was stolen|smells|is gone|needs help|can {verb}|is in {city}|fell down|makes a noise][.|!|, what now?]
[I|We|They] [saw|bought|lost|found|like|hate|want|need|painted|sold] [a|the|my|this] [{noun}|{animal}|{adjective} {noun}|{adjective} {animal}][ yesterday| today| in {city}| on {day}|][.|!]
[Is|Was|Are] [the {noun}|a {animal}|{topic}|{person}|{work}|{food}|{city}] [good|bad|old|big|famous|expensive|dangerous|healthy|popular|difficult|{adjective}]?
[Can|Could|Would|Will|Do] you [drive a {noun}|eat {food}|play {sport}|like {topic}|love {animal}s|visit {city}|see {person}|see me|think|feel|hear music|send a letter|help {name} to {verb}|open the {noun}|write code]?
[What is the|What's the|Tell me the|Give me the|Name the|Do you know the] [color|size|weight|age|price|meaning|history|purpose|origin|name|shape|length|height|temperature|author|population|language|president|owner|king|area|flag] of [the {noun}|a {animal}|{city}|{country}|{work}|{person}|{newname}|my {noun}][?|.]
[What|Which] [{noun}|{animal}|{food}|{sport}|color|country|city|book|movie|song|number|person] [is the best|is the biggest|is the oldest|is the most famous|do you like|should I choose|do I need|has the most {noun2}s|is {adjective}][?| in {country}?| in the world?]""",
    """\
Where did {person} live?
Why is {person} important?
Describe {person}.
What is known about {topic}?
Give me five facts about {topic}.
Could you explain {topic}?
What should I know about {topic}?
Who painted {work}?
How does {work} end?
Which year did {work} come out?
Why is a {noun} {adjective}?
How was the {noun} invented?
What can I do with a {noun}?
How do you build a {noun}?
Is the {noun} {adjective}?
Write a letter about the {noun}.
What is the Italian word for {noun}?
How tall is a {animal}?
Do {animal}s like {food}?
What is the scientific name of the {animal}?
How long do I need to cook {food}?
Which wine goes with {food}?
Do I need a degree to be a {job}?
When was {sport} invented?
What is the best restaurant in {city}?
Which river flows through {city}?
Who rules {country}?
What do people eat in {country}?
What is the national anthem of {country}?
How was the weather in {month} {year}?
Who was born in {year}?
How can I {verb} better?
What happens if I {verb} too much?
What do you know about {invented}?
Have you heard of {newname}?
Tell me the capital of {newname}.
Which word means the opposite of {noun}?
How much is {big} + {big2}?
How much is {big} minus {any}?
What's {any} divided by {any2}?
How much is {two} times {two2}?
What is the cube of {any}?
Multiply {big} and {big2}.
Convert {any} pounds to kilograms.
My {animal} ate my {noun}.
The {adjective} {noun} belongs to {name}.
{letters} {invented}?
What is your favourite {animal}?
Write a haiku about the {noun}.
Write code to {verb} a {noun}.
Explain the word {noun}.""",
)

_SENTENCES = Phrasings(
    """\
What is the meaning of life?
What time is it?
What is the date today?
What day is it today?
What year is it?
What is the weather like?
Will it rain tomorrow?
Why is the sky blue?
How far away is the moon?
How many planets are there?
What is the speed of light?
How many people live on Earth?
What is the largest ocean?
What is the tallest mountain in the world?
Who is the president?
Who won the last World Cup?
Tell me a joke.
Tell me a story.
Sing me a song.
Write a poem.
Write a haiku.
Write me an email to my boss.
Write a letter of complaint.
Give me some advice.
What should I eat tonight?
What should I do today?
What is love?
What is consciousness?
Are you conscious?
Do you dream?
Do you have feelings?
What is the airspeed of an unladen swallow?
How do I tie a tie?
How do I lose weight?
How can I sleep better?
How do I fix my computer?
My computer is slow.
My printer does not work.
I am hungry.
I am bored.
I am tired.
I feel sad.
I have a headache.
It is raining.
The weather is nice today.
I like trains.
I went to the cinema yesterday.
Yesterday I met a friend.
What is for lunch?
Play some music.
Turn on the lights.
Set a timer for ten minutes.
Remind me to call my mother.
Order me a pizza.
Book a flight to London.
Search the web for news.
What is in the news today?
What is the stock price of Apple?
How much is a bitcoin?
Show me a picture.
Draw a cat.
Open the door.
Call the police.
Send a message.
Read this file.
Translate this text.
Summarize this article.
Write a function that adds two numbers.
Write hello world in Python.
What is a monad?
What is the difference between TCP and UDP?
How do I exit vim?
Explain recursion.
Explain quantum entanglement.
Solve x^2 - 4 = 0.
Integrate x squared.
What is pi?
What is the derivative of sin(x)?
What is infinity?
Is zero even?
What came first, the chicken or the egg?
Does God exist?
Who discovered America?
Who invented the light bulb?
When did the war end?
What causes rain?
How do birds fly?
Why do cats purr?
Why is grass green?
What is water made of?
How hot is the sun?
Which animal is the fastest?
How many bones does a human have?
What is the best movie ever?
Which book should I read?
What is the best phone?
Which car should I buy?
Should I invest in gold?
Is it safe to eat raw eggs?
Can dogs eat chocolate?
Lorem ipsum dolor sit amet.
asdf
qwerty
...
???
test
What?
Why?
How?
Where?
When?
Tell me more.
Explain.
Continue.
Go on.
Do it again.
What do you mean?
Can you explain that?
Why is that?
Are you sure?
That is wrong.""",
    """\
Who invented the wheel?
How deep is the ocean?
What is the smallest country in the world?
How do magnets work?
Tell me something interesting.
Tell me a fun fact.
Write a short story.
How do I boil an egg?
Why do we dream?
What is dark matter?
What is the best programming language?
Explain general relativity.
How do I learn to play the piano?
I am in a hurry.
My car does not start.
I like music.
Book a table for two.
Turn off the radio.
What is the price of gold?
How many stars are there?
Who built the pyramids?
When did dinosaurs live?
What is the fastest car?
Is there life on Mars?
Which language should I learn?
Write a bash script.
What is an algorithm?
What is the integral of x?""",
)


# Questions of the other skills with something in them that those do not cover.
_NEAR_MISSES: list[tuple[Phrasings, dict[str, list[str]]]] = [
    (ADD, {"a": ["{big}", "{big}", "{any}"], "b": ["{big2}"]}),
    (ADD, {"a": ["{big}"], "b": ["{any}"]}),
    (SUBTRACT, {"a": ["{big}", "{big}", "{any}"], "b": ["{big2}"]}),
    (SUBTRACT, {"a": ["{big}"], "b": ["{any}"]}),
    (MULTIPLY, {"a": ["{big}", "{two}", "{any}"], "b": ["{two2}"]}),
    (MULTIPLY, {"a": ["{two}"], "b": ["{any}"]}),
    (CAPITAL, {"x": ["{newname}", "{newname}", "the {noun}", "{name}", "the {animal}"]}),
    (OPPOSITE, {"x": ["{noun}", "{food}", "{animal}", "{job}", "{invented}", "{name}", "{city}"]}),
    (NEXT, {"x": ["{noun}", "{invented}", "{name}"], "unit": ["{noun2}", "thing", "one"]}),
    (PREVIOUS, {"x": ["{noun}", "{invented}", "{name}"], "unit": ["{noun2}", "thing", "one"]}),
]


_ANSWERABLE = {*OPPOSITES, *CAPITALS, *DAYS, *MONTHS}


def _number(rng: random.Random) -> int:
    return rng.randint(100, 10 ** rng.choice([3, 3, 4, 5]) - 1)


def _fill(rng: random.Random, template: str, split: str, near_miss: bool) -> str:
    def from_pool(pool: list[str]) -> str:
        return pick(rng, pool, split)

    fillers = {
        "person": lambda: from_pool(_PEOPLE),
        "topic": lambda: from_pool(_TOPICS),
        "work": lambda: from_pool(_WORKS),
        "noun": lambda: from_pool(NOUNS),
        "noun2": lambda: from_pool(NOUNS),
        "animal": lambda: from_pool(ANIMALS),
        "food": lambda: from_pool(FOODS),
        "job": lambda: from_pool(JOBS),
        "sport": lambda: from_pool(SPORTS),
        "city": lambda: from_pool(CITIES),
        "city2": lambda: from_pool(CITIES),
        "country": lambda: rng.choice(list(CAPITALS)),
        "day": lambda: rng.choice(DAYS),
        "month": lambda: rng.choice(MONTHS),
        "year": lambda: str(rng.randint(1000, 2060)),
        "verb": lambda: from_pool(VERBS),
        "verb2": lambda: from_pool(VERBS),
        "adjective": lambda: from_pool(ADJECTIVES),
        "adjective2": lambda: from_pool(COLOURS),
        "name": lambda: from_pool(NAMES),
        "newname": lambda: invented_name(rng),
        "invented": lambda: invented_word(rng),
        "invented2": lambda: invented_word(rng),
        "letters": lambda: random_letters(rng, 2, 8),
        "letters2": lambda: random_letters(rng, 2, 8),
        "big": lambda: str(_number(rng)),
        "big2": lambda: str(_number(rng)),
        "two": lambda: str(rng.randint(13, 99)),
        "two2": lambda: str(rng.randint(13, 99)),
        "any": lambda: str(rng.randint(2, 99)),
        "any2": lambda: str(rng.randint(2, 99)),
    }
    while True:
        values = {name: fill() for name, fill in fillers.items() if "{" + name + "}" in template}
        # In a near miss, a word that has an opposite, a country or a month would be a hit.
        if not near_miss or not any(value in _ANSWERABLE for value in values.values()):
            return template.format(**values)


def unknown(rng: random.Random, split: str, _: Memory) -> Turn:
    kind = rng.random()
    if kind < 0.25:
        asked, slots = rng.choice(_NEAR_MISSES)
        template = asked.pick(rng, split)
        for slot, fillers in slots.items():
            template = template.replace("{" + slot + "}", rng.choice(fillers))
    else:
        template = (_TEMPLATES if kind < 0.85 else _SENTENCES).pick(rng, split)
    near_miss = kind < 0.25 or "opposite" in template or "capital" in template
    return Turn("unknown", _fill(rng, template, split, near_miss), UNKNOWN, UNKNOWN)
