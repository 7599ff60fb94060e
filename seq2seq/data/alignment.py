"""Whether line i of one side is the translation of line i of the other, judged by lengths alone (after Gale and Church, 1993)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[np.float64]
"""Of the lines of one side, in characters and in their order; above 0."""

WINDOW = 200
"""Pairs that are looked at together. Lengths that have nothing to do with each other correlate by 0.07 then, those of translations by 0.7 and more."""
FARTHEST = 20
"""Lines by which one side may lag behind."""
GAIN = 0.4
"""What the correlation has to gain by a shift; chance alone gains half of that among so many shifts."""


def lengths(lines: Iterable[str]) -> Lengths:
    """Each five longer than it is, so that short lines do not count for more than they tell."""
    return np.fromiter((len(line) + 5 for line in lines), dtype=np.float64)


def said_of_shift(source: Iterable[str], target: Iterable[str]) -> str | None:
    """Where the two sides part, in words, if they do."""
    shift = find_shift(lengths(source), lengths(target))
    if shift is None:
        return None
    more, fewer = ("target", "source") if shift.lines > 0 else ("source", "target")
    apart = f"{abs(shift.lines)} line{'s' * (abs(shift.lines) > 1)}"
    return (
        f"near pair {shift.first + 1:,} the {more} has {apart} too many, or the {fewer} lost as much: "
        f"by their lengths, {shift.count:,} pairs from there on are no translations"
    )


@dataclass(frozen=True)
class Shift:
    """Pairs of which the lengths fit when the target is taken `lines` later; those of `count` pairs, the first of them `first`, counted from 0."""

    lines: int
    first: int
    count: int


def find_shift(source: Lengths, target: Lengths) -> Shift | None:
    """The first stretch of pairs that fit much better when one side is some lines later, and how many such pairs there are in all; None if
    there is none, or fewer than a window."""
    logs = np.log(source), np.log(target)
    found = []
    for start in range(0, len(source) - WINDOW + 1, WINDOW):
        here = _correlation(*logs, start, 0)
        if here < 1 - GAIN:
            by_lines = {lines: _correlation(*logs, start, lines) for lines in range(-FARTHEST, FARTHEST + 1)}
            best = max(by_lines, key=lambda lines: by_lines[lines])
            if by_lines[best] > here + GAIN:
                found.append((start, best))
    if not found:
        return None
    start, lines = found[0]
    before = max(0, start - WINDOW)  # where the shift may have begun already
    stretch = slice(before, start + WINDOW)
    first = before + parting(source[stretch], target[stretch], lines)
    return Shift(lines, first, start - first + len(found) * WINDOW)


def _correlation(source: Lengths, target: Lengths, start: int, lines: int) -> float:
    """Of the logarithms of lengths in a window with those so many lines later; 0 where there are too few of them, or all are the same."""
    first, end = max(start, -lines), min(start + WINDOW, len(target) - lines)
    one, other = source[first:end], target[first + lines : end + lines]
    if len(one) < WINDOW // 2 or not one.std() or not other.std():
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def parting(source: Lengths, target: Lengths, lines: int) -> int:
    """The pair from which on lengths fit better when the target is taken so many lines later, the source if `lines` is negative."""
    later_source, later_target = source[max(0, -lines) :], target[max(0, lines) :]
    count = min(len(later_source), len(later_target))
    here = np.abs(np.log(source[:count] / target[:count]))
    there = np.abs(np.log(later_source[:count] / later_target[:count]))
    cost = np.concatenate(([0.0], np.cumsum(here - there)))
    return int(cost.argmin())
