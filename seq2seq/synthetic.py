"""Floor 4: a recipe that has bundles make more pairs out of another's: back-translation, sequence-level distillation, pairs out of a third language."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq.data.directions import Direction, check_languages_are_told, inheriting, loaded, together, weights_in, written
from seq2seq.data.lines import check_encoding, read_lines, scan, writing_lines
from seq2seq.data.parallel import record_file
from seq2seq.data.recipe import Corpus, make_corpus, pairs_of
from seq2seq.errors import ConfigProblem, DataProblem
from seq2seq.folders import digest_of, remembered
from seq2seq.schema import plain, require
from seq2seq.symbols import SPECIAL


@dataclass(frozen=True)
class Synthetic:
    """The pairs of the recipe `of`, and for each bundle those that it has translated. They are made once and kept in the cache.

    With bundles of different seeds on both sides and the real pairs beside them it is data diversification (Nguyen et al., 2020).
    """

    source: str
    target: str
    of: Any
    decoding: Any
    """How the bundles search: beam search for distillation; for back-translation sampling, too (Edunov et al., 2018)."""
    engine: Any
    """What translates."""
    forward: tuple[str, ...] = ()
    """Bundles that translate the training sources: pairs of a source and its translation (distillation; Kim and Rush, 2016). `A+B` is an ensemble.
    Of `A|B|C` each translates every third line, A the first: what each has not learned from, if they were trained on the recipe `folds` of the same `of`."""
    backward: tuple[str, ...] = ()
    """Bundles that translate target text: pairs of a translation and its original (back-translation; Sennrich et al., 2016)."""
    pivot: tuple[str, ...] = ()
    """Bundles from a third language to source or target, and `of` has its pairs with the other of the two: what one makes of the third language takes
    its place there. So pairs can be made where source and target have none in common, but each has some with a third (Park et al., 2017), and where
    three languages say the same, what is said in the third comes in, too. `of` must tell sides by language: not .tsv, nor columns with names of
    their own. Of `A|B` each has the third language's lines of its fold, so folds only fit where that has as many pairs with both."""
    monolingual: str | None = None
    """A file of target text for `backward`, a sentence a line; unset: the training targets."""
    nearest: bool = False
    """Of the `decoding.n_best` translations of a sentence take not the best but the one most like its real one, by chrF (sequence-level
    interpolation; Kim and Rush, section 3.3). What is made of a third language has nothing to be like: of that the best is taken."""
    keep: bool = True
    """Whether the real pairs stay."""
    weight: float = 1.0
    """How often an epoch takes each pair that a bundle made."""
    mark: str | None = None
    """A word: bt puts the tag <bt> before every source that a bundle made (Caswell et al., 2019)."""

    def __post_init__(self) -> None:
        require(
            (
                self.monolingual is None or bool(self.backward),
                "monolingual text needs a bundle that translates it: backward=[BUNDLE]",
            ),
            (
                not self.nearest or getattr(self.decoding, "n_best", 1) > 1,
                "nearest chooses among several translations: set decoding.n_best, and decoding.beam_size as large",
            ),
            (
                not self.nearest or bool(self.forward or self.backward),
                "nearest is for recipe.forward and recipe.backward: what pivot makes has no real translation to be like",
            ),
            (
                not (self.nearest and self.monolingual),
                "nearest compares with real translations, which monolingual text has none of",
            ),
            (self.weight > 0, f"weight is {self.weight}, it must be above 0"),
            (
                self.mark is None or (self.mark.isalpha() and f"<{self.mark}>" not in SPECIAL),
                f"mark is {self.mark!r}, it must be letters, and no special token",
            ),
            (
                self.mark is None or bool(self.backward or self.pivot),
                "mark is for sources that a bundle has made: recipe.backward or recipe.pivot",
            ),
        )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        of_train = self.keep or self.forward or (self.backward and not self.monolingual)
        real = loaded(self.of, (self.source, self.target), [split for split in splits if split != "train" or of_train])
        if "train" not in splits:
            return real
        tasks = list(self._tasks(real))
        if not tasks:
            raise ConfigProblem(
                "no bundle makes pairs", "recipe.forward=[BUNDLE], recipe.backward=[BUNDLE] or recipe.pivot=[BUNDLE]"
            )
        _check(tasks, self.decoding)
        made = [self._made(task) for task in tasks]
        weights = [1.0] + [self.weight] * len(made)
        marks = ["", *(f"<{self.mark}>" if self.mark and self._makes_sources(task) else "" for task in tasks)]
        if not self.keep:
            real = _without_train(real)
        return together([real, *made], (self.source, self.target), weights, marks)

    def _tasks(self, real: Corpus) -> Iterator["_Task"]:
        forth, back = (self.source, self.target), (self.target, self.source)
        sources, targets = _sides(real)
        for bundle in self.forward:
            yield _Task(bundle, forth, sources, sources, real.key("train"), real, targets)
        for bundle in self.backward:
            if self.monolingual:
                file = Path(self.monolingual)
                record = record_file(file)
                check_encoding(scan(file), self.monolingual)
                lines = partial(read_lines, file)
                yield _Task(bundle, back, lines, lines, record.sha256)
            else:
                yield _Task(bundle, back, targets, targets, real.key("train"), real, sources)
        pairs_of_third = cache(self._pairs_of_third)
        for bundle in self.pivot:
            for third, language in self._pivots(bundle):
                corpus = pairs_of_third(third, self.target if language == self.source else self.source)
                text, kept = _sides(corpus)
                yield _Task(bundle, (third, language), text, kept, corpus.key("train"), corpus)

    def _pairs_of_third(self, third: str, other: str) -> Corpus:
        """Those that `of` has to train on."""
        try:
            corpus = loaded(self.of, (third, other), ("train",))
        except (ConfigProblem, DataProblem) as problem:
            raise type(problem)(f"recipe.pivot wants pairs of {third} and {other}: {problem.message}", problem.fix) from None
        check_languages_are_told(corpus, third)
        return corpus

    def _pivots(self, bundle: str) -> list[Direction]:
        """The directions of a bundle from another language to one of ours."""
        from seq2seq.bundle import config_of

        ours = (self.source, self.target)
        trained = config_of(_folders(bundle)[0]).trained
        pivots = [(third, language) for third, language in trained if third not in ours and language in ours]
        if not pivots:
            raise ConfigProblem(
                f"{bundle} translates {', '.join(map(written, trained))}: no third language to {' or '.join(ours)}",
                "recipe.pivot takes bundles from a third language to source or target; those between the two go into recipe.forward and "
                "recipe.backward",
            )
        return pivots

    def _makes_sources(self, task: "_Task") -> bool:
        return task.direction[1] == self.source

    def _made(self, task: "_Task") -> Corpus:
        """The pairs that a bundle makes."""
        folds = task.bundle.split("|")
        wanted = task.wanted if self.nearest else None

        def made_by(fold: int) -> _Made:
            lines = zip(task.text(), wanted() if wanted else repeat(""), strict=False)
            of_fold = f"{task.key}, fold {fold} of {len(folds)}" if len(folds) > 1 else task.key
            return self._translated(folds[fold], task.direction, islice(lines, fold, None, len(folds)), of_fold, bool(wanted))

        made = [made_by(fold) for fold in range(len(folds))]
        translations = dealt([chain.from_iterable(map(read_lines, each.files)) for each in made])
        pairs = (
            zip(translations, task.kept(), strict=True)
            if self._makes_sources(task)
            else zip(task.kept(), translations, strict=True)
        )
        records = [record_file(file) for each in made for file in each.files]
        said = (
            f"translations from {task.direction[0]} to {task.direction[1]} by the bundle {'|'.join(each.bundle for each in made)}"
        )
        languages, settings = (self.source, self.target), {"train": f"{said}, {task.key}"}
        third = task.of.provenance if task.of and task.direction[0] not in languages else None
        origin = f"{said}, of {third.origin}" if third else said
        licence = f"as its model and its text ({third.licence})" if third else "as its text and its model"
        weights = weights_in(task.of) if task.of else None
        corpus = make_corpus(languages, {"train": pairs}, origin, licence, {"train": records}, weights, settings=settings)
        return inheriting(corpus, task.of) if task.of else corpus

    def _translated(
        self, bundle: str, direction: Direction, lines: Iterable[tuple[str, str]], key: str, likened: bool
    ) -> "_Made":
        """A translation of each line, in files, each of which is kept as soon as it is done. With each line comes what its translation is to
        be like, or nothing."""
        from seq2seq.bundle import manifest_of
        from seq2seq.choosing import bundles_of
        from seq2seq.translator import Translator

        folders = _folders(bundle)
        manifests = [record_file(manifest_of(folder)).sha256 for folder in folders]
        chosen = [(type(settings).__name__, plain(settings)) for settings in (self.decoding, self.engine)]
        for name in ("workers", "threads"):  # they change no translation
            chosen[1][1].pop(name, None)
        asked = [record_file(manifest_of(Path(folder))).sha256 for folder in bundles_of(self.decoding)]
        key = digest_of(_VERSION, key, direction, manifests, chosen, *["nearest"] * likened, *asked)
        translator = cache(lambda: Translator.load(folders, self.decoding, engine=self.engine, direction=direction))

        def write(folder: Path) -> None:
            with writing_lines(folder / _LINES) as writer:
                translations = translator().stream(line for line, _ in block)
                for translation, (_, wanted) in zip(translations, block, strict=True):
                    texts = [candidate.text for candidate in translation.candidates]
                    writer.write(nearest(texts, wanted) if wanted else translation.text)
            print(f"{bundle}, {written(direction)}: {len(files) * CHUNK + len(block):,} lines translated", file=sys.stderr)

        files: list[Path] = []
        lines = iter(lines)
        while block := list(islice(lines, CHUNK)):
            files.append(remembered("synthetic", digest_of(key, len(files)), write) / _LINES)
        return _Made(files, "+".join(manifest[:12] for manifest in manifests))


class _Task(NamedTuple):
    """What a bundle is to translate, and what its translations are paired with."""

    bundle: str
    direction: Direction
    text: Callable[[], Iterator[str]]
    """What it translates, from its beginning each time."""
    kept: Callable[[], Iterator[str]]
    """The other side of the pairs that are made."""
    key: str
    """Tells the text from others."""
    of: Corpus | None = None
    """Whose training pairs it is a side of."""
    wanted: Callable[[], Iterator[str]] | None = None
    """What the translations may be compared with."""


def _sides(corpus: Corpus) -> tuple[Callable[[], Iterator[str]], Callable[[], Iterator[str]]]:
    """Sources and targets of the training pairs, if there are any."""

    def side(which: int) -> Iterator[str]:
        return (pair[which] for pair in pairs_of(corpus.splits["train"]))

    return partial(side, 0), partial(side, 1)


def _check(tasks: Sequence[_Task], decoding: Any) -> None:
    """All bundles are there, know what they are to translate and fit together, and those that choose among translations know what these are of:
    said before one of them translates for hours."""
    from seq2seq.bundle import load_alike
    from seq2seq.choosing import Choosing

    for ensemble, direction in dict.fromkeys((one, task.direction) for task in tasks for one in task.bundle.split("|")):
        load_alike(_folders(ensemble), direction)
    for direction in dict.fromkeys(task.direction for task in tasks) if isinstance(decoding, Choosing) else ():
        decoding.check_knows(*direction)


def _folders(bundle: str) -> list[Path]:
    """Of all that make up an ensemble or translate folds."""
    return [Path(folder) for fold in bundle.split("|") for folder in fold.split("+")]


def _without_train(corpus: Corpus) -> Corpus:
    splits = {name: data for name, data in corpus.splits.items() if name != "train"}
    dropped = {name: count for name, count in corpus.provenance.dropped.items() if name != "train"}
    return replace(corpus, splits=type(corpus.splits)(splits), provenance=replace(corpus.provenance, dropped=dropped))


def dealt(hands: Sequence[Iterator[str]]) -> Iterator[str]:
    """One of each in turn, until the next has none left."""
    for hand in cycle(hands):
        try:
            yield next(hand)
        except StopIteration:
            return


def nearest(texts: Sequence[str], wanted: str) -> str:
    """The text with the best chrF if `wanted` is its reference; of equals the first."""
    from seq2seq.mbr import chrf

    return texts[int(chrf([wanted, *texts])[1:, 0].argmax())]


class _Made(NamedTuple):
    """Files of translations, and what tells the bundle from others."""

    files: list[Path]
    bundle: str


CHUNK = 8192
"""Lines a file; a kill loses at most those in hand."""
_LINES = "translations.txt"
_VERSION = 1
"""To be raised when the same bundle translates otherwise."""
