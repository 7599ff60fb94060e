"""Floor 0: plain data -> frozen dataclass, checked.

Whatever comes from outside (a composed config, the `config.json` of a bundle) becomes an object here and nowhere else.
All that is wrong is said at once: unknown keys with the nearest known one, wrong types, values outside the choices,
and what the dataclass itself finds in its `__post_init__`.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from seq2seq.errors import ConfigProblem, did_you_mean

T = TypeVar("T")
_UNKNOWN = "there is no such setting"


def build(cls: type[T], values: Mapping[str, Any], where: str = "", allow_targets: bool = False) -> T:
    """An instance of the dataclass `cls` from plain values.

    Args:
        where: the dotted name of these values in the config, for messages.
        allow_targets: follow a `_target_` key to the class it names. True only for what the user typed or wrote;
            data that came from elsewhere never chooses a class.

    Raises:
        ConfigProblem: listing every problem found.
    """
    problems: list[str] = []
    built = _convert(cls, values, where, problems, allow_targets)
    if problems:
        unknown = any(_UNKNOWN in problem for problem in problems)
        fix = "correct the settings above; --help lists the choices" + ", and ~NAME takes out what an experiment sets" * unknown
        raise ConfigProblem("\n       ".join(problems), fix)
    return built  # type: ignore[no-any-return]


def require(*checks: tuple[bool, str]) -> None:
    """For `__post_init__`: raise one ConfigProblem with the text of every check that is false."""
    failed = [text for passed, text in checks if not passed]
    if failed:
        raise ConfigProblem("; ".join(failed))


def plain(instance: Any) -> dict[str, Any]:
    """The dataclass as plain data, the inverse of `build`."""
    return dataclasses.asdict(instance)


def _convert(expected: Any, value: Any, where: str, problems: list[str], allow_targets: bool) -> Any:
    def fail(text: str) -> None:
        problems.append(f"{where or 'config'}: {text}")

    origin, arguments = get_origin(expected), get_args(expected)
    if isinstance(value, Mapping) and "_target_" in value and allow_targets:
        return _build_target(value, where, problems)
    if expected is Any:
        return value
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        if isinstance(value, expected):
            return value
        if not isinstance(value, Mapping):
            return fail(f"expected a group of settings, got {value!r}")
        return _fill(expected, value, where, problems, allow_targets)
    if origin is Literal:
        return (
            value
            if value in arguments
            else fail(f"{value!r} is not one of {', '.join(map(str, arguments))}{did_you_mean(str(value), map(str, arguments))}")
        )
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [a for a in arguments if a is not type(None)]
        attempts: list[list[str]] = []
        for option in options:
            attempts.append([])
            built = _convert(option, value, where, attempts[-1], allow_targets)
            if not attempts[-1]:
                return built
        problems.extend(attempts[0])
        return None
    if origin in (tuple, list):
        if not isinstance(value, (list, tuple)):
            return fail(f"expected a list, got {value!r}")
        if origin is tuple and len(arguments) > 1 and arguments[1] is not Ellipsis:
            if len(value) != len(arguments):
                return fail(f"expected {len(arguments)} values, got {value!r}")
            return tuple(
                _convert(a, v, f"{where}[{i}]", problems, allow_targets)
                for i, (a, v) in enumerate(zip(arguments, value, strict=True))
            )
        items = [_convert(arguments[0], v, f"{where}[{i}]", problems, allow_targets) for i, v in enumerate(value)]
        return tuple(items) if origin is tuple else items
    if origin is dict:
        if not isinstance(value, Mapping):
            return fail(f"expected a mapping, got {value!r}")
        name, said = arguments
        return {
            _convert(name, key, where, problems, allow_targets): _convert(said, one, f"{where}.{key}", problems, allow_targets)
            for key, one in value.items()
        }
    return _scalar(expected, value, fail)


def _scalar(expected: Any, value: Any, fail: Callable[[str], None]) -> Any:
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if expected is float and isinstance(value, str):
        try:
            return float(value)  # YAML 1.1 reads 4e-3 as text
        except ValueError:
            pass
    if isinstance(value, bool) and expected is str:
        return fail(
            f'expected text, got the truth value {value}; YAML reads a bare yes, no, on, off so: quote it, for example "no"'
        )
    if isinstance(value, int | float) and expected is str:
        return fail(
            f"expected text, got the number {value}; YAML reads 12:30 as 750 and 2024_10 as 202410: "
            "quote it, in a shell twice: name='\"2024\"'"
        )
    if not isinstance(expected, type):
        return value
    if isinstance(value, expected) and not (expected is int and isinstance(value, bool)):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return fail(f"expected {names.get(expected, expected.__name__)}, got {value!r}")


def _build_target(value: Mapping[str, Any], where: str, problems: list[str]) -> Any:
    path = str(value["_target_"])
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        problems.append(f"{where}: cannot find {path} ({error})")
        return None
    if not dataclasses.is_dataclass(cls):
        problems.append(f"{where}: {path} is not a dataclass of settings")
        return None
    return _fill(cls, {k: v for k, v in value.items() if k != "_target_"}, where, problems, True)


def _fill(cls: Any, values: Mapping[str, Any], where: str, problems: list[str], allow_targets: bool) -> Any:
    before = len(problems)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    hints = get_type_hints(cls)
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in fields:
            problems.append(f"{prefix}{key}: {_UNKNOWN}{did_you_mean(f'{prefix}{key}', [prefix + name for name in fields])}")
    for name, field in fields.items():
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if name not in values and no_default:
            problems.append(f"{prefix}{name}: missing")
    converted = {k: _convert(hints[k], v, f"{prefix}{k}", problems, allow_targets) for k, v in values.items() if k in fields}
    if len(problems) > before:
        return None
    try:
        return cls(**converted)
    except ConfigProblem as problem:
        problems.append(f"{where}: {problem.message}" if where else problem.message)
        return None
