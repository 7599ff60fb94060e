"""Translations that repeat themselves without end."""

from collections.abc import Sequence

_LONGEST_CYCLE, _TIMES = 4, 8


def loops(target: Sequence[int], source: Sequence[int]) -> bool:
    """Whether a translation repeats itself without end: up to 4 tokens 8 times over, more than the source does, or more than
    four times as long as the source."""
    if len(target) > max(4 * len(source), 5 * _TIMES):
        return True
    most = _most_repeats(target)
    return most >= _TIMES and most > 1.5 * _most_repeats(source)


def _most_repeats(tokens: Sequence[int]) -> int:
    """How often in a row the most repeated sequence of up to 4 tokens stands there."""
    most = 1
    for width in range(1, _LONGEST_CYCLE + 1):
        run = 0
        for i in range(width, len(tokens)):
            run = run + 1 if tokens[i] == tokens[i - width] else 0
            most = max(most, run // width + 1)
    return most
