"""The closed facts: what the model is meant to know by heart.

Every table maps a question's subject to its one answer, so that an exact match is a fair test.
"""

CAPITALS = dict(
    line.split(" = ")
    for line in """\
Afghanistan = Kabul
Albania = Tirana
Algeria = Algiers
Angola = Luanda
Argentina = Buenos Aires
Armenia = Yerevan
Australia = Canberra
Austria = Vienna
Azerbaijan = Baku
Bahrain = Manama
Bangladesh = Dhaka
Belarus = Minsk
Belgium = Brussels
Bhutan = Thimphu
Bosnia and Herzegovina = Sarajevo
Botswana = Gaborone
Brazil = Brasilia
Bulgaria = Sofia
Cambodia = Phnom Penh
Cameroon = Yaounde
Canada = Ottawa
Chad = N'Djamena
Chile = Santiago
China = Beijing
Colombia = Bogota
Costa Rica = San Jose
Croatia = Zagreb
Cuba = Havana
Cyprus = Nicosia
Denmark = Copenhagen
Ecuador = Quito
Egypt = Cairo
Estonia = Tallinn
Ethiopia = Addis Ababa
Fiji = Suva
Finland = Helsinki
France = Paris
Georgia = Tbilisi
Germany = Berlin
Ghana = Accra
Greece = Athens
Guatemala = Guatemala City
Haiti = Port-au-Prince
Honduras = Tegucigalpa
Hungary = Budapest
Iceland = Reykjavik
India = New Delhi
Indonesia = Jakarta
Iran = Tehran
Iraq = Baghdad
Ireland = Dublin
Italy = Rome
Jamaica = Kingston
Japan = Tokyo
Jordan = Amman
Kazakhstan = Astana
Kenya = Nairobi
Kuwait = Kuwait City
Laos = Vientiane
Latvia = Riga
Lebanon = Beirut
Libya = Tripoli
Lithuania = Vilnius
Luxembourg = Luxembourg
Madagascar = Antananarivo
Malaysia = Kuala Lumpur
Mali = Bamako
Malta = Valletta
Mexico = Mexico City
Moldova = Chisinau
Mongolia = Ulaanbaatar
Montenegro = Podgorica
Morocco = Rabat
Mozambique = Maputo
Namibia = Windhoek
Nepal = Kathmandu
New Zealand = Wellington
Nicaragua = Managua
Niger = Niamey
Nigeria = Abuja
North Korea = Pyongyang
North Macedonia = Skopje
Norway = Oslo
Oman = Muscat
Pakistan = Islamabad
Panama = Panama City
Paraguay = Asuncion
Peru = Lima
Philippines = Manila
Poland = Warsaw
Portugal = Lisbon
Qatar = Doha
Romania = Bucharest
Russia = Moscow
Rwanda = Kigali
Saudi Arabia = Riyadh
Senegal = Dakar
Serbia = Belgrade
Singapore = Singapore
Slovakia = Bratislava
Slovenia = Ljubljana
Somalia = Mogadishu
South Korea = Seoul
Spain = Madrid
Sudan = Khartoum
Sweden = Stockholm
Switzerland = Bern
Syria = Damascus
Taiwan = Taipei
Thailand = Bangkok
Tunisia = Tunis
Turkey = Ankara
Uganda = Kampala
Ukraine = Kyiv
United Arab Emirates = Abu Dhabi
United Kingdom = London
United States = Washington, D.C.
Uruguay = Montevideo
Uzbekistan = Tashkent
Venezuela = Caracas
Vietnam = Hanoi
Yemen = Sanaa
Zambia = Lusaka
Zimbabwe = Harare
""".splitlines()
)

# Both directions are asked, so a word stands in one pair only.
_OPPOSITE_PAIRS = """
hot cold, big small, tall short, fast slow, up down, left right, day night, happy sad, good bad, old young,
light dark, hard soft, high low, open closed, rich poor, strong weak, wet dry, full empty, early late, near far,
inside outside, loud quiet, clean dirty, begin end, love hate, win lose, buy sell, give take, push pull, always never,
true false, alive dead, black white, thick thin, wide narrow, deep shallow, sharp blunt,
rough smooth, sweet sour, easy difficult, cheap expensive, safe dangerous, brave cowardly, kind cruel, polite rude,
lazy hardworking, awake asleep, above below, before after, first last, more less, many few, everything nothing,
everyone nobody, everywhere nowhere, arrive depart, accept refuse, allow forbid, ancient modern, attack defend,
north south, east west, summer winter, morning evening, friend enemy, laugh cry, remember forget, question answer,
success failure, victory defeat, war peace, life death, birth burial, heaven hell, king queen, man woman, boy girl,
father mother, brother sister, son daughter, husband wife, uncle aunt, male female, increase decrease, expand contract,
create destroy, build demolish, lock unlock, tie untie, wrap unwrap, appear disappear, agree disagree, like dislike,
possible impossible, visible invisible, legal illegal, regular irregular, honest dishonest, patient impatient,
perfect imperfect, known unknown, usual unusual, fair unfair, lucky unlucky, healthy sick, fresh stale, raw cooked,
tight loose, straight crooked, guilty innocent, public private, simple complex, single married, similar different,
tame wild, generous stingy, humble proud, shy confident, calm anxious, wise foolish, beautiful ugly, bright dim,
frozen melted, import export, include exclude, optimist pessimist, maximum minimum, major minor, positive negative,
plus minus, odd even, forward backward, entrance exit, front back, top bottom, ceiling floor, sunrise sunset,
past future, present absent, temporary permanent, urban rural, vertical horizontal, voluntary compulsory, vacant occupied,
teacher student, employer employee, predator prey, host guest, profit loss, lend borrow, teach learn, send receive,
find misplace, float sink, freeze boil, rise fall, sit stand, start stop, shout whisper, save spend, praise criticize,
"""
OPPOSITES: dict[str, str] = {}
for _pair in _OPPOSITE_PAIRS.replace("\n", " ").split(","):
    if _pair.strip():
        _one, _other = _pair.split()
        OPPOSITES[_one] = _other
        OPPOSITES[_other] = _one
# Words whose natural opposite already stands in a pair of its own.
OPPOSITES |= {"heavy": "light", "long": "short", "large": "small", "wrong": "right", "huge": "tiny", "tiny": "huge",
              "finish": "start", "lower": "raise", "raise": "lower", "hers": "his", "asleep": "awake"}

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MONTH_LENGTHS = dict(zip(MONTHS, [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], strict=True))
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
