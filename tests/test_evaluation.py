import pytest
import sacrebleu

from seq2seq.errors import ConfigProblem, DataProblem
from seq2seq.evaluation import chosen_tokenizer, evaluate, tokenizer_for, with_meaning

HYPOTHESES = ["the cat sat on the mat today", "a dog barks very loudly", "hello big wide world ."]
REFERENCES = ["the cat sat on a mat today", "a dog barks loudly", "hello big wide world ."]


def test_scores_are_sacrebleus() -> None:
    bleu, chrf, ter = evaluate(HYPOTHESES, REFERENCES)
    theirs = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES])
    assert bleu.value == theirs.score
    assert bleu.precisions == tuple(theirs.precisions)
    assert bleu.length == theirs.ratio
    assert (chrf.precisions, ter.length) == ((), None)
    assert chrf.value == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES], word_order=2).score
    assert ter.value == sacrebleu.corpus_ter(HYPOTHESES, [REFERENCES]).score
    assert "tok:13a" in bleu.signature
    assert "nw:2" in chrf.signature


def test_bootstrap_intervals_hold_the_score() -> None:
    for score in evaluate(HYPOTHESES * 20, REFERENCES * 20, bootstrap=200):
        assert score.low is not None
        assert score.high is not None
        assert score.low < score.value < score.high
        assert "bs:200" in score.signature


def test_tokenizers_go_by_target_language() -> None:
    unspaced = [tokenizer_for(code) for code in ("th", "lo_LA", "KHM", "my", "cmn_Hans", "yue", "jpn")]
    assert unspaced == ["char", "char", "char", "char", "zh", "zh", "ja-mecab"]
    assert [tokenizer_for(code) for code in ("de", "zh", "zh_Hant", "ja", "ko-KR")] == ["13a", "zh", "zh", "ja-mecab", "ko-mecab"]
    for code, text in (("zh", "今天天气很好。"), ("ja", "今日は天気がとても良いです。"), ("ko", "오늘 날씨가 아주 좋습니다 .")):
        assert evaluate([text], [text], ["bleu"], tokenizer_for(code))[0].value == pytest.approx(100.0)


def test_counts_are_checked_first() -> None:
    with pytest.raises(DataProblem, match="2 translations for 3 references"):
        evaluate(HYPOTHESES[:2], REFERENCES)
    with pytest.raises(DataProblem, match="nothing to evaluate"):
        evaluate([], [])


def test_lowercase_folds_case() -> None:
    cased, folded = (
        evaluate(["The Cat sat on the mat"], ["the cat sat on the mat"], ["bleu"], lowercase=flag)[0] for flag in (False, True)
    )
    assert cased.value < folded.value == pytest.approx(100.0)


def test_the_interval_of_a_hopeless_system_is_no_accident() -> None:
    """Resamples that score exactly 0 beside others that do not."""
    hypotheses = ["x"] * 8 + ["the cat sat on the mat"]
    references = ["a b c d e f"] * 8 + ["the cat sat on the mat"]
    score = evaluate(hypotheses, references, ["bleu"], bootstrap=50)[0]
    assert score.low is not None
    assert score.low <= score.value


def test_ter_is_left_out_where_there_are_no_words_to_count() -> None:
    assert with_meaning(("bleu", "ter"), chosen_tokenizer("auto", "th"), "th") == ["bleu"]
    assert with_meaning(("bleu", "ter"), chosen_tokenizer("auto", "zh"), "zh") == ["bleu", "ter"]
    assert with_meaning(("bleu", "ter"), "char", "de") == ["bleu", "ter"]
    with pytest.raises(ConfigProblem, match="TER counts words"):
        with_meaning(("ter",), "char", "zh")
