import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.comparison import System, by_length, judged, sentence_scores, wins
from seq2seq.evaluation import evaluate
from seq2seq.page import Comparison, Curve, Sentence, _scale, differences, page

REFERENCES = [
    f"the {animal} sleeps in the {place} all day"
    for animal in ("dog", "cat", "owl", "bear")
    for place in ("house", "barn", "wood", "cave", "tree")
]
GOOD = System("good", [text.replace("day", "night") if i % 4 == 0 else text for i, text in enumerate(REFERENCES)])
POOR = System("poor", [text.replace("sleeps", "runs").replace("in the", "to") for text in REFERENCES])


@pytest.mark.parametrize("test", ["bootstrap", "randomisation"])
def test_scores_are_those_of_evaluate_and_a_clear_difference_is_no_chance(test: str) -> None:
    bleu, chrf = judged([POOR, GOOD, POOR], REFERENCES, ("bleu", "chrf++"), "13a", test=test, samples=300)  # type: ignore[arg-type]
    assert (bleu.metric, chrf.metric) == ("BLEU", "chrF++")
    for verdict, name in ((bleu, "bleu"), (chrf, "chrf++")):
        for system, found in zip((POOR, GOOD, POOR), verdict.systems, strict=True):
            (alone,) = evaluate(system.translations, REFERENCES, (name,), bootstrap=1000)  # type: ignore[arg-type]
            assert found.value == pytest.approx(alone.value)
            assert found.low - 1e-4 <= found.value <= found.high + 1e-4
        assert f"|{'bs:300' if test == 'bootstrap' else 'bs:1000|ar:300'}|" in verdict.signature
        assert verdict.systems[0].p_value is None
        assert verdict.systems[1].p_value is not None
        assert verdict.systems[1].p_value < 0.05
        assert verdict.systems[2].p_value is not None
        assert verdict.systems[2].p_value > 0.05


@pytest.mark.parametrize("test", ["bootstrap", "randomisation"])
@pytest.mark.parametrize(("differing", "least"), [(0, 1.0), (1, 1.0), (2, 0.5), (3, 0.25), (6, 2**-5)])
def test_a_few_sentences_that_differ_prove_nothing(test: str, differing: int, least: float) -> None:
    """All of them the one way or the other: of tosses of so many coins, so many are as far from even."""
    other = System("other", [text.replace("sleeps", "runs") if i < differing else text for i, text in enumerate(REFERENCES)])
    (bleu,) = judged([System("same", REFERENCES), other], REFERENCES, ("bleu",), "13a", test=test, samples=200)  # type: ignore[arg-type]
    assert bleu.systems[1].p_value is not None
    assert bleu.systems[1].p_value >= least
    nothing = [System(name, [name] * len(REFERENCES)) for name in "ab"]  # both score 0
    assert judged(nothing, REFERENCES, ("bleu",), "13a", test=test, samples=99)[0].systems[1].p_value == 1.0  # type: ignore[arg-type]
    lone = judged(
        [System("a", ["a b c d e"]), System("b", ["a b c d f"])], ["a b c d e"], ("bleu",), "13a", test=test, samples=99
    )  # type: ignore[arg-type]
    assert lone[0].systems[1].p_value == 1.0


def test_sentences_are_won_and_lost() -> None:
    ours, theirs = sentence_scores(GOOD, REFERENCES), sentence_scores(POOR, REFERENCES)
    assert wins(ours, theirs) == (len(REFERENCES), 0, 0)
    assert wins([1.0, 2.0, 3.0], [1.001, 3.0, 2.0]) == (1, 1, 1)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60))
def test_every_sentence_is_in_one_bucket(lengths: list[int]) -> None:
    references = [" ".join(["a"] * length) for length in lengths]
    buckets = by_length([System("a", references)], references, lambda ours, theirs: float(len(ours)))
    assert sum(bucket.sentences for bucket in buckets) == len(lengths)
    assert all(bucket.scores == (bucket.sentences,) for bucket in buckets)
    bounds = [bound for bucket in buckets for bound in (bucket.shortest, bucket.longest)]
    assert bounds == sorted(bounds)


def test_differences_mark_what_is_not_in_the_reference() -> None:
    assert differences("a small dog", "a big dog") == "a <mark>big</mark> dog"
    assert differences("a dog", "a dog") == "a dog"
    assert differences("x", "<b> & x") == "<mark>&lt;b&gt; &amp; </mark>x"


def test_the_page_says_everything_and_obeys_nothing() -> None:
    evil = "<script>alert(1)</script>"
    verdicts = judged([System(evil, POOR.translations), GOOD], REFERENCES, ("bleu",), "13a", samples=50)
    sentence = Sentence(7, evil, REFERENCES[0], [evil, evil], [1.0, 2.0])
    systems = [System(evil, POOR.translations), GOOD]
    made = page(
        Comparison(
            evil,
            "paired bootstrap",
            systems,
            verdicts,
            [(3, 2, 1)],
            [],
            "words",
            [sentence],
            [sentence],
            [Curve(evil, [(1, 10), (2, 20)])],
        )
    )
    assert "<script>" not in made
    assert "http" not in made
    for text in (
        "<!doctype html>",
        "<polyline",
        "paired bootstrap",
        ">3<",
        f"{verdicts[0].systems[1].value:.2f}",
        "gains most",
        "loses most",
    ):
        assert text in made


def test_without_regard_to_case_sentences_do_not_differ_by_it() -> None:
    shouting = System("shouting", [text.upper() for text in REFERENCES])
    assert sentence_scores(shouting, REFERENCES, lowercase=True) == [100.0] * len(REFERENCES)
    assert max(sentence_scores(shouting, REFERENCES)) < 50


def test_what_has_no_spaces_is_counted_in_characters() -> None:
    references = ["猫" * length for length in range(1, 41)]
    buckets = by_length([System("a", references)], references, lambda ours, theirs: 0.0, spaces=False)
    assert (buckets[0].shortest, buckets[0].longest) == (1, 8)
    assert len(buckets) == 5


@given(st.lists(st.floats(0, 100), min_size=1))
def test_a_curve_fills_its_chart(values: list[float]) -> None:
    ticks = _scale(values)
    assert ticks[0] <= min(values)
    assert max(values) <= ticks[-1]
    assert ticks[-1] - ticks[0] <= max(values) - min(values) + 2 * ticks.step
    assert 2 <= len(ticks) <= 12
