import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data.alignment import FARTHEST, WINDOW, Lengths, find_shift, lengths, parting, said_of_shift


def translations(count: int, seed: int) -> tuple[Lengths, Lengths]:
    """Lengths as those of sentences are spread, and of translations that are a fifth longer or shorter."""
    drawn = np.random.default_rng(seed)
    source = np.round(5 + drawn.lognormal(4, 0.4, count))
    return source, np.round(5 + source * drawn.lognormal(0.1, 0.15, count))


def without(side: Lengths, place: int, lines: int) -> Lengths:
    """As many lines as before: some lost at a place, others at the end instead."""
    return np.concatenate((side[:place], side[place + lines :], side[:lines]))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(0, 3_000), st.integers(1, FARTHEST), st.booleans())
def test_a_loss_is_found_where_it_is(seed: int, place: int, lines: int, of_target: bool) -> None:
    source, target = translations(3_400, seed)
    sides = (source, without(target, place, lines)) if of_target else (without(source, place, lines), target)
    found = find_shift(*sides)
    assert found is not None
    assert found.lines == (-lines if of_target else lines)
    assert abs(found.first - place) <= 30
    assert abs(found.count - (3_400 - place)) <= 30 + WINDOW


@given(st.integers(0, 10_000), st.sampled_from(["translations", "unrelated", "sorted", "alike", "periodic", "few"]))
def test_nothing_is_found_where_nothing_is_lost(seed: int, kind: str) -> None:
    source, target = translations(2_000, seed)
    sides = {
        "translations": (source, target),
        "unrelated": (source, target[np.random.default_rng(seed + 1).permutation(len(target))]),
        "sorted": (np.sort(source), target[np.argsort(source, kind="stable")]),
        "alike": (np.full_like(source, 30.0), target),
        "periodic": (np.resize(source[:7], len(source)), np.resize(target[:7], len(target))),
        "few": (source[: WINDOW - 1], np.roll(target[: WINDOW - 1], 1)),
    }[kind]
    assert find_shift(*sides) is None


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=12),
    st.lists(st.integers(1, 30), min_size=1, max_size=12),
    st.integers(-3, 3),
)
def test_the_parting_is_the_best_of_all(source: list[int], target: list[int], lines: int) -> None:
    """By trying each: pairs before it as they stand, those from it on shifted."""
    one, other = np.array(source, dtype=float), np.array(target, dtype=float)
    count = min(len(source) - max(0, -lines), len(target) - max(0, lines))

    def cost(place: int) -> float:
        before = sum(abs(np.log(source[i] / target[i])) for i in range(place))
        return before + sum(abs(np.log(source[i + max(0, -lines)] / target[i + max(0, lines)])) for i in range(place, count))

    if count > 0:
        assert cost(parting(one, other, lines)) == pytest.approx(min(cost(place) for place in range(count + 1)))


def test_it_is_said_in_words() -> None:
    source, target = (["x" * int(length) for length in side] for side in translations(1_000, 1))
    assert said_of_shift(source, target) is None
    said = said_of_shift(source, [*target[:500], "one", "more", *target[500:-2]])
    assert said is not None
    assert "the target has 2 lines too many" in said
    assert (lengths(["", "abc"]) == [5, 8]).all()
