"""Small talk: greetings, thanks, farewells, and what the model says about itself."""

import random

from phrasings import Phrasings
from skills import Memory, Turn

_IDENTITY = "I am Sanctum's built-in tiny model."
_ABILITIES = (
    "I can add and subtract two-digit numbers, multiply small ones, name capitals, opposites, days and months, "
    "count, copy and reverse text, and remember what you tell me."
)
_TALK: list[tuple[Phrasings, str]] = [
    (
        Phrasings(
            """\
[Hello|hello|Hi|hi|Hey|hey|Hiya|Hallo|Heya|Howdy|Yo|Greetings|Welcome|Hello again|Hi again|Hey you|Well hello][|!|.|!!|, friend.|, you.|, model.]
[Hello there|Hey there|hi there|Hello my friend|Hello, tiny model|Hi, model|Hey, Sanctum|Hello, Sanctum][|!]
[Hello|Hi|Hey][, how can you help me?|, can you help me?|, are you there?|, nice to meet you.|! Nice to see you.|, can we talk?]""",
            "Good day!\nHi Sanctum\nHello, dear model.\nHey, hello!",
        ),
        "Hello! How can I help you?",
    ),
    (Phrasings("[Good morning|good morning|Morning|A good morning|A very good morning][|!|, friend.|, model.| to you.]", "Good morning, Sanctum.\nGood morning to all."), "Good morning! How can I help you?"),
    (Phrasings("[Good evening|good evening|A good evening][|!|, friend.|, model.| to you.]", "Good evening, Sanctum.\nGood evening to all."), "Good evening! How can I help you?"),
    (Phrasings("[Good afternoon|good afternoon|A good afternoon][|!|, friend.|, model.| to you.]", "Good afternoon, Sanctum.\nGood afternoon to all."), "Good afternoon! How can I help you?"),
    (Phrasings("[Good night|good night|Sleep well|A good night|Night night][|!|, friend.|, model.| to you.]", "Good night, Sanctum.\nSleep well and good night."), "Good night!"),
    (
        Phrasings(
            """\
[|||Hello, |Hi, |Hi! |Hello! |Good day, |So, ][how are you|How are you|how are you doing|How do you do|how do you feel|How is it going|How's it going|How are things|how have you been|Are you okay|Are you well|Is everything okay|How is life|How was your day|How is your day][?|?|| today?| now?| my friend?]""",
            "How are you feeling?\nHey, how are you?\nHow are you doing today?",
        ),
        "I am fine, thank you. How can I help you?",
    ),
    (
        Phrasings(
            """\
[Thanks|thanks|Thank you|thank you|Many thanks|Cheers|Thx|Thanks again|Thank you again|Thanks a bunch|Thanks a million|Thanks for that|Thank you for that|Thanks for your help|Thank you for your help|Thank you kindly|Much appreciated|I appreciate it][|!|.|, friend.|!!|, model.]
[Great|Perfect|Good|Cool|Nice|Super|Wonderful|Okay|Alright|Yes|Very good|Excellent][, | ][thanks|thank you|many thanks|thanks a lot][.|!|]
[That was helpful|That helps|This helped me|That was very kind|You helped me a lot|You are very helpful|That is very nice of you][.|!|, thanks.|. Thank you.|, thank you!]
[Thank you very much|Thanks very much|Thanks so much|Thanks a lot][, friend.|, that helps.| indeed.|, really.]""",
            "Thank you so much!\nThanks, you are great.\nThank you, Sanctum.\nOk, thanks.",
        ),
        "You are welcome!",
    ),
    (
        Phrasings(
            """\
[Bye|bye|Goodbye|goodbye|Farewell|Ciao|So long|See you|See you soon|See you tomorrow|Bye for now|Talk to you later|Talk later|Until next time|Have a nice day|Have a good day|Take care][|!|.|, friend.|, model.]
[I have to go|I must leave|I need to go|I am leaving|That is all for today|We are done][, bye.|. Goodbye.|, see you.|. Bye!|, goodbye!]
[see you later|Bye, see you later|Well, goodbye|Okay, bye|Ok, goodbye|Thanks, bye|Thank you, goodbye][|.|!]""",
            "Bye bye\nGoodbye, Sanctum.\nSee you next time!",
        ),
        "Goodbye!",
    ),
    (
        Phrasings(
            """\
[Who are you|who are you|What are you|what are you|What is your name|what is your name|What's your name|Who is this|What should I call you|What are you called|How are you called|Who am I speaking to|Who am I talking to|Who am I chatting with|Do you have a name|What do people call you|Are you a bot|Are you a robot|Are you a language model|Are you an AI|Are you a machine|Are you a computer|Are you a program|Are you a chatbot][?|?|| exactly?| really?| then?]
[Which|What] [model|AI|assistant|bot|language model|system|program|AI model] [are you|am I talking to|am I speaking with|is this|answers me|am I using|do I talk to][?|]
[Tell me about|Tell me something about|Say something about|Please describe|Describe|Introduce|Please introduce|Could you introduce] yourself[.||, please.]
[Tell me|Say|Please tell me|Can you tell me|Could you tell me|May I know|I want to know] [who you are|what you are|what you are called|which model you are|what model you are|what your name is|your own name][.|?|]
[What kind|What sort|What type] of [AI|bot|assistant|program|thing|machine|system] are you?
[Are you Sanctum|Are you the Sanctum model|Are you the built-in model|Are you a tiny model|Are you a small model|Do you belong to Sanctum]?
[And you? Who are you?|Hello, who are you?|Hi, what are you?|Hi, who is this?|Hello, what is your name?|And what is your name?|Your name?|Your name, please.]""",
            "Tell me your name.\nWhat kind of model are you?\nWho am I talking with?\nCan you introduce yourself?\nWhich language model is this?",
        ),
        _IDENTITY,
    ),
    (
        Phrasings(
            """\
Are you [ChatGPT|GPT-4|GPT|Claude|Gemini|Qwen|Mistral|Siri|Alexa|Bard|Copilot|DeepSeek|Grok|a human|human|a person|a man|a woman|a real human|an actual person|a living being|a large model|a large language model|a huge model|made by OpenAI|from Google|a human being|a big language model|a famous model|alive]?
[Is this|Am I talking to|Am I speaking to|Is it] [ChatGPT|GPT-4|Claude|Gemini|Qwen|Siri|a human|a person|a real person|a human being|a large model][?|]
You are [ChatGPT|Claude|Gemini|a human|a large model], [right|aren't you|correct|yes]?""",
            "Are you Llama?\nAre you a real person?\nAre you a big model?",
        ),
        "No. " + _IDENTITY,
    ),
    (
        Phrasings(
            """\
[What can you do|what can you do|What do you know|How can you help me|What are you good at|What are your skills|What can you help me with|What are you able to do|What do you know about|How can you help|What could you do for me|What can you do for me|What else can you do|What are your talents|What are your capabilities][?|?||, please?| exactly?]
[Help|help|Help me|Please help|I need help|Can you help me|Could you help me|I need some help][|!|.|?]
What can I ask you[?| about?| for?]
[Tell me|List|Show me|Name|Describe|Please list|Can you list|Can you tell me] [what you can do|your abilities|what you know|your capabilities|the things you can do|what you are able to do|what I can ask|what you are good at|your features][.||?]
[What|Which] [questions|tasks|kinds of questions|sort of questions|topics] can [you answer|I ask|you do|I give you|you handle|you solve]?
[Which skills|What skills|Which abilities|What features|Which functions] do you have?
[What is|What's] your [purpose|function|use|job here|task]?""",
            "What are your abilities?\nWhat can I ask?\nTell me your skills.\nWhat things can you do?",
        ),
        _ABILITIES,
    ),
    (
        Phrasings(
            """\
[Ok|Okay|ok|okay|I see|Got it|Cool|Nice|nice|Great|Good|Very good|Well done|Awesome|Yes|No|yes|no|Sure|Fine|Alright|All right|Right|Correct|That is correct|That's right|Exactly|Perfect|Excellent|Wonderful|Interesting|Understood|Amazing|Super|Wow|Not bad|True][|.|!|]
[Good|Nice|Great|Excellent|Wonderful|Good good|Very nice] [work|answer|one|reply|result][|!|.]
[Good job|good job|Great job|Nice job][|, model.|, friend!]""",
            "Very nice!\nOkay then.\nCool, good.\nA good job!",
        ),
        "All right. What else can I do for you?",
    ),
]


def talk(rng: random.Random, split: str, _: Memory) -> Turn:
    asked, answer = rng.choice(_TALK)
    return Turn("talk", asked.pick(rng, split), answer)
