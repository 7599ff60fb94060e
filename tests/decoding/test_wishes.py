"""Beginnings, phrases and bans against search by brute force on a toy."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.decoding.batch import decode
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits, LengthPenalty
from seq2seq.decoding.sampling import Sampling
from seq2seq.decoding.stepper import Hypothesis, Lexicon, Search, Wishes
from seq2seq.errors import ConfigProblem
from seq2seq.symbols import EOS, PAD
from seq2seq.wording import _reading_machine
from tests.decoding.test_beam import VOCABULARY, WORDS, Toy, all_translations

SOURCES = [[4, 5, EOS], [6, EOS], [5, 4, 6, EOS]]
SPELLING = ["", "", "", "", "\u2581a", "b", "\u2581b"]
"""Of the toy's tokens: the word b can be said in two ways, and token 5 goes on with a word."""
ENDS_WORD = torch.tensor([False, False, True, False, True, False, True])
LIMITS = LengthLimits(0, 4)


def find(search: Search, model: Toy, wishes: list[Wishes], places: int = 8) -> list[list[Hypothesis]]:
    found = dict(decode(search, model, SOURCES, places, wishes=wishes))
    return [found[i] for i in range(len(SOURCES))]


def says(tokens: tuple[int, ...], phrase: tuple[int, ...]) -> bool:
    """By brute force: the phrase stands there, and what follows ends its last word."""
    n = len(phrase)
    return any(
        tokens[i : i + n] == phrase and (i + n == len(tokens) or bool(ENDS_WORD[tokens[i + n]]))
        for i in range(len(tokens) - n + 1)
    )


phrase = st.lists(st.sampled_from(list(WORDS)), min_size=1, max_size=2).map(tuple)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), prefixes=st.lists(st.lists(st.sampled_from(list(WORDS)), max_size=3), min_size=3, max_size=3))
def test_with_a_beginning_it_is_exhaustive_search_among_those_that_begin_so(seed: int, prefixes: list[list[int]]) -> None:
    model, penalty = Toy(seed), LengthPenalty("average", 1.0)
    search = BeamSearch(120, 2, penalty, LIMITS)
    for source, prefix, found in zip(SOURCES, prefixes, find(search, model, [Wishes(tuple(p)) for p in prefixes]), strict=True):
        every = all_translations(model, source, penalty, longest=4)
        expected = [(score, tokens) for score, tokens in every if tokens[: len(prefix)] == tuple(prefix)][:2]
        assert [tuple(h.tokens) for h in found] == [tokens for _, tokens in expected]
        assert [h.score for h in found] == pytest.approx([score for score, _ in expected], abs=1e-4)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), wanted=st.lists(st.lists(phrase, max_size=2), min_size=3, max_size=3))
def test_with_phrases_it_is_exhaustive_search_among_those_that_say_them(seed: int, wanted: list[list[tuple[int, ...]]]) -> None:
    model, penalty = Toy(seed), LengthPenalty("average", 1.0)
    search = BeamSearch(120, 2, penalty, LIMITS, lexicon=Lexicon(ENDS_WORD))
    found = find(search, model, [Wishes(phrases=tuple(phrases)) for phrases in wanted])
    for source, phrases, hypotheses in zip(SOURCES, wanted, found, strict=True):
        every = all_translations(model, source, penalty, longest=4)
        expected = [(score, tokens) for score, tokens in every if all(says(tokens, p) for p in phrases)][:2]
        assert [tuple(h.tokens) for h in hypotheses] == [tokens for _, tokens in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in expected], abs=1e-4)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    beam=st.integers(1, 5),
    wanted=st.lists(st.lists(phrase, max_size=3), min_size=3, max_size=3),
    places=st.integers(1, 3),
)
def test_a_narrow_beam_says_every_phrase_too(seed: int, beam: int, wanted: list[list[tuple[int, ...]]], places: int) -> None:
    """All that can be said within the length, in every batch the same."""
    search = BeamSearch(beam, lengths=LengthLimits(0, 12), lexicon=Lexicon(ENDS_WORD))
    wishes = [Wishes(phrases=tuple(phrases)) for phrases in wanted]
    found = find(search, Toy(seed), wishes, places)
    assert all(says(tuple(best.tokens), p) for (best, *_), ps in zip(found, wanted, strict=True) for p in ps)
    assert found == find(search, Toy(seed), wishes)


def test_what_cannot_be_said_in_the_length_is_flagged_by_it() -> None:
    (found, *_) = find(
        BeamSearch(3, lengths=LengthLimits(0, 2), lexicon=Lexicon(ENDS_WORD)), Toy(1), [Wishes(phrases=((4, 4, 4, 4),))] * 3
    )
    assert found[0].capped


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    banned=st.sets(st.sampled_from(["a", "b", "a\u2581b", "ab", "bb", "b\u2581a"]), min_size=1, max_size=3),
)
def test_with_bans_it_is_exhaustive_search_among_those_without(seed: int, banned: set[str]) -> None:
    model, penalty = Toy(seed), LengthPenalty("average", 1.0)
    search = BeamSearch(120, 2, penalty, LIMITS, lexicon=Lexicon(ENDS_WORD, _reading_machine(SPELLING, banned, True)))

    def has_banned(tokens: tuple[int, ...]) -> bool:
        """Some token is the last of a banned phrase."""
        texts = ["".join(SPELLING[t] for t in tokens[:n]) for n in range(1, len(tokens) + 1)]
        return any(text.endswith("\u2581" + phrase) for text in texts for phrase in banned)

    # The toy has translations that begin within a word, which real tokens never do: those are taken as words too.
    for source, found in zip(SOURCES, find(search, model, [Wishes((4,))] * 3), strict=True):
        every = all_translations(model, source, penalty, longest=4)
        expected = [(score, t) for score, t in every if t[0] == 4 and not has_banned((4, *t[1:]) if "a" not in banned else t[1:])]
        if "a" in banned:
            continue  # a given beginning is stronger than a ban
        assert [tuple(h.tokens) for h in found] == [tokens for _, tokens in expected[:2]]


def test_samples_begin_as_wished_and_say_nothing_banned() -> None:
    banned = _reading_machine(SPELLING, {"b"}, True)
    search = Sampling(n_best=20, lengths=LengthLimits(0, 6), lexicon=Lexicon(ENDS_WORD, banned))
    for found in find(search, Toy(3), [Wishes((4, 5)), Wishes((4,)), Wishes()]):
        for hypothesis in found:
            spelled = "".join(SPELLING[t] for t in hypothesis.tokens)
            assert "b" not in spelled.split("\u2581")[1:]
    first, second, _ = find(search, Toy(3), [Wishes((4, 5)), Wishes((4,)), Wishes()])
    assert all(h.tokens[:2] == [4, 5] for h in first)
    assert all(h.tokens[:1] == [4] for h in second)
    with pytest.raises(ConfigProblem, match="glossary"):
        find(BeamSearch(4, groups=2), Toy(3), [Wishes(phrases=((4,),))] * 3)
    with pytest.raises(ConfigProblem, match="glossary"):
        find(search, Toy(3), [Wishes(phrases=((4,),))] * 3)


def test_groups_of_one_may_be_ranked_by_coverage() -> None:
    """It ranks what all of them have found."""
    sources = torch.tensor([[4, 5, EOS]])
    plain, ranked = (BeamSearch(4, 4, lengths=LengthLimits(1, 4), groups=4, coverage=beta) for beta in (0.0, 0.2))
    assert ranked.begin(sources).newest().shape == plain.begin(sources).newest().shape


def diverse(model: Toy, source: list[int], groups: int, width: int, strength: float, steps: int) -> list[set[tuple[int, ...]]]:
    """Diverse beam search by its definition, without ends: what each group holds after some steps."""
    beams: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, ())] for _ in range(groups)]
    for _ in range(steps):
        spoken: list[int] = []
        for g, beam in enumerate(beams):
            candidates = []
            for score, tokens in beam:
                log_probs = model.logits([*source, 1, *tokens]).log_softmax(0)
                for token in WORDS:
                    total = score + float(log_probs[token])
                    candidates.append((total - strength * spoken.count(token), total, (*tokens, token)))
            beams[g] = [(total, tokens) for _, total, tokens in sorted(candidates, reverse=True)[:width]]
            spoken += [tokens[-1] for _, tokens in beams[g]]
    return [{tokens for _, tokens in beam} for beam in beams]


@pytest.mark.parametrize("strength", [0.0, 0.7, 50.0])
@pytest.mark.parametrize("seed", range(4))
def test_groups_differ_as_the_paper_says(seed: int, strength: float) -> None:
    """All translations are made three tokens long, so that nothing ends early."""
    search = BeamSearch(6, 6, LengthPenalty("none"), LengthLimits(0, 3, 0, 3), groups=3, diversity=strength)
    for source, found in zip(SOURCES, find(search, Toy(seed), []), strict=True):
        expected = set().union(*diverse(Toy(seed), source, 3, 2, strength, 3))
        assert {tuple(h.tokens) for h in found} == expected
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_every_translation_is_among_words() -> None:
    """Guards the tests above: brute force sees all of them."""
    assert len(all_translations(Toy(0), SOURCES[0], LengthPenalty(), 3)) == sum(
        1 for n in (1, 2, 3) for _ in product(WORDS, repeat=n)
    )
    assert len(SPELLING) == len(ENDS_WORD) == VOCABULARY
    assert PAD not in WORDS
