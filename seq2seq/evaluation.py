"""Floor 2: sacreBLEU (Post, 2018), with what its Python interface leaves unchecked checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from seq2seq.data.text import base_language, has_spaces
from seq2seq.errors import ConfigProblem, DataProblem, did_you_mean, missing_extra

Metric = Literal["bleu", "chrf", "chrf++", "ter"]

_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
_PACKAGES = {"ja-mecab": ("MeCab", "ja"), "ko-mecab": ("mecab_ko", "ko")}


@dataclass(frozen=True)
class Score:
    """One metric over a test set, with its 95 % bootstrap interval if one was asked for."""

    metric: str
    value: float
    signature: str
    low: float | None = None
    high: float | None = None
    precisions: tuple[float, ...] = ()
    """Of BLEU, the share of n-grams that are right, for n from 1 to 4, 0 to 100."""
    length: float | None = None
    """Of BLEU, tokens of the translations over those of the references: below 1 BLEU is multiplied by exp(1 - 1 / length)."""

    def __str__(self) -> str:
        interval = f" [{self.low:.2f}, {self.high:.2f}]" if self.low is not None and self.high is not None else ""
        return f"{self.metric} {self.value:.2f}{interval} ({self.signature})"


def tokenizer_for(language: str) -> str:
    """sacreBLEU's tokenizer for BLEU in a language: 13a but where words have no spaces between them; single characters where they have none
    and sacreBLEU cannot find the words."""
    return _TOKENIZERS.get(base_language(language)) or ("13a" if has_spaces(language) else "char")


def chosen_tokenizer(asked: str, language: str) -> str:
    """The tokenizer that was asked for, or with `auto` that for the language; raises as `check_tokenizer`."""
    name = tokenizer_for(language) if asked == "auto" else asked
    check_tokenizer(name)
    return name


def check_tokenizer(name: str) -> None:
    """Raises ConfigProblem if sacreBLEU has no such tokenizer, MachineProblem if it needs a package that is not there."""
    from sacrebleu.metrics import BLEU

    if name not in BLEU.TOKENIZERS:
        raise ConfigProblem(
            f"sacreBLEU has no tokenizer '{name}'{did_you_mean(name, BLEU.TOKENIZERS)}",
            f"tokenize= one of {', '.join(sorted(BLEU.TOKENIZERS))}",
        )
    package, extra = _PACKAGES.get(name, ("", ""))
    if package and find_spec(package) is None:
        raise missing_extra(package, extra, f"BLEU with the tokenizer {name}")


def evaluate(
    hypotheses: Sequence[str],
    references: Sequence[str],
    metrics: Sequence[Metric] = ("bleu", "chrf++", "ter"),
    tokenize: str = "13a",
    lowercase: bool = False,
    bootstrap: int = 0,
) -> list[Score]:
    """Corpus scores of detokenised text.

    Args:
        tokenize: sacreBLEU's tokenizer for BLEU.
        bootstrap: resamples for the 95 % interval; 0 or 1 for none.

    Raises:
        DataProblem: not as many hypotheses as references, or none at all.
    """
    if len(hypotheses) != len(references):
        raise DataProblem(
            f"{len(hypotheses)} translations for {len(references)} references: they must be line by line", "check both files"
        )
    if not references:
        raise DataProblem("there is nothing to evaluate: no line at all", "check the files or the split")
    check_tokenizer(tokenize)
    scores = []
    for name in metrics:
        metric = metric_of(name, tokenize, lowercase)
        result = metric.corpus_score(list(hypotheses), [list(references)], n_bootstrap=bootstrap)
        interval = (float(result._mean - result._ci), float(result._mean + result._ci)) if bootstrap > 1 else (None, None)
        more = (tuple(result.precisions), result.sys_len / max(result.ref_len, 1)) if name == "bleu" else ()
        scores.append(Score(NAMES[name], result.score, str(metric.get_signature()), *interval, *more))
    return scores


def with_meaning(metrics: Sequence[Metric], tokenize: str, target: str) -> list[Metric]:
    """These, but for TER of a language without spaces whose BLEU counts characters: it counts words, which nothing parts there.

    Raises:
        ConfigProblem: none is left.
    """
    left = [name for name in metrics if not (name == "ter" and tokenize == "char" and not has_spaces(target))]
    if not left:
        raise ConfigProblem("TER counts words, and there are no spaces between them", "metrics=[bleu,chrf++]")
    return left


NAMES = {"bleu": "BLEU", "chrf": "chrF", "chrf++": "chrF++", "ter": "TER"}


def metric_of(name: Metric, tokenize: str, lowercase: bool) -> Any:
    from sacrebleu.metrics import BLEU, CHRF, TER

    metric: Any
    if name == "bleu":
        # force: who asks for no tokenizer need not be told that the text looks tokenised.
        metric = BLEU(tokenize=tokenize, lowercase=lowercase, force=tokenize == "none")
    elif name == "ter":
        asian = tokenize in _TOKENIZERS.values()  # TER counts words, and these texts have no spaces between them
        metric = TER(case_sensitive=not lowercase, normalized=asian, asian_support=asian)
    else:
        metric = CHRF(word_order=2 if name == "chrf++" else 0, lowercase=lowercase)
    # sacreBLEU 2.6 cannot average resamples of which one scores 0: that one is a Python float, the rest are NumPy's.
    compute = metric._compute_score_from_stats

    def compute_in_float(statistics: Any) -> Any:
        score = compute(statistics)
        score.score = float(score.score)
        return score

    metric._compute_score_from_stats = compute_in_float
    return metric
