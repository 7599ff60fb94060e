"""Subwords drawn at random, so that training sees a text cut differently each time.

SentencePiece can draw, too, but salts its generator anew in every process, so that a run could not be repeated or gone on with. Here
what is drawn depends on the seed alone.
"""

import math
from collections.abc import Callable
from random import Random
from typing import Any

from seq2seq.data.text import SPACE_MARK

Draw = Callable[[str, Random], list[str]]
"""One word, with the mark of the space before it -> its pieces."""


class SubwordDrawer:
    """Draws with the pieces of a SentencePiece model, of kind `bpe` or `unigram`."""

    def __init__(self, processor: Any, kind: str, sampling: float) -> None:
        numbers = range(processor.get_piece_size())
        plain = [
            i
            for i in numbers
            if not (processor.is_control(i) or processor.is_unknown(i) or processor.is_byte(i) or processor.is_unused(i))
        ]
        self._ids = {processor.id_to_piece(i): i for i in plain}
        self._bytes = {processor.id_to_piece(i): i for i in numbers if processor.is_byte(i)}
        self._unknown = int(processor.unk_id())
        scores = {processor.id_to_piece(i): float(processor.get_score(i)) for i in plain}
        self._draw: Draw = bpe_dropout(scores, sampling) if kind == "bpe" else unigram_sampling(scores, sampling)

    def __call__(self, text: str, seed: str) -> list[int]:
        """Token ids of a text."""
        random = Random(seed)
        pieces = (piece for word in text.split(" ") if word for piece in self._draw(SPACE_MARK + word, random))
        return [i for piece in pieces for i in self._spell(piece)]

    def _spell(self, piece: str) -> list[int]:
        """A piece, or a character that is none: as bytes if the model has them."""
        if (known := self._ids.get(piece)) is not None:
            return [known]
        return [self._bytes.get(f"<0x{byte:02X}>", self._unknown) for byte in piece.encode()] if self._bytes else [self._unknown]


def bpe_dropout(scores: dict[str, float], dropout: float) -> Draw:
    """Algorithm 1 of Provilkov et al. (2020): before each merge every merge that is possible is left out with probability `dropout`;
    the best of the rest is made, and where none is left the word is done. Without dropout it is BPE."""

    def draw(word: str, random: Random) -> list[str]:
        pieces = list(word)
        chance = random.random
        while len(pieces) > 1:
            best, place = -math.inf, -1
            for i in range(len(pieces) - 1):
                score = scores.get(pieces[i] + pieces[i + 1])
                if score is not None and score > best and (not dropout or chance() >= dropout):
                    best, place = score, i
            if place < 0:
                break
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        return pieces

    return draw


def unigram_sampling(scores: dict[str, float], exponent: float) -> Draw:
    """Kudo (2018): a cut of the word is drawn with probability proportional to that of its pieces to the power `exponent`, exactly: sums
    over all cuts from left to right, then pieces from right to left. A character that is no piece costs 10 more than the rarest."""
    longest = max(map(len, scores))
    unknown = min(scores.values()) - 10.0

    def draw(word: str, random: Random) -> list[str]:
        sums = [0.0] + [-math.inf] * len(word)
        arcs: list[list[tuple[float, int]]] = [[] for _ in sums]
        for end in range(1, len(word) + 1):
            for start in range(max(0, end - longest), end):
                score = scores.get(word[start:end], unknown if end - start == 1 else None)
                if score is not None:
                    arcs[end].append((sums[start] + exponent * score, start))
            greatest = max(weight for weight, _ in arcs[end])
            sums[end] = greatest + math.log(sum(math.exp(weight - greatest) for weight, _ in arcs[end]))
        pieces, end = [], len(word)
        while end:
            weights, starts = zip(*arcs[end], strict=True)
            start = random.choices(starts, [math.exp(weight - sums[end]) for weight in weights])[0]
            pieces.append(word[start:end])
            end = start
        return pieces[::-1]

    return draw
