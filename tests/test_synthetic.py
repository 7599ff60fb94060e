"""Pairs that bundles make."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seq2seq.recipes.files import Files

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.filters import with_base_apart
from seq2seq.data.recipe import Corpus, pairs_of
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.errors import BundleProblem, ConfigProblem, DataProblem
from seq2seq.inference.native import Native
from seq2seq.model.transformer import Transformer
from seq2seq.noisy_channel import NoisyChannel
from seq2seq.synthetic import Synthetic, dealt, nearest
from seq2seq.translator import Translator
from tests.conftest import counting_pairs, write_corpus


@pytest.fixture
def bundles(tmp_path: Path, random_model: Transformer, tokenizer: Tokenizer) -> list[str]:
    """Of two models that translate differently."""
    folders = []
    for name in ("a", "b"):
        model = Transformer(random_model.config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        Bundle(BundleConfig("en", "de", model.config), model, tokenizer).save(tmp_path / name)
        folders.append(str(tmp_path / name))
    return folders


def test_each_of_several_bundles_translates_its_fold(tmp_path: Path, bundles: list[str]) -> None:
    pairs = counting_pairs(11)
    train = write_corpus(tmp_path, "train", pairs)
    files = Files("en", "de", train=str(train), validation=str(train))

    def made(forward: str) -> list[str | None]:
        """A translation for each source, but where a model says nothing."""
        search = BeamSearch(2, lengths=LengthLimits(1, 3))
        recipe = Synthetic("en", "de", files, search, Native("float32", workers=1), (forward,), keep=False)
        train = recipe.load().splits["train"]
        translations = dict(zip(train["source"], train["target"], strict=True))
        return [translations.get(source) for source, _ in pairs]

    a, b = map(made, bundles)
    assert sum(one != other for one, other in zip(a, b, strict=True)) > 5
    assert made("|".join(bundles)) == [(a, b)[i % 2][i] for i in range(11)]
    assert made("|".join([*bundles, bundles[0]])) == [(a, b, a)[i % 3][i] for i in range(11)]


def test_what_is_made_of_a_third_language_takes_its_place(
    tmp_path: Path, random_model: Transformer, tokenizer: Tokenizer
) -> None:
    """With English to German as what is wanted, French with German becomes English with German, and English with French English with German,
    though no English sentence has a German translation."""
    spoken = [source for source, _ in counting_pairs(22)]
    sides = {"validation": ("en", "de", spoken[:2]), "german": ("fr", "de", spoken[2:12]), "english": ("fr", "en", spoken[12:])}
    for name, (one, other, lines) in sides.items():
        for language in (one, other):
            (tmp_path / f"{name}.{language}").write_text("".join(f"{line} {language}\n" for line in lines))
    for target in ("en", "de"):
        model = Transformer(random_model.config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        Bundle(BundleConfig("fr", target, model.config), model, tokenizer).save(tmp_path / f"fr-{target}")

    @dataclass(frozen=True)
    class Islands:
        """Files of which each pair of languages has its own, and English and German none to train on."""

        source: str
        target: str

        def load(self, splits: Sequence[str]) -> Corpus:
            train = {("fr", "de"): "german", ("en", "fr"): "english", ("fr", "en"): "english"}.get(
                (self.source, self.target), "none"
            )
            return Files(self.source, self.target, str(tmp_path / train), str(tmp_path / "validation")).load(splits)

    search, engine = BeamSearch(2, lengths=LengthLimits(1, 3)), Native("float32", workers=1)

    def translated(target: str, lines: list[str]) -> list[str]:
        return Translator.load(tmp_path / f"fr-{target}", search, engine=engine).translate([f"{line} fr" for line in lines])

    bundles = (str(tmp_path / "fr-en"), str(tmp_path / "fr-de"))
    recipe = Synthetic("en", "de", Islands("en", "de"), search, engine, pivot=bundles, keep=False, mark="bt")
    corpus = recipe.load()
    german = list(zip(translated("en", spoken[2:12]), [f"{line} de" for line in spoken[2:12]], strict=True))
    english = list(zip([f"{line} en" for line in spoken[12:]], translated("de", spoken[12:]), strict=True))
    made = [pair for pair in german + english if all(side.strip() for side in pair)]  # a model may say nothing
    assert list(pairs_of(corpus.splits["train"])) == made
    assert len(made) > 5
    assert list(corpus.splits["train"]["tags"]) == ["<bt>" if pair in german else "" for pair in made]
    assert len(corpus.splits["validation"]) == 2


def test_what_is_held_out_is_not_made_of_a_third_language(tmp_path: Path, bundles: list[str]) -> None:
    """French with German has the German side of a test pair; with `filters.decontaminate` nothing is made of it."""
    pairs = counting_pairs(19)
    for name, some in (("validation", pairs[:2]), ("test", pairs[2:9]), ("train", pairs[2:])):
        write_corpus(tmp_path, name, some)
        (tmp_path / f"{name}.fr").write_text("".join(f"{source} fr\n" for source, _ in some))
    french = tmp_path / "french"
    model = Bundle.load(bundles[0])
    Bundle(BundleConfig("fr", "en", model.config.model), model.model, model.tokenizer).save(french)
    files = Files("en", "de", *(str(tmp_path / name) for name in ("train", "validation", "test")))
    search = BeamSearch(2, lengths=LengthLimits(1, 3, min_offset=2))
    recipe = Synthetic("en", "de", files, search, Native("float32", workers=1), pivot=(str(french),), keep=False)
    made = [set(each.load().splits["train"]["target"]) for each in (recipe, with_base_apart(recipe))]
    held_out = {target for _, target in pairs[2:9]}
    assert held_out & made[0]
    assert held_out.isdisjoint(made[1])
    assert made[1] <= made[0]
    assert {"train.fr", "train.de"} <= {file.name for file in recipe.load().provenance.files}


def test_bundles_are_looked_at_before_any_translates(
    tmp_path: Path, bundles: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_corpus(tmp_path, "train", counting_pairs(3))
    files = Files("en", "de", train=str(train), validation=str(train))
    for wrong, said in ((str(tmp_path / "c"), "c is not a bundle"), (bundles[1], "b does not know de to en")):
        with pytest.raises(ValueError, match=said):
            Synthetic("en", "de", files, BeamSearch(1), Native(), (bundles[0],), (wrong,)).load()
    (tmp_path / "train.tsv").write_text("one\teins\n")
    model = Bundle.load(bundles[0])
    shorter = Transformer(replace(model.config.model, max_length=8)).eval()
    Bundle(replace(model.config, model=shorter.config), shorter, model.tokenizer).save(tmp_path / "shorter")
    with pytest.raises(BundleProblem, match="different length"):
        Synthetic("en", "de", files, BeamSearch(1), Native(), (bundles[0], f"{bundles[0]}+{tmp_path / 'shorter'}")).load()
    Bundle(BundleConfig("fr", "en", model.config.model), model.model, model.tokenizer).save(tmp_path / "french")
    table = Files("en", "de", train=str(tmp_path / "train.tsv"), validation=str(train))
    with pytest.raises(ConfigProblem, match="train.tsv does not say which languages"):
        Synthetic("en", "de", table, BeamSearch(1), Native(), (bundles[0],), pivot=(str(tmp_path / "french"),)).load()
    with pytest.raises(DataProblem, match="wants pairs of fr and de"):
        Synthetic("en", "de", files, BeamSearch(1), Native(), (bundles[0],), pivot=(str(tmp_path / "french"),)).load()
    assert "translated" not in capsys.readouterr().err


def test_models_that_choose_are_looked_at_first_and_others_choose_anew(
    tmp_path: Path, bundles: list[str], random_model: Transformer, tokenizer: Tokenizer
) -> None:
    """They are told by what is in their folder, not by its name."""
    train = write_corpus(tmp_path, "train", counting_pairs(11))
    files = Files("en", "de", train=str(train), validation=str(train))
    candidates = BeamSearch(6, n_best=6, lengths=LengthLimits(1, 3))

    def made() -> list[tuple[str, str]]:
        search = NoisyChannel(str(tmp_path / "back"), 100.0, candidates)
        recipe = Synthetic("en", "de", files, search, Native("float32", workers=1), (bundles[0],), keep=False)
        return list(pairs_of(recipe.load().splits["train"]))

    with pytest.raises(BundleProblem, match="back is not a bundle"):
        made()
    Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer).save(tmp_path / "back")
    with pytest.raises(ConfigProblem, match="back does not know de to en"):
        made()
    chosen = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        Bundle(BundleConfig("de", "en", random_model.config), Transformer(random_model.config), tokenizer).save(tmp_path / "back")
        chosen.append(made())
    assert chosen[0] != chosen[1]


def test_a_bundle_between_source_and_target_is_no_pivot(tmp_path: Path, bundles: list[str]) -> None:
    train = write_corpus(tmp_path, "train", counting_pairs(3))
    files = Files("en", "de", train=str(train), validation=str(train))
    with pytest.raises(ConfigProblem, match="translates en-de: no third language to en or de"):
        Synthetic("en", "de", files, BeamSearch(1), Native(), pivot=(bundles[0],)).load()


@given(st.lists(st.text()), st.integers(1, 9))
def test_what_is_dealt_out_comes_back_in_order(lines: list[str], count: int) -> None:
    assert list(dealt([iter(lines[hand::count]) for hand in range(count)])) == lines


@settings(max_examples=50)
@given(
    st.lists(st.text(alphabet="ab c", min_size=1, max_size=9), min_size=1, max_size=5),
    st.text(alphabet="ab c", min_size=1, max_size=9),
)
def test_the_nearest_text_has_the_best_chrf(texts: list[str], wanted: str) -> None:
    scores = [sacrebleu.sentence_chrf(text, [wanted], eps_smoothing=False).score for text in texts]
    assert scores[texts.index(nearest(texts, wanted))] == pytest.approx(max(scores))
