"""Open vocabulary: the words that fill questions, and the rule that keeps some of them out of training.

Names, colours, cities and so on are *values* that the model copies rather than knows. A tenth of all values (and all
made-up strings) is held out: `is_held_out` decides by a checksum, so the split needs no list and never changes.
"""

import random
import zlib

TRAIN, HELD_OUT = "train", "held_out"


def is_held_out(key: str) -> bool:
    """True for the tenth of all keys that training never shows."""
    return zlib.crc32(key.lower().encode()) % 10 == 0


def pick(rng: random.Random, pool: list[str], split: str) -> str:
    """A member of `pool` from the wanted side of the split."""
    while True:
        word = rng.choice(pool)
        if is_held_out(word) == (split == HELD_OUT):
            return word


NAMES = """
Aaron Abigail Adam Adele Agnes Ahmed Aisha Alan Albert Alex Alexander Alfred Alice Amanda Amber Amelia Amir Amy Ana
Andre Andrea Andrew Angela Anita Anna Anne Anton Antonio April Arjun Arthur Ashley Astrid Aurora Ava Barbara Beatrice
Ben Benjamin Bernard Beth Betty Bianca Bill Bjorn Bob Boris Brandon Brenda Brian Bruce Bruno Caleb Camila Carl Carla
Carlos Carmen Carol Caroline Catherine Cecilia Charles Charlie Charlotte Chloe Chris Christian Christine Claire Clara
Claudia Colin Connor Craig Cynthia Daisy Daniel Daria David Dawn Dean Deborah Denis Diana Diego Dmitri Dominic Donald
Donna Dora Doris Dorothy Douglas Dylan Edith Edward Elena Eli Elias Elizabeth Ella Ellen Elliot Elsa Emil Emily Emma
Eric Erik Esther Ethan Eva Evelyn Fatima Felix Fiona Florence Frances Frank Fred Frida Gabriel Gareth Gary Gemma
George Gina Giulia Gloria Grace Graham Greta Guido Gustav Hannah Hans Harold Harriet Harry Hassan Heather Heidi Helen
Helga Henry Hiroshi Holly Hugo Ian Ibrahim Igor Ingrid Irene Iris Isaac Isabel Ivan Ivy Jack Jacob Jade James Jane
Janet Jasmine Jason Jean Jennifer Jenny Jeremy Jessica Joan Joe Johan John Jonas Jorge Joseph Joshua Juan Judith Julia
Julian June Karen Karl Kate Katie Keiko Keith Kelly Ken Kevin Khalid Kim Kofi Kurt Kyle Lara Lars Laura Lauren Leah Leo
Leon Leonard Leticia Lily Linda Lisa Louis Louise Lucas Lucia Lucy Luis Luke Lydia Magnus Malik Marco Margaret Maria
Marie Mario Mark Martha Martin Mary Matthew Maya Megan Mei Michael Miguel Mila Mohamed Molly Monica Nadia Nancy Naomi
Natalie Nathan Neil Nicholas Nicole Nina Noah Nora Oliver Olivia Omar Oscar Otto Pablo Pamela Patricia Paul Paula Pedro
Penny Peter Petra Philip Pierre Priya Quentin Rachel Rafael Rajesh Ralph Raymond Rebecca Richard Rita Robert Robin
Roger Roman Rosa Rose Ruth Ryan Sabrina Sally Sam Samuel Sandra Sara Sasha Scott Sean Sergei Sharon Silvia Simon Sofia
Sonia Sophie Stefan Stella Stephen Steve Sunil Susan Sven Tamara Tanya Tara Teresa Thomas Tim Tina Tom Tracy Trevor
Ursula Valentina Vanessa Vera Victor Victoria Vikram Vincent Violet Viktor Wanda Walter Wei Wendy William Winston Xavier
Yara Yasmin Yuki Yusuf Yvonne Zara Zoe Zoran
""".split()

COLOURS = """
red blue green yellow orange purple pink brown black white grey teal turquoise navy maroon crimson scarlet violet indigo
magenta cyan beige ivory lavender lilac mauve olive lime emerald jade gold silver bronze copper coral salmon peach amber
burgundy charcoal mint khaki plum ruby sapphire fuchsia cream tan
""".split()

FOODS = """
pizza pasta sushi curry soup bread cheese rice noodles salad tacos burritos pancakes waffles chocolate honey porridge
lasagna risotto paella ramen dumplings falafel hummus kebab goulash stew toast omelette bacon chicken salmon tuna beans
lentils potatoes carrots broccoli spinach mushrooms apples bananas cherries strawberries mangoes grapes oranges pears
yogurt cake cookies muffins doughnuts popcorn peanuts almonds olives pickles tofu
""".split()

ANIMALS = """
dog cat horse cow pig sheep goat rabbit mouse hamster lion tiger bear wolf fox deer elephant giraffe zebra monkey gorilla
panda koala kangaroo penguin owl eagle parrot duck goose swan chicken frog toad snake lizard turtle crocodile shark whale
dolphin octopus crab lobster salmon otter beaver squirrel hedgehog badger camel llama donkey bat spider ant bee butterfly
""".split()

JOBS = """
baker teacher doctor nurse farmer pilot sailor painter plumber carpenter lawyer judge chef waiter barber tailor butcher
librarian gardener engineer programmer architect journalist writer editor actor singer dancer drummer soldier dentist
vet mechanic electrician welder miner fisherman postman cashier banker accountant scientist chemist astronomer translator
photographer designer florist jeweller optician pharmacist surgeon
""".split()

SPORTS = """
football tennis golf rugby cricket hockey baseball basketball volleyball swimming running cycling rowing sailing skiing
boxing fencing judo karate archery climbing surfing badminton squash bowling darts chess gymnastics skating handball
""".split()

CITIES = """
Paris London Berlin Madrid Rome Lisbon Vienna Prague Oslo Dublin Athens Cairo Nairobi Lagos Tokyo Osaka Kyoto Seoul
Beijing Shanghai Mumbai Delhi Chennai Jakarta Manila Sydney Melbourne Perth Auckland Toronto Montreal Vancouver Chicago
Boston Denver Seattle Houston Dallas Austin Miami Atlanta Portland Phoenix Detroit Lima Bogota Quito Santiago Havana
Munich Hamburg Cologne Frankfurt Stuttgart Dresden Leipzig Zurich Geneva Basel Milan Turin Naples Venice Florence
Barcelona Valencia Seville Bilbao Porto Lyon Marseille Nice Bordeaux Toulouse Lille Brussels Antwerp Ghent Amsterdam
Rotterdam Utrecht Manchester Liverpool Leeds Bristol Glasgow Edinburgh Cardiff Belfast Oxford Cambridge York Bath
Stockholm Gothenburg Malmo Helsinki Tampere Turku Bergen Trondheim Aarhus Warsaw Krakow Gdansk Budapest Bucharest Sofia
""".split()

NOUNS = """
table chair window door house garden river mountain forest ocean island bridge road car train plane ship bicycle engine
wheel hammer nail ladder bucket basket bottle glass plate spoon fork knife kettle oven fridge lamp candle mirror clock
watch camera radio phone computer keyboard screen printer pencil paper book letter stamp map flag coin wallet purse bag
shirt jacket coat hat glove scarf shoe boot sock button needle thread carpet curtain pillow blanket bed sofa desk shelf
stone sand mud snow rain cloud storm thunder lightning rainbow sun moon star planet comet desert valley hill lake pond
beach wave wind fire smoke ash coal oil gas metal iron steel silver wood leaf branch root seed flower grass tree bush
apple lemon onion garlic pepper salt sugar butter milk coffee tea water juice wine sandwich pie hospital school church
castle tower museum library theatre station airport harbour market shop bakery factory farm barn village city country
king queen prince soldier pirate wizard dragon ghost robot rocket satellite telescope microscope magnet battery piano
guitar violin drum trumpet song dance poem story picture statue puzzle game ball kite doll balloon ticket gift party
""".split()

VERBS = """
run walk jump climb swim fly sing dance read write draw paint cook bake eat drink sleep wake think speak listen watch
look find keep hold carry throw catch kick hit pull push open close break fix build plant grow cut wash clean sweep drive
ride travel visit meet help teach learn study work play rest wait hurry follow lead win lose buy sell pay count measure
""".split()

ADJECTIVES = """
red blue small large quick slow happy sad quiet loud warm cold bright dark soft hard sweet sour fresh old new young strong
gentle brave clever funny strange simple heavy light clean dusty wooden golden silver broken hidden empty round flat tall
""".split()

ADVERBS = "quickly slowly quietly loudly gently often never today tomorrow again together alone here there".split()

# Characters outside ASCII: copied byte by byte, so that multi-byte text passes through the model unharmed.
EXOTIC = list("éèêëàâäáãåçñöôóòõøüûúùíìîïßæœłşčžšřěýÉÖÜÄÅÑ") + list("αβγδλπωжшяйд") + list("你好世界日本語中文") + list("🙂🚀🌍🎉🔥❤⭐→€£°½×")

_ONSETS = "b br c ch cl d dr f fl g gl gr h j k kl l m n p pl qu r s sh sk sl st t th tr v w y z".split()
_VOWELS = "a e i o u a e i o u ai ea ee oo ou ia".split()
_CODAS = ["", "", "", "", *"n r l s t m d k nd nt rk st ll ss".split()]
_PLAIN_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def invented_word(rng: random.Random, syllables: int | None = None) -> str:
    """A pronounceable word that is (mostly) in no dictionary."""
    count = syllables or rng.choice([1, 2, 2, 2, 3])
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))


def invented_name(rng: random.Random) -> str:
    return invented_word(rng, rng.choice([1, 2, 2, 2, 3])).capitalize()


def random_letters(rng: random.Random, low: int = 2, high: int = 10) -> str:
    return "".join(rng.choice(_PLAIN_LETTERS) for _ in range(rng.randint(low, high)))


ALL_WORDS = sorted(
    {
        word.lower()
        for pool in (NAMES, COLOURS, FOODS, ANIMALS, JOBS, SPORTS, CITIES, NOUNS, VERBS, ADJECTIVES, ADVERBS)
        for word in pool
    }
)


def any_string(rng: random.Random, split: str) -> str:
    """Something to copy, spell or reverse: a word, an invented word, letters, digits or a mixture."""
    while True:
        kind = rng.random()
        if kind < 0.30:
            text = rng.choice(ALL_WORDS)
        elif kind < 0.50:
            text = invented_word(rng)
        elif kind < 0.75:
            text = random_letters(rng)
        elif kind < 0.90:
            text = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 9)))
        else:
            text = "".join(rng.choice(_PLAIN_LETTERS + "0123456789") for _ in range(rng.randint(3, 8)))
        style = rng.random()
        if style < 0.12:
            text = text.capitalize()
        elif style < 0.22:
            text = text.upper()
        if 2 <= len(text) <= 14 and is_held_out(text) == (split == HELD_OUT):
            return text
