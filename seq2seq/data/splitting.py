"""Texts longer than a model can hold: cut at the best places, never cut off."""

import re
from collections.abc import Callable

_BREAKS = (
    re.compile(r"(?:(?<=[.!?…])[\"'”’»)\]]*(?=\s)|(?<=[。！？])[」』）”’]*)(\s*)"),  # after a sentence
    re.compile(r"(?:(?<=[,;:—–])(?=\s)|(?<=[、，；：]))(\s*)"),  # after a clause
    re.compile(r"(\s+)"),  # at a space
)
"""Each with what is lost at a cut in its group."""


def split_to_fit(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Parts of `text`, each of which fits, in order: halved at the sentence end, clause end or space nearest to the
    middle, in that order of preference, until it does. Only the white space at a cut is lost.

    Args:
        fits: True for short enough texts; every single character must fit.
    """
    waiting, done = [text], []
    while waiting:
        part = waiting.pop()
        if len(part) <= 1 or fits(part):
            done.append(part)
        else:
            left, right = _halve(part)
            waiting += [right, left]
    return done


def _halve(text: str) -> tuple[str, str]:
    middle = len(text) / 2
    for pattern in _BREAKS:
        # A cut near an edge would peel a long text crumb by crumb; then a lesser place nearer the middle is better.
        cuts = [
            m.span(1)
            for m in pattern.finditer(text, len(text) // 5, len(text) - len(text) // 5)
            if m.start(1) > 0 and m.end() < len(text)
        ]
        if cuts:
            end, start = min(cuts, key=lambda cut: abs(cut[0] - middle))
            return text[:end], text[start:]
    return text[: int(middle)], text[int(middle) :]
