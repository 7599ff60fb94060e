"""Phrases that a translation must say: lexically constrained beam search.

A beam of the most probable hypotheses would never get to an improbable phrase. So hypotheses are parted into banks by how much of
their phrases they have said, and the places of the beam are shared out among the banks (Post and Vilar, 2018; all sentences
at once as in Hu et al., 2019). What has been said is read off the tokens at each step; nothing is remembered.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from seq2seq.decoding.best import best_continuations
from seq2seq.decoding.stepper import NEVER
from seq2seq.symbols import EOS, PAD


def said(phrases: Tensor, tokens: Tensor, ends_word: Tensor) -> tuple[Tensor, Tensor]:
    """How far hypotheses are with their phrases.

    Args:
        phrases: (B, C, M), each ending in the last column, PAD before it; all PAD: no phrase.
        tokens: (B, K, L), the newest last.
        ends_word: (V), see `Lexicon`.

    Returns:
        done: (B, K, C), True where the phrase was said and its last word has ended, or there is no phrase.
        begun: (B, K, C), how many tokens of the phrase the hypothesis ends with; 0 where it is done.
    """
    M = phrases.size(2)
    lengths = (phrases != PAD).sum(dim=2)
    windows = F.pad(tokens, (M, 0)).unfold(2, M, 1)[:, :, None]  # (B, K, 1, L + 1, M): window j ends before token j
    spoken = phrases[:, None, :, None]
    ends_with = ((windows == spoken) | (spoken == PAD)).all(dim=4)  # (B, K, C, L + 1)
    done = (ends_with[..., :-1] & ends_word[tokens][:, :, None]).any(dim=3) | (lengths == 0)[:, None]
    begun = torch.zeros_like(done, dtype=torch.long)
    first = (M - lengths)[:, :, None] + torch.arange(M, device=tokens.device)
    from_its_start = phrases.gather(2, first.clamp(max=M - 1)).masked_fill(first >= M, PAD)
    for m in range(1, min(M, tokens.size(2)) + 1):
        same = (tokens[:, :, None, -m:] == from_its_start[:, None, :, :m]).all(dim=3) & (lengths >= m)[:, None]
        begun = begun.masked_fill(same, m)
    return done, begun.masked_fill(done, 0)


def following(phrases: Tensor, done: Tensor, begun: Tensor) -> Tensor:
    """(B, K, C): the next token of each phrase, of hypotheses that are so far with them (see `said`); PAD where none is left to say."""
    M, lengths = phrases.size(2), (phrases != PAD).sum(dim=2)[:, None]
    place = (M - lengths + begun).clamp(max=M - 1)
    tokens = phrases[:, None].expand(*done.shape, M).gather(3, place[..., None]).squeeze(3)
    return tokens.masked_fill(done | (begun == lengths), PAD)


def phrase_continuations(
    logits: Tensor, scores: Tensor, count: int, phrases: Tensor, tokens: Tensor, ends_word: Tensor, must_end: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As `best_continuations`, but of hypotheses that have said more of their phrases some too: taken in turn from each bank.
    No hypothesis ends before it has said its phrases, unless it must: then those that have said most. In place.

    Args:
        logits: (B, K, V).
        scores: (B, K).
        phrases, tokens, ends_word: see `said`.
        must_end: (B), where no more tokens may come and nothing is finished yet.
    """
    done, begun = said(phrases, tokens, ends_word)
    lengths = (phrases != PAD).sum(dim=2)[:, None]
    complete = ~done & (begun == lengths)  # it only remains that the word ends
    met = (done | complete).sum(dim=2).masked_fill(scores == NEVER, -1)
    may_end = (met == done.size(2)) | (must_end[:, None] & (met == met.amax(dim=1, keepdim=True)))
    logits[:, :, EOS] = logits[:, :, EOS].masked_fill(~may_end, NEVER)
    candidates = (
        best_continuations(logits, scores, count),
        _best_of_each(logits, scores),
        _next_of_phrases(logits, scores, phrases, done, begun),
        _word_ends(logits, scores, complete.any(dim=2), ends_word),
    )
    sums, chosen, slots = (torch.cat(of_all, dim=1) for of_all in zip(*candidates, strict=True))
    keys = (slots * logits.size(2) + chosen).masked_fill(sums == NEVER, -1)
    sums = sums.masked_fill(_seen_before(keys), NEVER)

    extended = torch.cat((tokens.gather(1, slots[:, :, None].expand(-1, -1, tokens.size(2))), chosen[:, :, None]), dim=2)
    done, begun = said(phrases, extended, ends_word)
    farthest = begun.amax(dim=2)
    banks = 2 * (done & (phrases != PAD).any(dim=2)[:, None]).sum(dim=2) + (farthest > 0)
    order = _in_turn(sums, banks, farthest)[:, :count]
    return sums.gather(1, order), chosen.gather(1, order), slots.gather(1, order)


def _best_of_each(logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuation of each hypothesis, so that no bank is without one: sums, tokens, slots, each (B, K)."""
    best, tokens = logits.max(dim=2)
    return scores + best, tokens, _slots(tokens)


def _next_of_phrases(
    logits: Tensor, scores: Tensor, phrases: Tensor, done: Tensor, begun: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Every hypothesis with the next token of each phrase it has not said: (B, K * C) each."""
    tokens = following(phrases, done, begun)
    sums = (scores[:, :, None] + logits.gather(2, tokens)).masked_fill(tokens == PAD, NEVER)
    return sums.flatten(1), tokens.flatten(1), _slots(scores)[:, :, None].expand(tokens.shape).flatten(1)


def _word_ends(logits: Tensor, scores: Tensor, complete: Tensor, ends_word: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuation that ends the last word of a phrase, of hypotheses that have just said one: (B, K) each."""
    best, tokens = logits.masked_fill(~ends_word, NEVER).max(dim=2)
    return (scores + best).masked_fill(~complete, NEVER), tokens, _slots(tokens)


def _slots(of: Tensor) -> Tensor:
    return torch.arange(of.size(1), device=of.device).expand(of.size(0), -1)


def _seen_before(keys: Tensor) -> Tensor:
    """(B, N): True where the same key stands in an earlier column."""
    same = keys[:, :, None] == keys[:, None, :]
    return same.tril(-1).any(dim=2)


def _in_turn(sums: Tensor, banks: Tensor, farthest: Tensor) -> Tensor:
    """(B, N) places: first the best of each bank, from the bank that has said most, then the second of each, and so on. Within a
    bank those who are farther with a phrase come first, so that it is said to its end."""
    possible = sums > NEVER
    order = sums.argsort(dim=1, descending=True)
    order = order.gather(1, farthest.gather(1, order).argsort(dim=1, descending=True, stable=True))
    in_order = banks.gather(1, order).masked_fill(~possible.gather(1, order), -1)
    rank = (in_order[:, :, None] == in_order[:, None, :]).tril(-1).sum(dim=2).masked_fill(in_order < 0, sums.size(1))
    turn = rank * (int(banks.max()) + 2) - in_order
    return order.gather(1, turn.argsort(dim=1, stable=True))
