"""Floor 3: what a translation is made of: which words belong together, and how sure the model is of each token."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seq2seq.data.text import beginnings, spelled, words_of
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.inference.forced import as_one, force, mean_attention
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import EOS


@dataclass(frozen=True)
class Explanation:
    """Of one translation.

    Attributes:
        source_words: what white space parts in the source; in a language without spaces, its tokens.
        target_words: likewise.
        links: (source word, target word), numbered from 0, in the order of target words: the source word that got most attention
            while the target word was being chosen.
        tokens: of each target token, the end too, its text and its probability given all before it.
    """

    source_words: tuple[str, ...]
    target_words: tuple[str, ...]
    links: tuple[tuple[int, int], ...]
    tokens: tuple[tuple[str, float], ...]

    @property
    def confidence(self) -> float | None:
        """The geometric mean of the tokens' probabilities; None where nothing was said."""
        if not self.tokens:
            return None
        return math.exp(math.fsum(math.log(max(p, 1e-30)) for _, p in self.tokens) / len(self.tokens))

    def __add__(self, other: "Explanation") -> "Explanation":
        """Of a line that was translated in two parts."""
        moved = tuple((s + len(self.source_words), t + len(self.target_words)) for s, t in other.links)
        return Explanation(
            self.source_words + other.source_words,
            self.target_words + other.target_words,
            self.links + moved,
            self.tokens + other.tokens,
        )


NOTHING = Explanation((), (), (), ())


def explain(
    models: Sequence[Transformer],
    tokenizer: Tokenizer,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    spaces: tuple[bool, bool],
) -> list[Explanation]:
    """Explain translations; several models are asked together, as when they translate as one.

    Args:
        sources: ids of each sentence, EOS at the end.
        targets: ids of each translation, without EOS.
        spaces: whether source and target language are written with spaces.
    """
    complete = [[*target, EOS] for target in targets]
    by_model = [force(model, sources, complete, attention=True) for model in models]
    pieces = tokenizer.source_pieces(), tokenizer.target_pieces()
    begins = [beginnings(names, spaced) for names, spaced in zip(pieces, spaces, strict=True)]
    explained = []
    for source, target, *forced in zip(sources, complete, *by_model, strict=True):
        probabilities = as_one(forced).exp().tolist()
        attention = mean_attention(forced)
        front = tokenizer.tags_before(source)  # no word of the text
        sides = source[front:-1], target[:-1]
        words = [words_of(ids, of_side) for ids, of_side in zip(sides, begins, strict=True)]
        texts = [_texts(of_side, names) for of_side, names in zip(words, pieces, strict=True)]
        tokens = tuple(zip((pieces[1][i] for i in target), probabilities, strict=True))
        explained.append(Explanation(texts[0], texts[1], _links(attention[:-1, front:-1], *words), tokens))
    return explained


def _texts(words: Sequence[Sequence[int]], pieces: Sequence[str]) -> tuple[str, ...]:
    return tuple(spelled(pieces[i] for i in word) for word in words)


def _links(
    attention: Tensor, source_words: Sequence[Sequence[int]], target_words: Sequence[Sequence[int]]
) -> tuple[tuple[int, int], ...]:
    """attention (T, S) between tokens, and the tokens of each word -> the best source word of each target word."""
    source, target = ([number for number, word in enumerate(words) for _ in word] for words in (source_words, target_words))
    if not source or not target:
        return ()
    by_source = torch.zeros(len(target), source[-1] + 1).index_add_(1, torch.tensor(source), attention.cpu().float())
    by_word = torch.zeros(target[-1] + 1, source[-1] + 1).index_add_(0, torch.tensor(target), by_source)
    return tuple((best, word) for word, best in enumerate(by_word.argmax(dim=1).tolist()))
