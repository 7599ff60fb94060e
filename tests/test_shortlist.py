"""Shortlists: what is learned, and that search with a list is search over it, whatever shares the batch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.data.tokens import TokenPairs, TokenRows
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.errors import BundleProblem, ConfigProblem
from seq2seq.inference.native import Native
from seq2seq.model.transformer import Transformer
from seq2seq.shortlist import Shortlist, learn_shortlist
from seq2seq.symbols import EOS, PAD, UNK
from seq2seq.translator import Translator
from tests.conftest import PRECISIONS, counting_pairs, ids

CPU = torch.device("cpu")


def made_up(pairs: int, words: int = 12, noise: int = 3) -> TokenPairs:
    """Sentences in which source word 4 + w becomes target word 30 + w, in another order, among some frequent words."""
    draw = np.random.default_rng(1)
    rows = [draw.integers(0, words, draw.integers(1, 7)) for _ in range(pairs)]
    targets = [draw.permutation([*(row + 30), *draw.integers(20, 20 + noise, 4)]) for row in rows]
    return TokenPairs(TokenRows([[*row + 4, EOS] for row in rows]), TokenRows([[*row, EOS] for row in targets]))


def test_model_1_finds_what_translates_what() -> None:
    shortlist = learn_shortlist(made_up(400), 40, joint=False, frequent=4, likely=2)
    assert set(shortlist.frequent.tolist()) == {EOS, 20, 21, 22}
    assert [word in shortlist.likely[4 + w].tolist() for w, word in enumerate(range(30, 42))] == [True] * 12
    assert shortlist.likely[39].tolist() == [PAD, PAD]  # never met


def test_a_joint_vocabulary_lets_a_token_be_taken_over() -> None:
    shortlist = learn_shortlist(made_up(20), 50, joint=True, frequent=4, likely=2)
    assert shortlist.likely[:, -1].tolist() == list(range(50))
    assert shortlist.allowed(torch.tensor([[45, EOS]]), 50)[0, 45]


def test_many_pairs_are_looked_at_here_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seq2seq.shortlist._LINKS", 2000)
    shortlist = learn_shortlist(made_up(4000), 40, joint=False, frequent=4, likely=3)
    assert sum(30 + w in shortlist.likely[4 + w].tolist() for w in range(12)) >= 11


@pytest.fixture
def bundle(random_model: Transformer, tokenizer: Tokenizer) -> Bundle:
    size = random_model.config.target_vocab_size
    likely = torch.randint(4, size, (size, 6), dtype=torch.int32)
    return Bundle(
        BundleConfig("en", "de", random_model.config), random_model, tokenizer, Shortlist(torch.tensor([EOS, 9]).int(), likely)
    )


class _OverTheList:
    """The slow twin: all logits are made, and those of tokens that are not on the list of a lone sentence are thrown away."""

    def __init__(self, model: Transformer, allowed: torch.Tensor) -> None:
        self.model, self.allowed, self.start = model, allowed, model.start

    def step(self, tokens: torch.Tensor, state: object) -> tuple[torch.Tensor, object]:
        logits, state = self.model.step(tokens, state)  # type: ignore[arg-type]
        return logits.masked_fill(~self.allowed, float("-inf")), state


def sources_for(model: Transformer) -> list[list[int]]:
    return [[*ids(1, 1 + 5 * i % 11, model.config.source_vocab_size)[0].tolist(), EOS] for i in range(25)]


@pytest.mark.parametrize("several", [False, True])
def test_search_is_over_the_list_of_each_sentence(bundle: Bundle, several: bool) -> None:
    from seq2seq.decoding.batch import decode
    from seq2seq.decoding.ensemble import Ensemble

    shortlist, size = bundle.shortlist, bundle.config.model.target_vocab_size
    assert shortlist
    search, sources = BeamSearch(3, 2, lengths=LengthLimits(1.0, 5)), sources_for(bundle.model)
    engine = Native(shortlist=True).make([bundle] * (1 + several), CPU, 8)
    found = engine.search(search, sources)
    for source, hypotheses in zip(sources, found, strict=True):
        allowed = shortlist.allowed(torch.tensor([source]), size)[0]
        alone = _OverTheList(bundle.model, allowed)
        ((_, expected),) = decode(search, Ensemble([alone, alone]) if several else alone, [source], 1)  # type: ignore[list-item, arg-type]
        assert [h.score for h in hypotheses] == pytest.approx([h.score for h in expected], rel=1e-4)
        assert all(allowed[h.tokens].all() for h in hypotheses)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_in_every_precision_only_what_is_listed_is_said(bundle: Bundle, precision: str) -> None:
    assert bundle.shortlist
    sources = sources_for(bundle.model)
    found = Native(precision, shortlist=True).make([bundle], CPU, 8).search(BeamSearch(3, lengths=LengthLimits(1.0, 5)), sources)  # type: ignore[arg-type]
    for source, (best,) in zip(sources, found, strict=True):
        allowed = bundle.shortlist.allowed(torch.tensor([source]), bundle.config.model.target_vocab_size)[0]
        assert allowed[best.tokens].all()
        assert UNK not in best.tokens


def test_a_bundle_keeps_it(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    assert loaded.shortlist
    assert bundle.shortlist
    assert torch.equal(loaded.shortlist.frequent, bundle.shortlist.frequent)
    assert torch.equal(loaded.shortlist.likely, bundle.shortlist.likely)
    assert loaded.fingerprint() == bundle.fingerprint() != Bundle(bundle.config, bundle.model, bundle.tokenizer).fingerprint()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda size: Shortlist(torch.tensor([EOS]).int(), torch.zeros(size + 1, 2, dtype=torch.int32)),
        lambda size: Shortlist(torch.tensor([EOS, size]).int(), torch.zeros(size, 2, dtype=torch.int32)),
        lambda size: Shortlist(torch.tensor([9]).int(), torch.zeros(size, 2, dtype=torch.int32)),
        lambda size: Shortlist(torch.tensor([EOS]).int(), torch.full((size, 2), -1, dtype=torch.int32)),
        lambda size: Shortlist(torch.tensor([EOS]).int(), torch.zeros(size, 2)),
    ],
)
def test_a_list_that_does_not_fit_is_refused(wrong: object, bundle: Bundle, tmp_path: Path) -> None:
    shortlist = wrong(bundle.config.model.target_vocab_size)  # type: ignore[operator]
    Bundle(bundle.config, bundle.model, bundle.tokenizer, shortlist).save(tmp_path / "bundle")
    with pytest.raises(BundleProblem, match="shortlist.safetensors"):
        Bundle.load(tmp_path / "bundle")


def test_a_list_that_the_manifest_does_not_know_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "with")
    Bundle(bundle.config, bundle.model, bundle.tokenizer).save(tmp_path / "without")
    (tmp_path / "without/shortlist.safetensors").write_bytes((tmp_path / "with/shortlist.safetensors").read_bytes())
    assert "shortlist.safetensors" not in json.loads((tmp_path / "without/manifest.json").read_text())["files"]
    with pytest.raises(BundleProblem, match="not in manifest"):
        Bundle.load(tmp_path / "without")


def test_what_may_not_be_on_the_list_cannot_be_wished_for(bundle: Bundle) -> None:
    translator = Translator(bundle, BeamSearch(2), engine=Native(shortlist=True).make([bundle], CPU, 8))
    with pytest.raises(ConfigProblem, match="shortlist"):
        translator.translate_block(["one two"], ["eins"])
    without = Bundle(bundle.config, bundle.model, bundle.tokenizer)
    with pytest.raises(BundleProblem, match="shortlist=true"):
        Native(shortlist=True).make([without], CPU, 8)


def test_training_learns_one(tokenizer: Tokenizer) -> None:
    pairs = counting_pairs(300)
    tokens = TokenPairs(
        TokenRows(tokenizer.encode_source([s for s, _ in pairs])), TokenRows(tokenizer.encode_target([t for _, t in pairs]))
    )
    shortlist = learn_shortlist(tokens, tokenizer.source_vocab_size, joint=True, frequent=3, likely=5)
    held = counting_pairs(20, seed=9)
    for source, target in zip(
        *(encode([pair[i] for pair in held]) for i, encode in enumerate((tokenizer.encode_source, tokenizer.encode_target))),
        strict=True,
    ):
        assert shortlist.allowed(torch.tensor([source]), tokenizer.target_vocab_size)[0, target].float().mean() > 0.9
