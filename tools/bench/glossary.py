"""How many terms of a glossary hold in translations, with and without it, and what that costs in BLEU.

    python tools/bench/glossary.py BUNDLE DATA_PREFIX VALIDATION_PREFIX [--sentences 500] [--beam 8]

A glossary is made of the training data: rare source words and the target words that most often come with them (Dice coefficient). Half of
its terms are then given another target word of the corpus, drawn at random, which a model would not say by itself. Sentences of the
validation data that hold a term are translated plainly and with the glossary.
"""

import argparse
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("data", help="prefix of the training data: PREFIX.en and PREFIX.de, plain or .gz")
    parser.add_argument("validation", help="likewise")
    parser.add_argument("--sentences", type=int, default=500)
    parser.add_argument("--beam", type=int, default=8)
    options = parser.parse_args()

    from seq2seq.decoding.beam import BeamSearch
    from seq2seq.evaluation import evaluate
    from seq2seq.inference.native import Native
    from seq2seq.translator import Translator
    from seq2seq.wording import Glossary, Wording, says

    search = BeamSearch(options.beam)
    plain = Translator.load(options.bundle, search, engine=Native(workers=2))
    languages = plain.bundle.config.source, plain.bundle.config.target
    pairs = read_pairs(options.data, languages)
    usual = pairs_of_words(pairs)
    generator = random.Random(1)
    targets = sorted(set(usual.values()))
    strange = {source: generator.choice(targets) for source in generator.sample(sorted(usual), len(usual) // 2)}
    glossary = Glossary(tuple((usual | strange).items()))
    chosen = [(s, t) for s, t in read_pairs(options.validation, languages) if glossary.wanted(s, True)][: options.sentences]
    sources, references = [s for s, _ in chosen], [t for _, t in chosen]
    print(
        f"{len(glossary.terms):,} terms, {len(strange):,} of them drawn at random; {len(chosen)} sentences; beam {options.beam}"
    )
    for name, translator in (
        ("plain", plain),
        ("with the glossary", Translator.load(options.bundle, search, engine=Native(workers=2), wording=Wording(glossary))),
    ):
        start = time.perf_counter()
        found = list(translator.stream(sources))
        seconds = time.perf_counter() - start
        held = [
            says(translation.text, term, True)
            for source, translation in zip(sources, found, strict=True)
            for term in glossary.wanted(source, True)
        ]
        (score, *_) = evaluate([t.text for t in found], references, ["bleu"], "13a", False, 0)
        flagged = sum("TERM" in t.codes for t in found)
        print(
            f"{name}: {sum(held)} of {len(held)} terms hold, {flagged} sentences flagged TERM, BLEU {score.value:.2f}, "
            f"{len(chosen) / seconds:.1f} sentences/s"
        )


def read_pairs(prefix: str, languages: tuple[str, str]) -> list[tuple[str, str]]:
    from seq2seq.data.parallel import find_side, parallel_pairs

    source, target = (find_side(Path(prefix), language) for language in languages)
    return list(parallel_pairs(source, target))


def pairs_of_words(pairs: list[tuple[str, str]], least: int = 20, most: int = 300) -> dict[str, str]:
    """Of each source word that is neither rare nor common the target word that shares most sentences with it."""
    words = [[set(re.findall(r"[^\W\d_]{3,}", text)) for text in pair] for pair in pairs]
    sources, targets, both = Counter(), Counter(), Counter()  # type: ignore[var-annotated]
    for source, target in words:
        sources.update(w.lower() for w in source)
        targets.update(target)
    for source, target in words:
        for s in {w.lower() for w in source}:
            if least <= sources[s] <= most:
                both.update((s, t) for t in target if least <= targets[t] <= most)
    best: dict[str, tuple[float, str]] = {}
    for (s, t), count in both.items():
        best[s] = max(best.get(s, (0.0, "")), (2 * count / (sources[s] + targets[t]), t))
    return {s: t for s, (dice, t) in best.items() if dice > 0.3}


if __name__ == "__main__":
    main()
