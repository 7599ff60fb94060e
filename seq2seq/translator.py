"""Floor 3: lines in, lines out. Line i of the answer is the translation of line i, whatever happens in between."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from seq2seq.bundle import Bundle, load_alike
from seq2seq.choosing import Choosing, finding
from seq2seq.data.directions import Direction
from seq2seq.data.splitting import split_to_fit
from seq2seq.data.text import has_spaces, is_blank, one_line, without_halves
from seq2seq.data.tokenizer import normalise
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.loops import loops
from seq2seq.decoding.stepper import UNSPEAKABLE, Hypothesis, Search, Wishes
from seq2seq.errors import ConfigProblem, MachineProblem
from seq2seq.explanation import NOTHING, Explanation, explain
from seq2seq.inference.engine import Engine, TorchEngine
from seq2seq.inference.native import Native
from seq2seq.model.dropout import evaluating
from seq2seq.symbols import EOS, SPECIAL
from seq2seq.wording import Wording, make_lexicon, phrase_tokens, says


def find_device(name: str) -> torch.device:
    """A torch device; `auto` is a GPU where there is one.

    Raises:
        ConfigProblem: torch knows no such device.
        MachineProblem: this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigProblem(f"device is '{name}', which torch does not know", "device=auto, device=cpu or device=cuda") from None
    if device.type == "cuda" and (device.index or 0) >= (there := torch.cuda.device_count()):
        raise MachineProblem(f"device is {name}, but there are {there} GPUs that torch can use", "device=auto")
    return device


@dataclass(frozen=True)
class Candidate:
    """One translation of a line, and the score it is ranked by."""

    text: str
    score: float


CODES = {
    "BLANK": "nothing to translate, answered with nothing",
    "BAD_UTF8": "bytes that are not UTF-8 were taken as U+FFFD",
    "CONTROL": "NUL characters were taken as spaces",
    "LONG_SPLIT": "longer than the model holds: translated in parts and joined",
    "LENGTH_CAP": "the translation was ended at the greatest length, decoding.lengths",
    "LOOP": "the translation repeated itself without end and was made again without repeats",
    "TERM": "a term of the glossary is missing from the translation",
    "EMPTY_OUT": "the model had nothing to say",
    "MEMORY": "memory did not suffice even for this line alone: answered with nothing",
}
"""What may happen to a line on the way, beside being translated."""


@dataclass(frozen=True)
class Translation:
    """All that is known of one line: its candidates, best first, what happened to it on the way, by `CODES`, and if it was asked for,
    what the best is made of."""

    candidates: tuple[Candidate, ...]
    codes: tuple[str, ...] = ()
    explanation: Explanation | None = None

    @property
    def text(self) -> str:
        return self.candidates[0].text


_NOTHING = (Candidate("", 0.0),)
_NO_REPEATS = 3
"""A translation that repeats itself without end is made again with no sequence of so many tokens twice."""


class Translator:
    """Translates text with one model and one search. Make one with `Translator.load("runs/demo/bundle")`."""

    def __init__(
        self,
        bundle: Bundle,
        search: Any = None,
        batch_size: int = 64,
        batch_tokens: int = 4096,
        engine: Engine | None = None,
        wording: Wording | None = None,
        others: Sequence[Bundle] = (),
    ) -> None:
        """
        Args:
            search: a `Search`, or a `Choosing` that holds one; unset: beam search with its defaults.
            batch_size: at most this many sentences at a time.
            batch_tokens: and at most this many source tokens, padding counted.
            engine: what searches; unset: the bundle's model as it is, which may be in training.
            wording: what is wanted of all translations.
            others: bundles that translate as one with the first.

        Raises:
            ConfigProblem: the wording cannot be followed, or models that the search needs are not named or of another direction.
            BundleProblem: these are missing or damaged.
        """
        self.bundle, self.model, self.tokenizer = bundle, bundle.model, bundle.tokenizer
        self.models = [bundle.model, *(other.model for other in others)]
        self.engine = engine or TorchEngine(self.models, batch_size, batch_tokens)
        self.wording = (wording or Wording()).mapped(self._normalise)
        self.spaces = has_spaces(bundle.config.source), has_spaces(bundle.config.target)
        self.wording.check(self.spaces)
        tokenizer, spaced = self.tokenizer, self.spaces[1]
        self._phrase = cache(lambda term: phrase_tokens(tokenizer, term, spaced))  # a term comes in many lines
        search = search or BeamSearch()
        self.search: Any = replace(
            finding(search),  # type: ignore[type-var]
            max_target_length=self.model.config.max_length - 1,
            lexicon=make_lexicon(self.tokenizer, self.spaces[1], self.wording.banned) if self.wording.needs_lexicon else None,
        )
        languages = bundle.config.source, bundle.config.target
        self._choose = search.chooser(*languages) if isinstance(search, Choosing) else None

    @classmethod
    def load(
        cls,
        bundle: str | Path | Sequence[str | Path],
        search: Any = None,
        device: str = "auto",
        batch_size: int = 64,
        engine: Any = None,
        wording: Wording | None = None,
        direction: Direction | None = None,
    ) -> "Translator":
        """A translator from a bundle, or from several that translate as one.

        Args:
            bundle: its folder; several must have one tokenizer and translate between the same languages.
            device: a torch device, or `auto`: a GPU where there is one.
            engine: settings that make an engine, `Native` if unset.
            wording: what is wanted of all translations.
            direction: between which languages, if a bundle knows several.

        Raises:
            BundleProblem: the bundle is missing or damaged.
            ConfigProblem: it does not know the languages.
        """
        bundles = load_alike([bundle] if isinstance(bundle, str | Path) else bundle, direction)
        made = (engine or Native()).make(bundles, find_device(device), batch_size)
        return cls(bundles[0], search, batch_size, engine=made, wording=wording, others=bundles[1:])

    def translate(self, lines: Iterable[str]) -> list[str]:
        """The best translation of each line, all of them in memory.

        Raises:
            TypeError: as `stream`.
        """
        lines = lines if isinstance(lines, str) else list(lines)
        return [translation.text for translation in self.stream(lines, chunk=max(len(lines), 1))]

    def stream(self, lines: Iterable[str], chunk: int = 8192) -> Iterator[Translation]:
        """Translate any number of lines with `chunk` of them in memory. Longer chunks sort better by length.

        Raises:
            TypeError: a line is no text, or a text came in place of lines.
        """
        if isinstance(lines, str):
            raise TypeError("one text was given where lines are translated: put it in a list")
        lines = iter(lines)
        done = 0
        while block := list(islice(lines, chunk)):
            for number, line in enumerate(block, start=done):
                if not isinstance(line, str):
                    raise TypeError(f"line {number}, counted from 0, is of type {type(line).__name__}, and text is translated")
            yield from self.translate_block(block)
            done += len(block)

    def translate_block(self, lines: Sequence[str], prefixes: Sequence[str] = ()) -> list[Translation]:
        """Translate some lines together.

        Args:
            prefixes: what each translation must begin with; none: with nothing in particular.
        """
        parts: list[_Part] = []
        spans: list[range] = []
        for line, ids, prefix in zip(lines, self._encode(lines), prefixes or [""] * len(lines), strict=True):
            start = len(parts)
            parts += self._parts(line, ids, prefix)
            spans.append(range(start, len(parts)))
        found = self._search(parts)
        explained = self._explain(parts, found) if self.wording.explain else [NOTHING] * len(parts)
        return [
            self._join(line, [parts[i] for i in span], [found[i] for i in span], [explained[i] for i in span])
            for line, span in zip(lines, spans, strict=True)
        ]

    def try_wishes(self, prefixes: bool = False) -> None:
        """Translate something with a wish of every kind that may come, so that what cannot follow it says so before the first line that has one.

        Raises:
            ConfigProblem: the search or the engine cannot.
        """
        word = len(SPECIAL)
        phrases = ((word,),) if self.wording.glossary else ()
        if phrases or prefixes:
            self.engine.search(self.search, [[word, EOS]], [Wishes((word,) if prefixes else (), phrases)])

    def _normalise(self, text: str) -> str:
        """As the model sees it."""
        return normalise(text, self.tokenizer.config.normalize)

    def _parts(self, line: str, ids: list[int], prefix: str) -> "list[_Part]":
        """A line in as many parts as the model needs; none of a blank one."""
        if is_blank(line):
            return []
        texts = [(line, ids)] if self._fits(ids) else self._split(line)
        return [self._part(text, ids, "" if number else prefix) for number, (text, ids) in enumerate(texts)]

    def _part(self, text: str, ids: list[int], prefix: str) -> "_Part":
        terms = self.wording.glossary.wanted(self._normalise(text), self.spaces[0]) if self.wording.glossary else []
        phrases = tuple(tokens for term in terms if (tokens := self._phrase(term)) and not {*UNSPEAKABLE} & {*tokens})
        beginning = tuple(self.tokenizer.encode_target([prefix])[0][: self.model.config.max_length - 1]) if prefix.strip() else ()
        return _Part(text, ids, terms, Wishes(tuple(token for token in beginning if token != EOS), phrases))

    def _encode(self, lines: Sequence[str]) -> list[list[int]]:
        # A line so long that it will be split is not encoded whole first.
        return self.tokenizer.encode_source([line if self._may_fit(line) else "" for line in lines])

    def _may_fit(self, text: str) -> bool:
        return len(text) <= _MOST_CHARACTERS_A_TOKEN * self.model.config.max_length

    def _fits(self, ids: Sequence[int]) -> bool:
        return 1 < len(ids) <= self.model.config.max_length

    def _split(self, line: str) -> list[tuple[str, list[int]]]:
        texts = split_to_fit(
            line,
            lambda text: self._may_fit(text) and len(self.tokenizer.encode_source([text])[0]) <= self.model.config.max_length,
        )
        return [(text, ids) for text, ids in zip(texts, self.tokenizer.encode_source(texts), strict=True) if len(ids) > 1]

    def _search(self, parts: "Sequence[_Part]") -> "list[_Found]":
        """What search finds for each part."""
        with evaluating(self.models):
            found = [_Found(hypotheses) for hypotheses in self._ask(self.search, parts)]
            looping = [i for i, (part, of_part) in enumerate(zip(parts, found, strict=True)) if of_part.loops(part)]
            careful = replace(self.search, no_repeats=min(_NO_REPEATS, self.search.no_repeats or _NO_REPEATS))
            for i, hypotheses in zip(looping, self._ask(careful, [parts[i] for i in looping]), strict=True):
                found[i] = _Found(hypotheses, looped=True)
        return found

    def _ask(self, search: Search, parts: "Sequence[_Part]") -> list[list[Hypothesis]]:
        """Those that must say as many phrases together: their beam has room for these."""
        found: list[list[Hypothesis]] = [[] for _ in parts]
        for phrases in sorted({len(part.wishes.phrases) for part in parts}):
            places = [i for i, part in enumerate(parts) if len(part.wishes.phrases) == phrases]
            of_these = search.with_room(phrases) if isinstance(search, BeamSearch) else search
            wishes = [parts[i].wishes for i in places]
            wishes = wishes if any(wish != Wishes() for wish in wishes) else []
            for i, hypotheses in zip(places, self.engine.search(of_these, [parts[i].ids for i in places], wishes), strict=True):
                found[i] = hypotheses
        return self._chosen(parts, found)

    def _explain(self, parts: "Sequence[_Part]", found: "Sequence[_Found]") -> list[Explanation]:
        """Of the best hypothesis of each part."""
        explained = [NOTHING] * len(parts)
        known = [i for i, part in enumerate(found) if part.hypotheses]
        sources, targets = [parts[i].ids for i in known], [found[i].hypotheses[0].tokens for i in known]
        for i, explanation in zip(known, explain(self.models, self.tokenizer, sources, targets, self.spaces), strict=True):
            explained[i] = explanation
        return explained

    def _chosen(self, parts: "Sequence[_Part]", found: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
        """As they are, but where something chooses among them as text."""
        if self._choose is None:
            return found
        texts = [self.tokenizer.decode_target([hypothesis.tokens for hypothesis in hypotheses]) for hypotheses in found]
        return self._choose([part.text for part in parts], texts, found, next(self.model.parameters()).device)

    def _join(
        self, line: str, parts: "Sequence[_Part]", found: "Sequence[_Found]", explained: Sequence[Explanation]
    ) -> Translation:
        """The parts of one line -> its translation. A line in several parts has as many candidates as its poorest part."""
        before = (("BAD_UTF8",) if _has_bad_bytes(line) else ()) + (("CONTROL",) if "\0" in line else ())
        explanation = sum(explained, NOTHING) if self.wording.explain else None
        if not parts:
            return Translation(_NOTHING, (*before, "BLANK"), explanation)
        candidates = []
        between = " " if self.spaces[1] else ""
        for rank in range(min((len(part.hypotheses) for part in found if part.hypotheses), default=0)):
            chosen = [part.hypotheses[rank] for part in found if part.hypotheses]
            texts = self.tokenizer.decode_target([hypothesis.tokens for hypothesis in chosen])
            candidates.append(Candidate(one_line(between.join(texts)), sum(hypothesis.score for hypothesis in chosen)))
        best = candidates[0].text if candidates else ""
        happened = {
            "LONG_SPLIT": len(parts) > 1,
            "LENGTH_CAP": any(part.hypotheses and part.hypotheses[0].capped for part in found),
            "LOOP": any(part.looped for part in found),
            "MEMORY": any(not part.hypotheses for part in found),
            "TERM": not all(says(self._normalise(best), term, self.spaces[1]) for part in parts for term in part.terms),
            "EMPTY_OUT": bool(candidates) and is_blank(best),
        }
        codes = (*before, *(code for code, did in happened.items() if did))
        return Translation(tuple(candidates) or _NOTHING, codes, explanation)


@dataclass(frozen=True)
class _Part:
    """What is translated at once: its text and ids, the terms its translation must hold, and what search is told of them."""

    text: str
    ids: list[int]
    terms: list[str]
    wishes: Wishes


@dataclass(frozen=True)
class _Found:
    """Hypotheses of one part of a line, best first; none if memory did not suffice."""

    hypotheses: list[Hypothesis]
    looped: bool = False

    def loops(self, part: _Part) -> bool:
        """Whether the best repeats itself without end, after what it must begin with."""
        return bool(self.hypotheses) and loops(self.hypotheses[0].tokens[len(part.wishes.prefix) :], part.ids)


_MOST_CHARACTERS_A_TOKEN = 16
"""A text of more characters a token than this is taken to be too long without counting its tokens."""


def _has_bad_bytes(line: str) -> bool:
    """U+FFFD, which the reader puts in the place of such bytes, or half of a surrogate pair, which is no character."""
    return "\ufffd" in without_halves(line)
