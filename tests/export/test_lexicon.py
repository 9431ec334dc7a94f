"""The words of the corpus: training and evaluation share no content word."""

from dataclasses import replace

import pytest

from clap_engine import demo
from clap_export.corpus import captions, keep, lot, stems
from clap_export.corpus import lexicon as words
from clap_export.corpus.classes import KIND_OF
from clap_export.corpus.lexicon import Lexicon

pytestmark = pytest.mark.export

MIN_VOCABULARY = 13_000
MIN_PHRASES = 25_000


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return words.load()


def with_unseen(lexicon: Lexicon, name: str, *phrases: str) -> Lexicon:
    return replace(lexicon, unseen={**lexicon.unseen, name: phrases})


def with_known(lexicon: Lexicon, name: str, *phrases: str) -> Lexicon:
    return replace(lexicon, known={**lexicon.known, name: phrases})


def test_the_lexicon_has_no_problems(lexicon: Lexicon) -> None:
    assert words.problems(lexicon) == []


def test_the_vocabulary_is_wide(lexicon: Lexicon) -> None:
    assert len(words.vocabulary(lexicon)) >= MIN_VOCABULARY


def test_training_has_many_phrases(lexicon: Lexicon) -> None:
    read = [phrase for t in (lexicon.known, lexicon.wide) for ps in t.values() for phrase in ps]
    assert len(read) >= MIN_PHRASES


def test_every_class_has_words(lexicon: Lexicon) -> None:
    assert set(lexicon.known) == set(lexicon.unseen) == set(KIND_OF)


def test_a_third_of_the_phrasings_is_held_out_and_never_the_name(lexicon: Lexicon) -> None:
    plain = {name: table["plain"] for name, table in words.training_phrases().items()}
    for name, held in lexicon.held.items():
        known = lexicon.known[name]
        assert len(held) == (len(known) + len(held)) // words.HELD_SHARE
        assert not set(held) & {*known, *lexicon.wide[name]}
        assert known[0] == plain[name][0]


def test_what_is_added_later_moves_few_phrasings() -> None:
    before = tuple(f"phrase {i}" for i in range(30))
    one = set(words.held_phrases("owl", before))
    other = set(words.held_phrases("owl", (*before, "one more")))
    assert len(one ^ other) <= 2
    assert before[0] not in one


def test_a_planted_collision_is_found_in_another_inflection(lexicon: Lexicon) -> None:
    # "barking" is known of dog_bark; an unseen phrase of any class may not hold "barks".
    planted = with_unseen(lexicon, "owl", "zyzzyva", "it barks")
    (problem,) = words.problems(planted)
    assert problem.startswith("owl:")
    assert "'bark'" in problem


def test_an_unseen_phrase_may_not_use_a_word_of_the_templates(lexicon: Lexicon) -> None:
    (problem,) = words.problems(with_unseen(lexicon, "owl", "zyzzyva", "muffled zyzzyva"))
    assert "training words" in problem


def test_words_that_a_caller_adds_count_as_training(lexicon: Lexicon) -> None:
    extra = lexicon.unseen["owl"][0]
    assert any("owl" in problem for problem in words.problems(lexicon, [extra]))


def test_a_wide_phrase_may_not_hold_an_unseen_word(lexicon: Lexicon) -> None:
    asked = lexicon.unseen["owl"][0]
    planted = replace(lexicon, wide={**lexicon.wide, "crow": (f"{asked} at noon",)})
    assert any(problem.startswith("owl:") for problem in words.problems(planted))


def test_names_are_no_dictionary_words() -> None:
    for phrase in ("bottesini", "paganini caprice", "mwah"):
        assert not words.is_dictionary(phrase)
    for phrase in ("tempest", "felt beaters on copper", "angry clouds"):
        assert words.is_dictionary(phrase)


def test_the_demo_s_unseen_words_are_unseen(lexicon: Lexicon) -> None:
    asked = [query.text for query in demo.QUERIES if query.kind == "unseen words"]
    assert asked
    seen = words.vocabulary(lexicon).keys() | set(
        stems.content_words(" ".join(words.attribute_words()))
    )
    for text in asked:
        assert seen.isdisjoint(stems.content_words(text)), text


def test_shape_faults_are_found(lexicon: Lexicon) -> None:
    few = with_known(lexicon, "owl", *lexicon.known["owl"][: words.MIN_KNOWN - 1])
    assert any(f"at least {words.MIN_KNOWN}" in problem for problem in words.problems(few))
    assert any("at least 1" in p for p in words.problems(with_unseen(lexicon, "owl")))
    twice = with_known(lexicon, "owl", *lexicon.known["owl"], lexicon.known["crow"][0])
    assert any("is also in" in problem for problem in words.problems(twice))
    strange = with_known(lexicon, "unicorn", *lexicon.known["owl"])
    assert any("unknown class" in problem for problem in words.problems(strange))
    gone = replace(lexicon, known={k: v for k, v in lexicon.known.items() if k != "owl"})
    assert "owl: no known phrases" in words.problems(gone)
    generic = with_unseen(lexicon, "owl", "zyzzyva", "the sound of it")
    assert any("no content word" in problem for problem in words.problems(generic))


PLAIN = {
    "dog": ("dog", "bark", "barking hound", "woof", "puppy"),
    "wolf": ("wolf", "hound of the forest", "howl", "moon howling", "pack"),
}
COINED = {"dog": ("lassie",), "wolf": ("fenrir",)}


def test_what_is_drawn_leaves_training_with_all_its_words() -> None:
    kept = lot.draw(PLAIN, COINED, fixed=["deep"], least=2)
    for name, phrases in PLAIN.items():
        assert kept.known[name][0] == phrases[0]  # a plain name is never drawn
        assert len(kept.known[name]) >= 2
        assert kept.unseen[name]
    seen = {word for table in kept.known.values() for p in table for word in stems.content_words(p)}
    asked = {
        word for table in kept.unseen.values() for p in table for word in stems.content_words(p)
    }
    assert not seen & asked


def test_the_lot_repeats_with_its_seed_and_changes_with_it() -> None:
    one, again, other = (
        lot.draw(PLAIN, COINED, fixed=[], least=1, seed=seed) for seed in (1, 1, 5)
    )
    assert one == again
    assert one != other


def test_coined_phrases_are_drawn_where_no_plain_one_can_be_spared() -> None:
    plain = {"dog": ("dog", "dog barking", "barking"), "cat": ("cat", "tabby cat", "purr of a cat")}
    coined = {"dog": ("lassie",), "cat": ("garfield",)}
    kept = lot.draw(plain, coined, fixed=["barking"], least=3)
    assert kept.unseen["dog"] == ("lassie",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bark", "barking"), ("bark", "barks"), ("hum", "humming"), ("hiss", "hissing"),
        ("whistle", "whistling"), ("pipe", "piping"), ("cry", "cries"), ("cry", "crying"),
        ("roll", "rolled"), ("splash", "splashes"), ("waltz", "waltzes"), ("echo", "echoes"),
        ("bow", "bowed"), ("breeze", "breezes"),
    ],
)  # fmt: skip
def test_inflections_meet_in_one_stem(one: str, other: str) -> None:
    assert stems.stem(one) == stems.stem(other)


@pytest.mark.parametrize(("one", "other"), [("pip", "pipe"), ("sing", "s"), ("tub", "tube")])
def test_different_words_keep_apart(one: str, other: str) -> None:
    assert stems.stem(one) != stems.stem(other)


def test_content_words_leave_out_carriers_and_lone_letters() -> None:
    assert stems.content_words("The sound of Kenny G's bells") == ("kenny", "bell")
    assert stems.content_words("the sounds", generic=[]) == ("the", "sound")


def test_no_word_of_the_caption_templates_can_be_drawn() -> None:
    forms = [f for t in captions.ATTRIBUTE_FORMS.values() for fs in t.values() for f in fs]
    forms += [*captions.CARRIERS, *(f for fs in captions.CARRIERS_BY_KIND.values() for f in fs)]
    forms += [*captions.USES, *(f for fs in captions.PAIR_FORMS.values() for f in fs)]
    used = {word for form in forms for word in stems.content_words(form.format(p="", q=""))}
    fixed = {word for text in words.attribute_words() for word in stems.content_words(text)}
    assert used <= fixed


def test_names_of_programs_and_families_keep_clear_of_the_questions(lexicon: Lexicon) -> None:
    names = [n for t in captions.instrument_names().values() for ns in t.values() for n in ns]
    assert len(captions.instrument_names()["programs"]) == 120
    assert words.problems(lexicon, names) == []


def test_a_new_class_draws_questions_and_moves_no_other() -> None:
    tables = {
        name: {"plain": PLAIN[name], "wide": COINED[name]} for name in ("dog", "wolf")
    } | {
        "cow": {
            "plain": ("cow", *(f"{word} cow" for word in "abcdefghijklmnop"), "heifer", "bovine"),
            "wide": ("udder", "cow and puppy"),
        }
    }  # fmt: skip
    kept = {name: {"report": [PLAIN[name][-1]], "development": []} for name in PLAIN}
    (new,) = keep.missing(tables, kept).items()
    assert new[0] == "cow"
    drawn = [phrase for phrases in new[1].values() for phrase in phrases]
    assert sorted(drawn) == ["bovine", "heifer", "udder"]
    assert keep.missing(tables, {**kept, "cow": new[1]}) == {}
