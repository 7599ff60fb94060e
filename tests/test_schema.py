from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from seq2seq.errors import ConfigProblem
from seq2seq.schema import build, plain, require


@dataclass(frozen=True)
class Inner:
    size: int = 1
    kind: Literal["red", "green"] = "red"


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    flag: bool = False
    maybe: int | None = None
    pair: tuple[float, float] = (1.0, 2.0)
    items: list[str] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)
    free: Any = None

    def __post_init__(self) -> None:
        require((self.rate <= 1, f"rate is {self.rate}, it must be at most 1"))


def test_builds_what_plain_takes_apart() -> None:
    outer = Outer("a", 0.25, True, 3, (4.0, 5.0), ["x"], Inner(2, "green"))
    assert build(Outer, plain(outer)) == outer


def test_numbers_are_read_as_people_write_them() -> None:
    assert build(Outer, {"name": "a", "rate": 1}).rate == 1.0
    assert build(Outer, {"name": "a", "rate": "4e-3"}).rate == 0.004  # YAML 1.1 reads it as text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "a", "rte": 1}, "rte: there is no such setting, did you mean 'rate'?"),
        ({}, "name: missing"),
        ({"name": False}, 'quote it, for example "no"'),
        ({"name": "a", "rate": "fast"}, "rate: expected a number, got 'fast'"),
        ({"name": "a", "flag": 1}, "flag: expected true or false"),
        ({"name": "a", "maybe": 1.5}, "maybe: expected a whole number"),
        ({"name": "a", "maybe": True}, "maybe: expected a whole number"),
        ({"name": "a", "pair": [1]}, "pair: expected 2 values"),
        ({"name": "a", "items": "x"}, "items: expected a list"),
        ({"name": "a", "inner": {"kind": "gren"}}, "inner.kind: 'gren' is not one of red, green, did you mean 'green'?"),
        ({"name": "a", "inner": 3}, "inner: expected a group of settings"),
        ({"name": "a", "rate": 2}, "rate is 2.0, it must be at most 1"),
    ],
)
def test_says_what_is_wrong(values: dict, said: str) -> None:
    with pytest.raises(ConfigProblem) as raised:
        build(Outer, values)
    assert said in str(raised.value)


def test_a_mapping_holds_what_it_is_said_to() -> None:
    @dataclass(frozen=True)
    class Named:
        of_each: dict[str, int | None]

    assert build(Named, {"of_each": {"a": 1, "b": None}}) == Named({"a": 1, "b": None})
    with pytest.raises(ConfigProblem, match=r"of_each\.b: expected a whole number, got 'x'"):
        build(Named, {"of_each": {"a": 1, "b": "x"}})


def test_says_everything_at_once() -> None:
    with pytest.raises(ConfigProblem) as raised:
        build(Outer, {"rate": "x", "inner": {"size": "y", "colour": 1}})
    for said in ("name: missing", "rate: expected", "inner.size: expected", "inner.colour: there is no such setting"):
        assert said in raised.value.message


def test_only_our_own_config_may_choose_a_class() -> None:
    values = {"name": "a", "free": {"_target_": "tests.test_schema.Inner", "size": 7}}
    assert build(Outer, values, allow_targets=True).free == Inner(7)
    assert build(Outer, values).free == values["free"]  # data stays data
    for target, said in (
        ("os.system", "not a dataclass"),
        ("no.such.Thing", "cannot find"),
        ("tests.test_schema.Innr", "cannot find"),
    ):
        with pytest.raises(ConfigProblem, match=said):
            build(Outer, {"name": "a", "free": {"_target_": target}}, allow_targets=True)
