"""How questions are put: small grammars for training, plain lists for the held-out side.

A line such as `[Add|Sum up] {a} and {b}[ together|]` stands for all its expansions. Breadth matters more than anything
else here: with a few dozen fixed sentences a skill the model learns those sentences, and answers "I don't know" to any other.
A training expansion that reads like a held-out phrasing (case, quotes and punctuation aside) is never used.
"""

import random
import re

from words import HELD_OUT

Part = str | list["Sequence"]
Sequence = list[Part]


def _parse(line: str) -> Sequence:
    """Text and choices: `a[b|c[d|]]` is `["a", [["b"], ["c", [["d"], []]]]]`."""

    def alternatives(i: int, inside: bool) -> tuple[list[Sequence], int]:
        options: list[Sequence] = [[]]
        text = ""
        while i < len(line) and line[i] != "]":
            if (line[i] == "[" or line[i] == "|" and inside) and text:
                options[-1].append(text)
                text = ""
            if line[i] == "[":
                inner, i = alternatives(i + 1, True)
                options[-1].append(inner)
            elif line[i] == "|" and inside:
                options.append([])
            else:
                text += line[i]
            i += 1
        if text:
            options[-1].append(text)
        return options, i

    options, end = alternatives(0, False)
    if end != len(line) or line.count("[") != line.count("]"):
        raise ValueError(f"unbalanced brackets in phrasing: {line}")
    return options[0]


def _expand(rng: random.Random, sequence: Sequence) -> str:
    return "".join(part if isinstance(part, str) else _expand(rng, rng.choice(part)) for part in sequence)


def _count(sequence: Sequence) -> int:
    total = 1
    for part in sequence:
        if not isinstance(part, str):
            total *= sum(_count(option) for option in part)
    return total


def _core(template: str) -> str:
    """A template without what does not make it another phrasing."""
    return " ".join(re.sub(r"[^\w{}+*×/-]+", " ", template.lower()).split())


_FILLERS = "please now just kindly quickly simply then really actually maybe again here".split()
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _disturb(rng: random.Random, template: str) -> str:
    """A typing error in a longer word, or a word that says nothing, never next to what the question is about."""
    words = template.split(" ")
    if rng.random() < 0.5:
        places = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
        if places:
            i = rng.choice(places)
            at = rng.randrange(1, len(words[i]) - 1)
            middle = rng.choice(["", rng.choice(_LETTERS), words[i][at] * 2, words[i][at + 1] + words[i][at]])
            words[i] = words[i][:at] + middle + words[i][at + (2 if len(middle) == 2 and middle[0] != middle[1] else 1) :]
    else:
        places = [i for i in range(len(words)) if "{" not in words[i] and (i == 0 or "{" not in words[i - 1])]
        if places:
            words.insert(rng.choice(places), rng.choice(_FILLERS))
    return " ".join(words)


class Phrasings:
    def __init__(self, train: str, held_out: str):
        self.lines = [_parse(line) for line in train.strip().splitlines()]
        self.weights = [min(_count(line), 400) ** 0.5 for line in self.lines]
        self.held_out = held_out.strip().splitlines()
        self._reserved = {_core(template) for template in self.held_out}

    def count(self) -> int:
        return sum(_count(line) for line in self.lines)

    def pick(self, rng: random.Random, split: str) -> str:
        if split == HELD_OUT:
            return rng.choice(self.held_out)
        while True:
            template = _expand(rng, rng.choices(self.lines, self.weights)[0])
            if rng.random() < 0.15:
                template = _disturb(rng, template)
            if _core(template) not in self._reserved:
                break
        if rng.random() < 0.12 and not template.startswith(("{", "I ", "I'")):
            template = template[0].lower() + template[1:]
        return template


# --- arithmetic ------------------------------------------------------------------------------------------------------

ADD = Phrasings(
    """\
[What is|What's|what is|whats|How much is|how much is] {a}[ + |+| plus ]{b}[?|?|]
[Calculate|Compute|Evaluate|Work out|Solve|Find|Tell me|Give me|Determine|Figure out|Please calculate|Please compute|Do you know|I need|I need to know|Can you calculate|Can you compute|Can you solve|Could you work out][ |: ]{a}[ + |+| plus ]{b}[.|?|]
{a}[ + |+| plus ]{b}
{a}[ + |+| plus ]{b}[ = ?| =|=|?|=?| equals?| is?| is what?| is how much?| makes?| makes what?| equals| gives?| gives what?| =  ?]
[What is|What's|Tell me|Give me|Find|Calculate|Compute|Determine|Work out|I need|How much is|Do you know|Please give me|Can you find|Can you tell me|Could you compute] the [sum|total|result|value|answer] of {a}[ and | + | plus |+]{b}[?|.|]
[The sum|Sum|The total|Total|The result] of {a}[ and | + | plus ]{b}[?|| is?| equals?|:|.]
[Add|Please add|Can you add|Could you add|Let's add|Now add|Try adding|I want you to add|I would like to add|Help me add] {a}[ and | to | with | plus ]{b}[ together|| up| for me][.|?|]
[Add up|Sum up|Sum|Add together|Total|Please add up|Please sum|Can you sum] {a} and {b}[.|?|]
[What|How much] [do you get|do I get|do we get|does one get|will I get|would you get|do I have|results|comes out] [when|if] [you|I|we] [add|sum|sum up|add up|put together|combine] {a} and {b}[ together|]?
[What|How much] [do you get|do I get|do we get|will I get|would I have] [when|if] [you|I|we] add {a} to {b}?
[What|How much] [does|do|will|would] {a}[ + |+| plus | and ]{b} [equal|make|give|come to|add up to|sum to|total|result in]?
[What do|To what do|How much do] {a} and {b} [make|give|sum to|come to|total|make together|give together|sum up to]?
[Find|Compute|Calculate|Give me|Give|Work out|Determine] the [sum|total|result|answer]: {a}[ + |+| plus ]{b}[.|?|]
[If I have|I have|You have|There are|Suppose I have] {a} and [add|get|find|buy|receive] {b}[ more|], [how many|how much] [do I have|is that|is it|does that make|are there|is it in total|do I have in total]?
[Increase|Raise] {a} by {b}[.|]
[What is|What's|How much is] {a} [increased by|added to|and|together with|more than] {b}?
{a} [and|plus|added to] {b} [together|in total|added up|make what|is how much|add up to what|sums to what][?|]
[Sum|Addition|Total|Problem|Exercise|Question|Math|Maths question][: | - ]{a}[ + |+| plus ]{b}[?|| = ?|.]
[Do the sum|Do the math|Do the addition|Quick math][: |, ]{a}[ + |+| plus ]{b}[.|]""",
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

SUBTRACT = Phrasings(
    """\
[What is|What's|what is|whats|How much is|how much is] {a}[ - |-| minus | take away ]{b}[?|?|]
[Calculate|Compute|Evaluate|Work out|Solve|Find|Tell me|Give me|Determine|Figure out|Please calculate|Please compute|Do you know|I need|I need to know|Can you calculate|Can you compute|Can you solve|Could you work out][ |: ]{a}[ - |-| minus ]{b}[.|?|]
{a}[ - |-| minus ]{b}
{a}[ - |-| minus ]{b}[ = ?| =|=|?|=?| equals?| is?| is what?| is how much?| makes?| makes what?| equals| gives?| gives what?| leaves what?]
[What is|What's|Tell me|Give me|Find|Calculate|Compute|Determine|Work out|I need|How much is|Do you know|Please give me|Can you find|Can you tell me|Could you compute] the [result|value|answer|outcome] of {a}[ - |-| minus ]{b}[?|.|]
[The result|Result|The value] of {a}[ - |-| minus ]{b}[?|| is?| equals?|:|.]
[Subtract|Please subtract|Can you subtract|Could you subtract|Let's subtract|Now subtract|I want you to subtract|Help me subtract|Deduct|Take|Remove|Please take|Can you take|Take away|Please deduct] {b} from {a}[.|?|]
[Take|Please take|Can you take|Could you take|Now take] {b} away from {a}[.|?|]
[What|How much] [do you get|do we get|does one get|will I get|would you get|do I have|remains|is left|is left over|will be left|stays|comes out] [when|if|after] [you|I|we] [subtract|take|take away|deduct|remove] {b} from {a}?
[What|How much] [do you get|do I get|do we get|will I get|do I have|remains|is left over|will be left|stays] [when|if|after] [you|I|we] take {b} away from {a}?
[What|How much] [do you get|do we get|will I get|results|comes out] [when|if] [you|I|we] [subtract|deduct] {b} from {a}?
[What|How much] [does|do|will|would] {a}[ - |-| minus | take away ]{b} [equal|make|give|come to|leave|result in]?
[Find|Compute|Calculate|Give me|Give|Work out|Determine] the [difference|result|answer]: {a}[ - |-| minus ]{b}[.|?|]
[If I have|I have|You have|Suppose I have] {a} and [lose|spend|give away|use|use up|take away] {b}, [how many|how much] [do I have left|is left|remains|are left|is that|remain]?
[Decrease|Reduce|Lower] {a} by {b}[.|]
[What is|What's|How much is] {a} [decreased by|reduced by|less] {b}?
[What is|What's|How much is] {b} [less than|subtracted from|taken from|taken away from] {a}?
[Subtraction|Difference|Problem|Exercise|Question|Math|Maths question][: | - ]{a}[ - |-| minus ]{b}[?|| = ?|.]
[Do the math|Do the subtraction|Quick math][: |, ]{a}[ - |-| minus ]{b}[.|]
{a} [take away|minus] {b} [is how much|makes what|leaves what|is what number][?|]""",
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

MULTIPLY = Phrasings(
    """\
[What is|What's|what is|whats|How much is|how much is] {a}[ * |*| x | × | times | multiplied by ]{b}[?|?|]
[Calculate|Compute|Evaluate|Work out|Solve|Find|Tell me|Give me|Determine|Figure out|Please calculate|Please compute|Do you know|I need|Can you calculate|Can you compute|Could you work out][ |: ]{a}[ * |*| x | × | times | multiplied by ]{b}[.|?|]
{a}[ * |*| x | × | times ]{b}
{a}[ * |*| x | × | times | multiplied by ]{b}[ = ?| =|=|?|=?| equals?| is?| is what?| is how much?| makes?| makes what?| gives?| gives what?]
[What is|What's|Tell me|Give me|Find|Compute|Determine|Work out|I need|How much is|Do you know|Please give me|Can you find|Can you tell me] the [product|result|value] of {a}[ and | * | × | times ]{b}[?|.|]
[The product|Product|The result] of {a}[ and | times | × ]{b}[?|| is?| equals?|:|.]
[Multiply|Please multiply|Can you multiply|Could you multiply|Let's multiply|Now multiply|I want you to multiply|Help me multiply] {a}[ by | and | with | times ]{b}[.|?|]
[What|How much] [do I get|do we get|does one get|will I get|would you get|results|comes out] [when|if] [you|I|we] multiply {a}[ by | and | with ]{b}?
[What|How much] do you get if you multiply {a}[ by | and | with ]{b}?
[What|How much] [does|do|will] {a}[ * |*| x | × | times ]{b} [equal|make|give|come to|result in]?
[Find|Compute|Calculate|Give me|Give|Work out] the [product|result|answer]: {a}[ * |*| x | × | times ]{b}[.|?|]
[Multiplication|Product|Problem|Exercise|Question|Math|Times table][: | - ]{a}[ * |*| x | × | times ]{b}[?|| = ?|.]
[I have|There are|If I have] {a} [bags|boxes|rows|groups] [of|with] {b}[ each|], how many [is that|are there|do I have|is that in total]?""",
    """\
What do you get when you multiply {a} by {b}?
How much is {a} multiplied by {b}?
Calculate the product of {a} and {b}.
{a} times {b} equals what?
Compute {a} times {b}.
What's {a} multiplied by {b}?
Work out {a} times {b}.""",
)

# --- closed facts ----------------------------------------------------------------------------------------------------

CAPITAL = Phrasings(
    """\
[What is|What's|what is|whats|Which is|Tell me|Give me|Name|State|Say|Do you know|Can you tell me|Could you tell me|Can you name|Could you name|I need|I want to know|I would like to know|I'd like to know|Find|Please name|Please tell me|Please give me|Let me know] the [capital|capital city|name of the capital|name of the capital city] of {x}[?|.|]
[What|Which] [city|town|place] is the [capital|capital city] of {x}?
[What|Which] [city|town|place] [serves|acts|functions] as the [capital|capital city] of {x}?
[What is|What's|Which is|Tell me|Name|Give me|Do you know|Can you name|Can you tell me|Could you tell me|I need|Please name] {x}'s capital[ city|][?|.|]
[What is|What's|Tell me|Give me] the name of {x}'s capital[ city|][?|.|]
[Capital|Capital city|The capital|The capital city] of {x}[?|| is?|...| is| is what?| is which city?|:]
{x}[: capital| capital|, capital|'s capital|: capital city|'s capital city][?||:]
[Where|In which city] is the [government|seat of government] of {x}? Name the capital.
[What|Which] capital [does {x} have|belongs to {x}|city does {x} have]?
[What city|Which city|What] does {x} have as [its|the] capital[ city|]?
{x} has which [capital|capital city]?
[For|Of] {x}, [what is the|name the|tell me the] capital[ city|][?|.|]
[The country is|Country:] {x}[. Capital?|. What is the capital?|. Name its capital.|. What is its capital city?]
[I am going to|I want to visit|I travel to|We fly to] {x}. What is [the|its] capital[ city|]?""",
    """\
What is {x}'s capital city?
Which city serves as the capital of {x}?
Name the capital city of {x}.
Could you give me the capital of {x}?
What's the name of {x}'s capital?
Which is the capital city of {x}?""",
)

COUNTRY = Phrasings(
    """\
[Which|What] country [has|had|uses|chose] {x} as [its|the] capital[ city|]?
{x} is the capital[ city|] of [which|what] country?
{x} is [which|what] country's capital[ city|]?
[Which|What] country is {x} the capital city of?
[Of|For] [which|what] country is {x} the capital[ city|]?
[Name|Give me|Find|Say|Do you know|Can you name] the country [whose capital is|whose capital city is|that has the capital|with the capital|that has as its capital] {x}[.|?|]
[Which|What] country's capital [is|city is] {x}?
The capital[ city|] is {x}. [Which|What] [country is it|is the country|country is that]?
{x} is the capital of[?|...| which country?| what?]""",
    """\
Tell me the country whose capital is {x}.
Which country is {x} the capital of?
What country has {x} as its capital?""",
)

OPPOSITE = Phrasings(
    """\
[What is|What's|what is|whats|Which is|Tell me|Give me|Name|Say|Do you know|Can you tell me|Could you tell me|Can you name|I need|I want to know|I'd like to know|Please tell me|Please give me|Look for|Think of] the [opposite|exact opposite|antonym|contrary] [of|to] [{x}|{x}|"{x}"|'{x}'|the word "{x}"|the adjective {x}|the term {x}][?|.|]
[Opposite|Antonym|The opposite|The antonym|Contrary|Opposite word] of [{x}|{x}|"{x}"|'{x}'|the word {x}][?||:| is?|...| is]
[Which|What] word [is the opposite of|is the antonym of|means the opposite of|is opposite to|is the contrary of|says the opposite of|is an antonym of|has the opposite sense of] [{x}|{x}|"{x}"|'{x}'|the word {x}]?
[What|Which word] is [opposite|contrary] to [{x}|"{x}"]?
[What|Which] [word] [has|carries|would have] [a|the] [meaning opposite to|contrary meaning of|reverse meaning of|meaning that is opposite to] [{x}|"{x}"]?
[Give me|Tell me|Find|Name|Say|Write|Do you know|Can you give me|Please find|I need] [an antonym|an opposite|a word opposite|one antonym] [for|to] [{x}|"{x}"|the word {x}][.|?|]
[{x}|"{x}"][: opposite|, opposite| - opposite|: antonym|. Opposite|. What is the opposite][?|:]
[If something is not {x}|If it is not {x}], what is the opposite word?
[The word is|Word:|My word is] [{x}|"{x}"][. What is the opposite|. What is its opposite|. Name the opposite|. Tell me its antonym|. Opposite][?|.]
[What|Which word] [does|would] [form the opposite of|you call the opposite of] {x}?
[Do you know|Can you find|Could you find|Could you name] [the word opposite to|the opposite word of|the opposite word for|an antonym for] {x}?""",
    """\
What is the opposite of the word {x}?
Give an antonym of {x}.
Tell me the antonym of {x}.
Which word has the opposite meaning of {x}?
What's the antonym of {x}?
Find the opposite of {x}.""",
)

NEXT = Phrasings(
    """\
[What|Which] [{unit} |]comes [after|next after|right after|directly after|immediately after|straight after] {x}?
[What|Which] {unit} [follows|is next after|is directly after|immediately follows|succeeds|directly follows|would follow] {x}?
[What is|What's|Which is|Tell me|Give me|Name|Say|Do you know|Can you tell me|Could you tell me|Can you name|Please tell me] the [{unit}|next {unit}|following {unit}] [after|following|right after|directly after] {x}[?|.|]
[{unit} after|The {unit} after|Next {unit} after|Next after|After] {x}[?|:| is?| comes?| comes what?|...]
[Name|Give me|Say|Can you name|Do you know|Please name] the {unit} that [follows|comes after|is after|comes next after|comes right after|succeeds] {x}[.|?|]
After {x}[,| comes] [which|what][ {unit}|][ comes| is it|][?|]
{x} is [over|past|done]. [What|Which] {unit} [is next|comes next|follows|comes now]?
{x} comes before [which|what] {unit}?
[What|Which {unit}] [do we have|have we got|is it] after {x}?""",
    """\
What {unit} follows {x}?
Name the {unit} after {x}.
Which {unit} is right after {x}?
Tell me the {unit} that comes after {x}.""",
)

PREVIOUS = Phrasings(
    """\
[What|Which] [{unit} |]comes [before|just before|right before|directly before|immediately before|straight before] {x}?
[What|Which] {unit} [precedes|is directly before|immediately precedes|is just before|directly precedes|would precede] {x}?
[What is|What's|Which is|Tell me|Give me|Name|Say|Do you know|Can you tell me|Could you tell me|Can you name|Please tell me] the [{unit}|previous {unit}|last {unit}|preceding {unit}] [before|preceding|right before|directly before] {x}[?|.|]
[{unit} before|The {unit} before|Previous {unit} before|Right before|Before] {x}[?|:| is?| comes?| comes what?|...]
[Name|Give me|Say|Can you name|Do you know|Please name] the {unit} that [precedes|comes before|is before|comes just before|comes right before] {x}[.|?|]
Before {x}[,| comes] [which|what][ {unit}|][ comes| is it|][?|]
{x} [follows|comes after] [which|what] {unit}?
[What|Which {unit}] [do we have|have we got|was it|was] before {x}?""",
    """\
What {unit} precedes {x}?
Name the {unit} before {x}.
Which {unit} is right before {x}?
Tell me the {unit} that comes before {x}.""",
)

TOMORROW = Phrasings(
    """\
[If|When|Suppose|Given that] today is {x}, [what|which] day [is|will be|comes|is it|will it be] tomorrow?
[Today is|Today it is|It is|It's] {x}[. | today. ][What|Which] day [is|will be|will it be|is it] tomorrow?
[What|Which] day [is|will be|is it|will it be] tomorrow[,|] [if|when] [today is {x}|it is {x} now]?
Tomorrow[, if today is {x}, is| is what day if today is {x}|, after {x}, is which day]?""",
    """\
If it is {x} today, what day is tomorrow?""",
)
YESTERDAY = Phrasings(
    """\
[If|When|Suppose|Given that] today is {x}, [what|which] day [was|was it] yesterday?
[Today is|Today it is|It is|It's] {x}[. | today. ][What|Which] day [was|was it] yesterday?
[What|Which] day [was|was it] yesterday[,|] [if|when] [today is {x}|it is {x} now]?
Yesterday[, if today is {x}, was| was what day if today is {x}|, before {x}, was which day]?""",
    """\
If it is {x} today, what day was yesterday?""",
)
NTH = Phrasings(
    """\
[What is|What's|Name|Tell me|Say|Do you know|Can you tell me|Could you name|Please tell me|I need] the {n} {unit} [of|in] [the|a] {whole}[?|.|]
[Which|What] {unit} [is|comes as] the {n}[ one|] [of|in] [the|a] {whole}?
[Which|What] {unit} is [{n}|number {n}] in the {whole}?
[{n}|The {n}] {unit} of the {whole}[?|:| is?|]
[In|Of] the {whole}, [which|what] {unit} [is|comes] {n}?
[What do we call|What is the name of|How do you call] the {n} {unit} of the {whole}?""",
    """\
Which is the {n} {unit} of the {whole}?
Give me the {n} {unit} of the {whole}.""",
)
LENGTH = Phrasings(
    """\
[How many|how many] days [are in|are there in|can you count in|do you count in|make up] {x}?
How many days does {x} [have|contain|last]?
How many days [do we have|would I have|will there be] in {x}?
[Number|The number|Count|Total number] of days in {x}[?|:| is?|]
[Tell me|Give me|Say|Do you know|Can you tell me|I need] [the number of days in|how many days are in|how many days there are in|the length of] {x}[.|?|]
[How long is|How long does] {x}[ in days| last|, in days]?
[What is|What's] the [length of {x} in days|number of days of {x}|day count of {x}]?
{x} has how many days?""",
    """\
What is the number of days in {x}?
How many days has {x}?""",
)
LIST = Phrasings(
    """\
[Name|List|Give me|Tell me|Say|Write|Write down|Recite|Please list|Please name|Show me] [the|all the|all|all of the] {units} [of|in] [the|a] {whole}[.|, please.| in order.|]
[What|Which] are the {units} [of|in] [the|a] {whole}?
[Can you name|Could you name|Could you list|Do you know|Can you tell me|Can you recite] [the|all the|all] {units} of the {whole}?
[{units}|The {units}|All {units}] of the {whole}[?|:|.|]
[Which|What] {units} are in [the|a] {whole}?""",
    """\
Name all the {units} of the {whole}.
Can you list the {units} of the {whole}?""",
)

# --- counting --------------------------------------------------------------------------------------------------------

COUNT = Phrasings(
    """\
[Count|Please count|Can you count|Could you count|Now count|I want you to count|Let's count|Try to count|Go ahead and count] [from |{direction} from |from number ]{a} [to|until|till|through] {b}[.|?|| in order.| please.|, one by one.]
[Count|Please count|Can you count] [from|starting from|starting at|starting with|beginning with|beginning at] {a} [{direction} to|to|until|and stop at|and end at|and finish at|and end with|ending with|and go to] {b}[.|?|]
[Start|Begin|Start counting|Begin counting|Start to count] [at|from|with] {a} and [count to|count {direction} to|go to|end at|finish at|end with|count until|go {direction} to|finish with] {b}[.|]
[Start|Begin] counting [from|with] {a} and stop [at|with|when you reach] {b}[.|]
[List|Write|Give me|Tell me|Print|Show me|Write down|Name|Enumerate|Recite] [the|all|all the] numbers from {a} [to|until|through] {b}[.|, in order.|]
[Count|Counting|Numbers][: | ]{a} [to|until|-] {b}[.|]
[Go|Count] {direction}[ | step by step ]from {a} [to|until] {b}[.|]
[What are|Which are] the numbers from {a} to {b}?
[From|Beginning at] {a}[, count| count][ {direction}|] [to|until] {b}[.|]
Count {direction}[: | ][from {a} to {b}|beginning at {a} and finishing at {b}|beginning with {a}, ending with {b}|, start at {a}, end at {b}][.|]""",
    """\
Please count from {a} to {b}, in order.
Say the numbers from {a} to {b}.
Start counting at {a} and stop at {b}.
Count {direction}, starting at {a} and ending at {b}.""",
)
COUNT_UP = Phrasings(
    """\
[Count|Please count|Can you count|Could you count|Now count|Let's count] [to|up to|from one to|from one up to|till|all the way up to] {b}[.|?|]
[Count|Start counting][ and stop at| and go to| until you reach| up until] {b}[.|]
[Give me|List|Say|Write] the [first {b} numbers|numbers up to {b}][.|]""",
    """\
Count until {b}.
Count all the way to {b}.""",
)
COUNT_DOWN = Phrasings(
    """\
[Count down|Count backwards|Please count down|Can you count down|Could you count backwards|Count back|Now count down] [from|starting at|starting from|beginning at] {a}[.|?|| to one.]
[Give me|I need|Make|Start|Begin|Please do] a countdown [from|that starts at|starting from] {a}[.|]
Countdown from {a}[.|!|]""",
    """\
Do a countdown from {a}.
Start a countdown at {a}.""",
)
SUCCESSOR = Phrasings(
    """\
[What|Which] number [comes after|comes right after|comes next after|is after|is next after|directly follows] {a}?
Which number follows {a}?
[What is|What's|Tell me|Give me|Name] the [next number after|number after|number following|number that follows|number that comes after] {a}[?|.|]
[Next number after|The number after|Number after] {a}[?|:|]""",
    """\
What number follows {a}?""",
)
PREDECESSOR = Phrasings(
    """\
[What|Which] number [comes before|comes right before|comes just before|is before|is right before|directly precedes] {a}?
Which number precedes {a}?
[What is|What's|Tell me|Give me|Name] the [previous number before|number before|number preceding|number that precedes|number that comes before] {a}[?|.|]
[The number before|Number before] {a}[?|:|]""",
    """\
What number precedes {a}?""",
)

# --- copying, spelling, reversing ------------------------------------------------------------------------------------

COPY = Phrasings(
    """\
[Repeat|Copy|Echo|Write|Print|Type|Output|Say|Return|Reproduce|Quote|Write down|Please repeat|Please write|Please echo|Please print|Can you repeat|Can you copy|Could you repeat|Could you say|Just repeat|Simply copy|Now repeat|Now say]: {x}
[Repeat|Copy|Write|Print|Type|Output|Return|Reproduce|Quote|Please repeat|Please write|Please echo|Can you repeat|Can you copy|Can you say|Could you repeat|Could you say|Just repeat|Just say|Now repeat|I want you to say|I want you to repeat|Now say] [this|the following|this text|this sentence|this word|these words|the text|the words|the phrase|the string|the line|what follows][: | back: | exactly: | for me: | to me: | once: | again: | without changes: ]{x}
[Repeat|Copy|Echo|Write|Print|Type|Say|Output|Return|Please repeat|Please write|Please echo|Can you say|Can you repeat|Could you say|Just say|Just write|Now say|I want you to say|Try to say] ["{x}"|'{x}'|"{x}"]
[Repeat|Say|Copy|Write|Echo|Print|Type] [the word|the words|the text|the phrase|the string|the sentence|this text|this] ["{x}"|'{x}'|"{x}"]
[Repeat|Say|Please repeat|Please say|Say it|Say this] [after me|with me|back to me|after me, please|in the same way|word for word]: {x}
[Respond|Reply|Answer|Come back] [with|only with|with exactly|with just|with the text|with the words][: | this: ]{x}
[Say|Write|Echo|Repeat|Copy] {x}
[Reply|Respond|Answer] with ["{x}"|exactly "{x}"|the text "{x}"]
[Copy|Repeat|Write|Reproduce|Echo|Print|Return] [word for word|letter by letter|without any change|exactly what I say|what I say|exactly this|the same text|precisely|faithfully]: {x}
[Your answer must be|Your reply should be|The answer should be|I want to read|I want to hear|Let me hear you say]: {x}""",
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
REVERSE = Phrasings(
    """\
[Reverse|Please reverse|Could you reverse|Now reverse|I want you to reverse|Try to reverse|Just reverse|Invert|Flip|Mirror|Turn around|Help me reverse][ |: ][{x}|{x}|"{x}"|'{x}'][|.|]
[Reverse|Please reverse|Can you reverse|Could you reverse|Now reverse|Invert|Flip|Mirror|Turn around] [the word|the string|the text|the letters of|the letters in|the characters of|the characters in|the name|the letters of the word|the sequence|the order of the letters in|the spelling of|this|this word|this string|this text][ |: ][{x}|{x}|"{x}"|'{x}'][|.|]
[Spell|Write|Say|Print|Type|Read|Please write|Please spell|Can you write|Can you spell|Could you write|Can you say|Now write|Now spell|I want you to write] [{x}|{x}|"{x}"|'{x}'|the word "{x}"|the string {x}|the text "{x}"|the letters of {x}] [backwards|backward|in reverse order|from back to front|from the end to the start|from right to left|the other way round|reversed][.||?]
[Write|Spell|Say|Put|Give me|Show me|Please write] [{x}|"{x}"|the word {x}] in reverse[ order|, please|][?|]
[What is|What's|what is|How is|Do you know|Tell me|Show me|Give me] [{x}|"{x}"|'{x}'|the word {x}|the string "{x}"] [backwards|backward|in reverse|in reverse order|written backwards|spelled in reverse|reversed|read backwards|read from the end|the other way round][?||.]
[What is|What's|Tell me|Give me|Show me|I need|Write] the [reverse|reversal|reversed form|mirror image|reversed spelling|backward spelling] of [{x}|"{x}"|the word {x}|the string "{x}"][?|.|]
[How|In what way] [do you write|do you spell|would you spell|does one write|do I write|would you write] [{x}|"{x}"|the word {x}] [backwards|in reverse|from back to front|reversed]?
[{x}|"{x}"] [backwards|in reverse|reversed|spelled in reverse|from back to front|written backwards][?|:|.|]
[Backwards|Reverse|In reverse|Reversed|Reverse order|From back to front]: [{x}|"{x}"]
[What do you get|What do I get|What comes out] [if|when] [you|I] [reverse|spell backwards|write backwards|read backwards|turn around] [{x}|"{x}"|the word {x}]?
[The word is|My word is|Take the word|Here is a word:] [{x}|"{x}"]. [Reverse it|Spell it backwards|Write it backwards|Say it in reverse|Turn it around].""",
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
SPELL = Phrasings(
    """\
[Spell|Spell out|Please spell out|Can you spell|Could you spell|Now spell|I want you to spell|Try to spell] [{x}|"{x}"|the word "{x}"|the name {x}|the string {x}|this word: {x}][.||?]
Spell[: | the word ]{x}[|.]
[How do you|How would you|How do I|How does one|How can I] spell [{x}|"{x}"|the word {x}]?
[List|Give me|Name|Write|Show me|Tell me] the [letters|characters|single letters] [of|in] [{x}|"{x}"|the word {x}][.|]
[What is|What's|Give me|Tell me] the spelling of [{x}|"{x}"|the word {x}][?|.]
How is [the word {x}|"{x}"|the name {x}] [spelled|written|spelt]?
[{x}|"{x}"], letter by letter[.|, please.|]""",
    """\
Please spell {x}.
Spell out the word {x}.
How is {x} spelled?""",
)
