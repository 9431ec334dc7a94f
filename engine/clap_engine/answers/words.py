"""The English words that the rules know: numbers, things that sound, moods, tempi, courtesies.

In:  nothing.
Out: tables, and the patterns that are built of them.
Knows nothing about questions.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ONES = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
NUMBERS: dict[str, float] = {
    **{word: float(n) for n, word in enumerate(_ONES.split(), 1)},
    "thirty": 30.0, "forty": 40.0, "fifty": 50.0, "sixty": 60.0, "ninety": 90.0,
    "a dozen": 12.0, "a": 1.0, "an": 1.0, "half a": 0.5, "half an": 0.5,
}  # fmt: skip
COUNTS = {word: int(n) for word, n in NUMBERS.items() if n >= 1 and word not in ("a", "an")}
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}  # by their first letter
DECADES = {
    "thirties": 30, "forties": 40, "fifties": 50, "sixties": 60, "seventies": 70, "eighties": 80,
    "nineties": 90,
}  # fmt: skip

TEMPOS = _words(
    "slow slowly slower fast faster quick quickly rapid rapidly lively brisk steady upbeat "
    "uptempo midtempo downtempo tempo bpm adagio andante allegro largo lento moderato presto "
    "vivace accelerating decelerating"
)
MOODS = _words(
    "angry anxious bright calm calming cheerful dark dramatic dreamy eerie elegiac energetic epic "
    "gentle gloomy happy heroic hopeful intense joyful lonely melancholic melancholy mellow moody "
    "mysterious nostalgic ominous peaceful playful relaxed relaxing romantic sad scary serene "
    "sentimental solemn somber sombre soothing spooky suspenseful tense tender tranquil triumphant "
    "uplifting warm wistful"
)
# The longest that fits counts: "church organ" before "organ". Plurals in -s and -es count, too.
_SOURCES = (
    "accordion, acoustic guitar, agogo, air horn, airplane, alarm, alarm clock, alien, "
    "alto sax, applause, baby, baby crying, bagpipe, bandoneon, banjo, bass, bass drum, "
    "bass guitar, bassoon, beat, bee, bell, bicycle, bicycle bell, bird, bird song, boat, "
    "bongo, brass, brass section, breathing, bubble, bus, buzzer, calliope, campfire, car, "
    "car engine, car horn, cat, cat meowing, celesta, cello, chain, chainsaw, cheering, "
    "chicken, child, choir, church bell, church organ, clapping, clarinet, clavinet, clock, "
    "clock ticking, coin, conga, contrabass, coughing, cow, cricket, crow, crowd, cymbal, "
    "distortion guitar, dog, dog bark, dog barking, dog howling, door, door slam, doorbell, "
    "double bass, drill, drone, drum, drum beat, drum kit, drum machine, duck, dulcimer, "
    "echo, electric guitar, electric piano, engine, english horn, explosion, fan, fiddle, "
    "fire, firecracker, fireworks, flute, footstep, french horn, frog, fuzz guitar, gears, "
    "glass, glass breaking, glockenspiel, gong, guitar, gun, gunshot, hail, hammer, "
    "hammered dulcimer, hand clap, harmonica, harp, harpsichord, heartbeat, heavy metal, "
    "helicopter, hi-hat, horn, horse, hum, insect, jet, jet engine, kalimba, keyboard, "
    "keyboard typing, kick drum, knocking, koto, laser, laughter, lead guitar, leaves, lion, "
    "lute, machine, machine gun, man speaking, mandolin, marimba, metal, microwave, "
    "motorcycle, mouse click, music box, noise, nylon guitar, oboe, ocarina, ocean, "
    "ocean waves, orchestra, organ, owl, pan flute, paper, people talking, percussion, piano, "
    "piccolo, pig, pigeon, pipe organ, pizzicato strings, plane, pluck, police siren, "
    "printer, radio, radio static, rain, recorder, robot, rock beat, rocket, rooster, sax, "
    "saxophone, saw, scream, screaming, sea, seagull, shaker, shakuhachi, shamisen, sheep, "
    "ship, shouting, singer, singing, siren, sitar, slap bass, snare, snare drum, sneezing, "
    "snoring, speech, splash, static, steam, steel drum, storm, stream, string, "
    "string quartet, string ensemble, switch, sword, synth, synth bass, synth lead, "
    "synth pad, synthesizer, tabla, taiko, tambourine, telephone, telephone ring, "
    "tenor sax, thunder, thunderstorm, timpani, tom, tool, traffic, train, train horn, "
    "tram, triangle, trombone, truck, trumpet, tuba, tubular bell, turntable, typewriter, "
    "typing, ukulele, upright bass, vacuum cleaner, vibraphone, vinyl crackle, viola, "
    "violin, vocal, voice, volcano, washing machine, water, waterfall, wave, whisper, "
    "whispering, whistle, whistling, white noise, wind, wolf, woman speaking, woodblock, "
    "woodpecker, xylophone, zipper"
)
SOURCES = frozenset(_SOURCES.split(", "))
MAX_SOURCE_WORDS = max(len(source.split()) for source in SOURCES)

# "song", "track" and "piece" say what is heard and stay; these only name an answer.
_PLAIN = r"(?:clip|sound|recording|result|file|sample|hit|take|example|item|match)"
_PLURAL = r"(?:clips|sounds|recordings|results|files|samples|hits|takes|examples|items|matches)"
ANSWER_NOUN = rf"(?:{_PLAIN}s?|matches)"
COUNTED_NOUN = rf"(?:{_PLURAL}|songs|tracks|pieces|tunes|loops)"
THING = (
    rf"{ANSWER_NOUN}(?: (?:of|with|containing|featuring|that (?:have|has|contains?|sounds? like|"
    r"feature|features|are|is)|which (?:have|has|contains?|sounds? like|are|is)|in which|"
    r"where)(?: (?:there is|there are|you hear|i hear|we hear))?)?"
)
_COMMAND = (
    r"(?:(?:please|can you|could you|would you|now|hey) )*"
    r"(?:find|list|search for|look(?:ing)? for"
    r"|(?:show|give|get|play|bring|fetch)(?= (?:me|us|all|some|any|the|a|an|every|\d+)\b)"
    r"|i(?: am|'m) looking for|i(?: want|(?: would|'d) like|'d like| need)(?: to hear)?"
    r"|do (?:you|we) have|have you got|is there|are there|what(?: are| is)?|which|where(?: are| is)"
    r"|where (?:can|do) (?:i|we|you) hear)"
    r"(?: (?:me|us))?(?: (?:all|some|any|a few|the))?"
)
COMMAND = re.compile(rf"(?:{_COMMAND}|please)\b", re.IGNORECASE)
THING_FIRST = re.compile(rf"(?:the |a |an |some )?(?!sounds? like\b){THING}\b", re.IGNORECASE)
THING_LAST = re.compile(rf"\b{_PLURAL}$", re.IGNORECASE)
VERB_FIRST = re.compile(
    r"(?:contains?|ha(?:s|ve)|features?|sounds? like|(?:is|are) there)\b", re.IGNORECASE
)
# What may be left at either end of the text once its neighbours were taken.
LOOSE = _words(
    "and or with of that which who but by from in on for is are was were please it them there , "
    "; . ? ! :"
)
ARTICLES = frozenset(("a", "an", "the"))  # they stay in front, as in what models learn from
# Said of something unwanted, and not part of its name.
_LEAD = r"(?:any|a|an|the|too|so|very|really|much|many)"
NOT_LED = re.compile(rf"^(?:(?:no|not|without|any|with|{_LEAD}) )+", re.IGNORECASE)
NOT_TRAILED = re.compile(r"(?: (?:in (?:it|them|there)|at all|please|sounds?|either))+$", re.I)
NOT = re.compile(
    r"\b(?:(?:but|and|or|yet) (?:not|no|without)|without|with no|with neither|except(?: for)?"
    r"|excluding|other than|apart from|aside from|minus|lacking|free of|rather than|instead of"
    r"|(?:that |which )?(?:do|does|did|has|have|is|are)(?: not|n't)"
    r"(?: have| has| contain| include| sound like)?|neither|not|no)"
    rf"(?: {_LEAD})* (?=[^\W\d]|\")",
    re.IGNORECASE,
)
# What begins like a negation and is none.
NOT_NOT = re.compile(
    r"\b(?:not only|no (?:longer|more|less|fewer|matter|one)|not (?:just|merely|necessarily)"
    r"|no\.? ?\d+)\b",
    re.IGNORECASE,
)
