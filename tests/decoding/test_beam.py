"""Beam search on models of ten lines, against search by brute force; then on the Transformer."""

import math
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seq2seq.decoding.batch import decode
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits, LengthPenalty
from seq2seq.decoding.sampling import Sampling
from seq2seq.decoding.stepper import Hypothesis, Search, Stepper
from seq2seq.errors import ConfigProblem
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import BOS, EOS, PAD, UNK
from tests.conftest import ids, small_config

VOCABULARY = 7  # three words beside the special tokens
WORDS = range(4, VOCABULARY)


@dataclass
class History:
    said: list[list[list[int]]]  # of each sentence, of each hypothesis

    def select(self, rows: Tensor) -> "History":
        hypotheses = [hypothesis for sentence in self.said for hypothesis in sentence]
        return History([[hypotheses[row] for row in of_one] for of_one in rows.tolist()])

    def put(self, places: Tensor, new: "History") -> None:
        for place, sentence in zip(places.tolist(), new.said, strict=True):
            self.said[place] = sentence


@dataclass
class Toy:
    """A model whose logits are a fixed random function of the source and everything said so far."""

    seed: int

    def start(self, source: Tensor) -> History:
        return History([[row] for row in source.tolist()])

    def step(self, tokens: Tensor, state: History) -> tuple[Tensor, History]:
        said = [[[*h, t] for h, t in zip(*pair, strict=True)] for pair in zip(state.said, tokens.tolist(), strict=True)]
        return torch.stack([torch.stack([self.logits(h) for h in sentence]) for sentence in said]), History(said)

    def logits(self, seen: list[int]) -> Tensor:
        said = tuple(token for token in seen if token != PAD)
        return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(hash((self.seed, said)) % 2**31)) * 2


def find(search: Search, model: Stepper, source: Tensor, places: int | None = None) -> list[list[Hypothesis]]:
    """The hypotheses of each row of a padded batch."""
    sources = [[token for token in row if token != PAD] for row in source.tolist()]
    found = dict(decode(search, model, sources, places or len(sources)))
    return [found[number] for number in range(len(sources))]


def accepts_a_transformer(model: Transformer) -> Stepper:
    """Checked by mypy: the Transformer and the toy fit the protocol, beam search is a Search."""
    _toy: Stepper = Toy(0)
    _search: Search = BeamSearch()
    return model


def log_probability(model: Toy, source: list[int], tokens: tuple[int, ...]) -> float:
    total, seen = 0.0, [*source, BOS]
    for token in (*tokens, EOS):
        total += float(model.logits(seen).log_softmax(0)[token])
        seen.append(token)
    return total


def all_translations(
    model: Toy, source: list[int], penalty: LengthPenalty, longest: int, shortest: int = 1
) -> list[tuple[float, tuple[int, ...]]]:
    """Every translation there is, best first."""
    found = []
    for length in range(shortest, longest + 1):
        for tokens in product(WORDS, repeat=length):
            found.append((log_probability(model, source, tokens) / float(penalty(torch.tensor(length + 1))), tokens))
    return sorted(found, reverse=True)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["gnmt", "average", "none"]),
    alpha=st.sampled_from([0.0, 0.6, 1.0, 2.0]),
    n_best=st.integers(1, 5),
)
def test_a_wide_beam_is_exhaustive_search(seed: int, kind: str, alpha: float, n_best: int) -> None:
    model, penalty = Toy(seed), LengthPenalty(kind, alpha)
    source = torch.tensor([[4, 5, EOS], [6, EOS, PAD]])
    search = BeamSearch(120, n_best, penalty, LengthLimits(0, 4))
    for row, found in zip(source.tolist(), find(search, model, source), strict=True):
        expected = all_translations(model, row, penalty, longest=4)[:n_best]
        assert [tuple(h.tokens) for h in found] == [tokens for _, tokens in expected]
        assert [h.score for h in found] == pytest.approx([score for score, _ in expected], abs=1e-4)


def repeats(tokens: tuple[int, ...], size: int) -> bool:
    spans = [tokens[i : i + size] for i in range(len(tokens) - size + 1)]
    return len(set(spans)) < len(spans)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 3))
def test_without_repeats_it_is_exhaustive_search_among_those_without(seed: int, size: int) -> None:
    model, penalty, source = Toy(seed), LengthPenalty("none"), torch.tensor([[4, 5, EOS], [6, EOS, PAD]])
    search = BeamSearch(120, 3, penalty, LengthLimits(0, 4), no_repeats=size)
    for row, found in zip(source.tolist(), find(search, model, source), strict=True):
        expected = [tokens for _, tokens in all_translations(model, row, penalty, longest=4) if not repeats(tokens, size)]
        assert [tuple(h.tokens) for h in found] == expected[:3]


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), strength=st.sampled_from([1.2, 2.0]))
def test_with_a_penalty_on_repeats_it_is_exhaustive_search_with_that_penalty(seed: int, strength: float) -> None:
    model, source = Toy(seed), torch.tensor([[4, 5, EOS]])

    def score(tokens: tuple[int, ...]) -> float:
        total = 0.0
        for place, token in enumerate((*tokens, EOS)):
            log_probs = model.logits([4, 5, EOS, BOS, *tokens[:place]]).log_softmax(0)
            total += float(log_probs[token]) * (strength if token in tokens[:place] else 1)
        return total

    search = BeamSearch(120, 3, LengthPenalty("none"), LengthLimits(0, 4), repetition_penalty=strength)
    everything = [tokens for length in range(1, 5) for tokens in product(WORDS, repeat=length)]
    expected = sorted(everything, key=score, reverse=True)[:3]
    assert [tuple(h.tokens) for h in find(search, model, source)[0]] == expected


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 3))
def test_samples_without_repeats(seed: int, size: int) -> None:
    search = Sampling(2, lengths=LengthLimits(0, 12), no_repeats=size, seed=seed)
    for found in find(search, Toy(seed), torch.tensor([[4, 5, EOS], [6, EOS, PAD]])):
        assert not any(repeats(tuple(hypothesis.tokens), size) for hypothesis in found)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), beam=st.integers(1, 4), least=st.integers(0, 3), longest=st.integers(3, 9))
def test_stopping_early_loses_nothing(seed: int, beam: int, least: int, longest: int) -> None:
    """The result is that of a search that goes on until every place of the beam is taken by a finished hypothesis."""
    model, source = Toy(seed), torch.tensor([[4, EOS], [5, EOS], [6, EOS]])
    limits = LengthLimits(0, longest, 0, least)
    one = find(BeamSearch(beam, 1, lengths=limits), model, source)
    all_places = find(BeamSearch(beam, beam, lengths=limits), model, source)  # n best of the whole beam: no early stop
    assert [row[0].tokens for row in one] == [row[0].tokens for row in all_places]


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_beam_1_is_greedy(seed: int) -> None:
    model, source = Toy(seed), torch.tensor([[4, EOS], [5, 6]])
    for row, found in zip(source.tolist(), find(BeamSearch(1, lengths=LengthLimits(0, 8)), model, source), strict=True):
        said: list[int] = []
        while True:
            logits = model.logits([*row, BOS, *said])
            logits[[PAD, BOS, UNK]] = float("-inf")
            if not said:
                logits[EOS] = float("-inf")
            token = int(logits.argmax())
            if token == EOS or len(said) == 8:
                break
            said.append(token)
        assert found[0].tokens == said


def test_n_best_are_distinct_sorted_and_score_what_forced_decoding_scores() -> None:
    model = Transformer(small_config()).eval()
    source = ids(5, 6)
    source[:, -1] = EOS
    penalty = LengthPenalty()
    for row, hypotheses in zip(source, find(BeamSearch(6, 6, penalty, LengthLimits(0, 12)), model, source), strict=True):
        assert len(hypotheses) == 6
        assert len({tuple(h.tokens) for h in hypotheses}) == 6
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        for h in hypotheses:
            target = torch.tensor([[BOS, *h.tokens]])
            log_probs = model(row[None], target).log_softmax(-1)
            forced = log_probs[0].gather(1, torch.tensor([*h.tokens, EOS])[:, None]).sum()
            assert h.log_probability == pytest.approx(forced.item(), abs=1e-4)
            assert h.score == pytest.approx((forced / penalty(torch.tensor(len(h.tokens) + 1))).item(), abs=1e-4)


def test_lengths_keep_their_limits_and_say_so() -> None:
    model, source = Toy(3), torch.tensor([[4, 5, 6, 4, EOS], [5, EOS, PAD, PAD, PAD]])
    limits = LengthLimits(max_factor=1.0, max_offset=2, min_factor=1.0, min_offset=1)
    for row, hypotheses in zip(source, find(BeamSearch(3, 3, lengths=limits), model, source), strict=True):
        tokens = int((row != PAD).sum()) - 1
        for h in hypotheses:
            assert tokens + 1 <= len(h.tokens) <= tokens + 2
            assert h.capped == (len(h.tokens) == tokens + 2)


def test_never_says_a_special_token() -> None:
    for seed in range(20):
        for row in find(BeamSearch(4, 4, lengths=LengthLimits(0, 6)), Toy(seed), torch.tensor([[4, EOS]])):
            assert all(token in WORDS for h in row for token in h.tokens)


def test_a_sentence_does_not_mind_its_neighbours() -> None:
    model, search = Toy(5), BeamSearch(3, 2, lengths=LengthLimits(1, 4))
    sources = torch.tensor([[4, 5, 6, EOS], [5, EOS, PAD, PAD], [6, 6, EOS, PAD], [4, EOS, PAD, PAD]])
    together = find(search, model, sources)
    assert all(find(search, model, sources, places) == together for places in (1, 2, 3))
    for source, found in zip(sources, together, strict=True):
        assert find(search, model, source[None]) == [found]


@pytest.mark.parametrize("wrong", [dict(beam_size=0), dict(beam_size=2, n_best=3), dict(beam_size=1, coverage=0.1)])
def test_refuses_settings_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ConfigProblem):
        BeamSearch(**wrong)
    with pytest.raises(ConfigProblem):
        LengthPenalty("gnmt", -1.0)
    with pytest.raises(ConfigProblem):
        LengthLimits(max_offset=0)


def test_length_penalty_is_equation_14_of_wu() -> None:
    assert float(LengthPenalty("gnmt", 0.6)(torch.tensor(7))) == pytest.approx((12 / 6) ** 0.6)
    assert float(LengthPenalty("average", 1.0)(torch.tensor(7))) == 7.0
    assert float(LengthPenalty("none")(torch.tensor(7))) == 1.0


@pytest.mark.parametrize("wrong", [math.inf, math.nan, 1e19, -1.0])
def test_limits_and_penalties_that_no_number_holds_are_refused(wrong: float) -> None:
    """They would be taken for a limit below nothing, and every sentence answered with nothing."""
    for make in (
        lambda: LengthLimits(max_factor=wrong),
        lambda: LengthLimits(max_factor=1.0, min_factor=wrong),
        lambda: LengthPenalty(alpha=wrong),
    ):
        with pytest.raises(ConfigProblem):
            make()
    least, most = LengthLimits(max_factor=1_000_000, max_offset=1_000_000)(torch.tensor([[4, 5, EOS]]), 30)
    assert (least.tolist(), most.tolist()) == ([1], [30])
