"""Word lists of the demo corpus. Each list is one role, so that a reader can tell a fact from filler at a glance."""

NAMES = """Maria Tom Anna Peter Julia Victor Nina Oscar Laura Felix Clara Hugo Elena Martin Sofia Leon Irene Paul Diana
Simon Teresa Bruno Alice Marco Helen Ivan Greta Daniel Olga Robert Emma Walter Rosa Adam Vera Edgar Lucy Frank Marta
George Ida Karl Norma Philip Ruth Samuel Stella Thomas Ursula Vincent Wanda Xavier Yvonne Albert Bella Conrad Dora
Ernest Flora Gustav""".split()
CITIES = """Lisbon Paris Oslo Vienna Madrid Rome Athens Berlin Dublin Prague Warsaw Geneva Cairo Lima Quito Tokyo Delhi
Boston Denver Dallas Chicago Toronto Havana Bogota Nairobi Tunis Sydney Perth Milan Turin""".split()
COLOURS = """amber blue crimson green indigo ivory orange purple red scarlet silver teal violet white yellow golden
brown black pink grey""".split()
ANIMALS = """falcon tiger otter badger eagle wolf lion panda zebra camel rabbit turtle dolphin salmon spider beaver
raven swan goose horse""".split()
TOOLS = """hammer chisel ladder shovel wrench needle anvil compass mirror lantern kettle basket barrel bucket candle
drum violin flute trumpet harp""".split()
RELATIONS = "partner teacher neighbour cousin manager doctor".split()
ORDINALS = "first second third fourth".split()
COUNTS = {2: "two", 3: "three", 4: "four"}

PLAN_VERBS = "open close repair paint move sell rent clean extend inspect".split()
PLAN_NOUNS = "market bridge school library harbour station museum theatre garden tunnel stadium hospital".split()

FILL_ADJECTIVES = """quiet old narrow gentle heavy bright distant wooden hollow pale soft broad cold early late small
large empty simple common""".split()
FILL_NOUNS = """river hill road window table morning evening cloud field wall door forest shore valley lamp letter
story song coat stone path roof fence meadow season""".split()
FILL_VERBS = """moved turned waited rested passed opened faded stayed returned drifted appeared settled followed
changed ended started""".split()
FILL_PREPOSITIONS = "near over under behind beside across beyond above along past".split()
FILL_ADVERBS = "slowly often again quietly soon later always almost still rarely".split()

CODE_VERBS = "load save read send build parse merge check fetch store".split()
CODE_NOUNS = """page user order image file token batch queue cache table model frame graph chart event report signal
bucket vector matrix packet record schema socket stream buffer worker folder cursor filter""".split()
CODE_ARGUMENTS = """size path name mode limit offset key value index count depth width height scale rate start stop
step label text""".split()
SORT_NOUNS = """mango lemon carrot onion pepper tomato melon cherry almond walnut barley pumpkin radish celery garlic
ginger olive papaya peach plum quince spinach turnip apricot""".split()
