"""The default corpus: what Babel's copy of the Unicode CLDR knows how to say in two languages. Needs no download.

Dates, times, intervals, numbers, percentages, amounts with units, prices, durations, and the names of countries,
languages and currencies, alone and in lists. Every pair is one fact written by the locale data of both languages, so the
corpus is exactly parallel for any two locales, and what is learned can be judged at a glance.
"""

import datetime as dt
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seq2seq.data.recipe import Corpus, Pair, make_corpus
from seq2seq.errors import ConfigProblem, did_you_mean
from seq2seq.schema import require

if TYPE_CHECKING:
    from babel import Locale

Sayer = Callable[["Locale"], str]
"""One fact: given a locale, how it is said there."""

_UNITS = """
    area-square-kilometer area-hectare area-square-meter digital-gigabyte digital-megabyte digital-byte
    duration-century duration-year duration-month duration-week duration-day duration-hour duration-minute duration-second
    electric-ampere electric-volt energy-kilocalorie energy-joule energy-kilowatt-hour frequency-hertz graphics-pixel
    length-kilometer length-meter length-centimeter length-millimeter length-mile length-foot length-inch mass-tonne
    mass-kilogram mass-gram mass-milligram mass-pound mass-ounce power-kilowatt power-watt pressure-hectopascal pressure-bar
    speed-kilometer-per-hour speed-meter-per-second speed-knot temperature-celsius temperature-fahrenheit
    volume-cubic-meter volume-liter volume-deciliter volume-milliliter volume-gallon volume-barrel
""".split()
_SKELETONS = "yMMMEd yMMMd MMMEd MMMMd yMMMM yQQQQ".split()


@dataclass(frozen=True)
class Cldr:
    """`source` and `target` are any two locales Babel knows, such as en, de, ja, pt_BR, zh_Hant."""

    source: str = "en"
    target: str = "de"
    train_size: int = 30000
    validation_size: int = 500
    test_size: int = 1000
    seed: int = 1

    def __post_init__(self) -> None:
        sizes = (self.train_size, self.validation_size, self.test_size)
        require(
            (min(sizes) >= 1, "train_size, validation_size and test_size must be at least 1"),
            (self.source != self.target, "source and target are the same locale"),
        )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        import babel

        made = self._examples(_locale(self.source), _locale(self.target))
        origin = f"made from the Unicode CLDR as in Babel {babel.__version__}, seed {self.seed}"
        wanted, settings = {split: made[split] for split in splits}, dict.fromkeys(splits, f"{self}, {origin}")
        return make_corpus((self.source, self.target), wanted, origin, "Unicode License v3", settings=settings)

    def _examples(self, source: "Locale", target: "Locale") -> dict[str, list[Pair]]:
        """All splits at once. No source and no target text occurs twice, so none of validation or test is in training.

        Bare names go to training only: a name never seen cannot be translated, but a list of known ones can.
        """
        facts = _Facts(random.Random(f"cldr {self.seed}"), (source, target))
        sources: set[str] = set()
        targets: set[str] = set()
        names = list(_fresh(facts.names(), source, target, sources, targets))
        held_out = self.validation_size + self.test_size
        wanted = held_out + max(self.train_size - len(names), 1)
        composed = []
        for pair in _fresh(facts.forever(), source, target, sources, targets):
            composed.append(pair)
            if len(composed) == wanted:
                break
        train = names[: self.train_size - 1] + composed[held_out:]
        random.Random(f"cldr order {self.seed}").shuffle(train)
        return {"train": train, "validation": composed[: self.validation_size], "test": composed[self.validation_size : held_out]}


def _fresh(facts: Iterator[Sayer], source: "Locale", target: "Locale", sources: set[str], targets: set[str]) -> Iterator[Pair]:
    """The facts as pairs, leaving out texts said before. Stops when almost everything has been said."""
    stale = 0
    for say in facts:
        pair = _clean(say(source)), _clean(say(target))
        if pair[0] in sources or pair[1] in targets:
            stale += 1
            if stale > 20000:
                raise ConfigProblem("the recipe cannot make that many different examples", "ask for a smaller recipe.train_size")
            continue
        stale = 0
        sources.add(pair[0])
        targets.add(pair[1])
        yield pair


def _clean(text: str) -> str:
    """CLDR writes narrow and no-break spaces and direction marks; plain ones do here."""
    for mark in "\u200e\u200f\u061c":
        text = text.replace(mark, "")
    return " ".join(text.split())


def _locale(name: str) -> "Locale":
    import babel

    try:
        return babel.Locale.parse(name.replace("-", "_"))
    except (babel.UnknownLocaleError, ValueError):
        near = did_you_mean(name, babel.localedata.locale_identifiers())
        raise ConfigProblem(f"'{name}' is not a locale that CLDR knows{near}", "use a code such as en, de, ja or pt_BR") from None


class _Facts:
    """Draws facts at random. Only names and units that both locales have are used."""

    def __init__(self, draw: random.Random, locales: "tuple[Locale, Locale]") -> None:
        self.draw = draw
        self.countries = _shared([locale.territories for locale in locales], lambda code: len(code) == 2 and code.isalpha())
        self.languages = _shared([locale.languages for locale in locales], lambda code: len(code) == 2)
        self.currencies = _shared([locale.currencies for locale in locales], _in_use)
        self.units = [unit for unit in _UNITS if all(_can_say(unit, locale) for locale in locales)]
        kinds = [
            (self.date, 4),
            (self.time, 2),
            (self.date_and_time, 3),
            (self.interval, 2),
            (self.number, 2),
            (self.amount, 5),
            (self.price, 4),
            (self.duration, 1),
            (self.list_of_names, 7),
        ]
        have = {self.amount: self.units, self.price: self.currencies}
        self.kinds = [(kind, weight) for kind, weight in kinds if have.get(kind, True)]
        self.listed = [kind for kind in ("territories", "territories", "languages", "currencies") if len(self._codes(kind)) >= 3]
        if not self.listed:
            self.kinds = [(kind, weight) for kind, weight in self.kinds if kind != self.list_of_names]

    def names(self) -> Iterator[Sayer]:
        """Every name once."""
        for kind in ("territories", "languages", "currencies"):
            for code in self._codes(kind):
                yield _name(kind, code)

    def forever(self) -> Iterator[Sayer]:
        makers, weights = zip(*self.kinds, strict=True)
        while True:
            yield self.draw.choices(makers, weights)[0]()

    def date(self) -> Sayer:
        from babel import dates

        day = self._day()
        if self.draw.random() < 0.4:
            skeleton = self.draw.choice(_SKELETONS)
            return lambda locale: dates.format_skeleton(skeleton, day, locale=locale)
        style = self.draw.choice(("full", "long", "medium", "short"))
        return lambda locale: dates.format_date(day, style, locale=locale)

    def time(self) -> Sayer:
        from babel import dates

        moment, style = self._moment(), self.draw.choice(("short", "medium"))
        return lambda locale: dates.format_time(moment.time(), style, locale=locale)

    def date_and_time(self) -> Sayer:
        from babel import dates

        moment, style = self._moment(), self.draw.choice(("long", "medium", "short"))
        pattern: Any = style if style != "long" else "medium"

        def say(locale: "Locale") -> str:
            day = dates.format_date(moment, style, locale=locale)
            time = dates.format_time(moment.time(), "short", locale=locale)
            return dates.get_datetime_format(pattern, locale=locale).replace("'", "").format(time, day)

        return say

    def interval(self) -> Sayer:
        from babel import dates

        first = self._day()
        last = first + dt.timedelta(days=self.draw.randint(1, 400))
        skeleton = self.draw.choice(("yMMMd", "yMMM"))
        return lambda locale: dates.format_interval(first, last, skeleton, locale=locale)

    def number(self) -> Sayer:
        from babel import numbers

        value = self._value()
        if self.draw.random() < 0.4:
            return lambda locale: numbers.format_percent(value / 1000, locale=locale, decimal_quantization=False)
        return lambda locale: numbers.format_decimal(value, locale=locale)

    def amount(self) -> Sayer:
        from babel import units

        value, unit = self._value(), self.draw.choice(self.units)
        length: Any = self.draw.choice(("long", "long", "short"))
        return lambda locale: units.format_unit(value, unit, length, locale=locale)

    def price(self) -> Sayer:
        from babel import numbers

        value, currency = self._value(), self.draw.choice(self.currencies)
        style: Any = self.draw.choice(("name", "standard"))
        return lambda locale: numbers.format_currency(value, currency, locale=locale, format_type=style)

    def duration(self) -> Sayer:
        from babel import dates

        span = dt.timedelta(
            seconds=self.draw.choice((-1, 1))
            * self.draw.randint(1, 59)
            * self.draw.choice((1, 60, 3600, 86400, 604800, 31536000))
        )
        return lambda locale: dates.format_timedelta(span, threshold=1000, add_direction=True, locale=locale)

    def list_of_names(self) -> Sayer:
        from babel import lists

        kind = self.draw.choice(self.listed)
        names = [_name(kind, code) for code in self.draw.sample(self._codes(kind), self.draw.choice((2, 2, 3)))]
        style: Any = self.draw.choice(("standard", "or"))
        return lambda locale: lists.format_list([name(locale) for name in names], style, locale=locale)

    def _codes(self, kind: str) -> list[str]:
        return {"territories": self.countries, "languages": self.languages, "currencies": self.currencies}[kind]

    def _day(self) -> dt.date:
        return dt.date(1950, 1, 1) + dt.timedelta(days=self.draw.randrange(36525))

    def _moment(self) -> dt.datetime:
        return dt.datetime.combine(
            self._day(), dt.time(self.draw.randrange(24), self.draw.randrange(60), self.draw.randrange(60))
        )

    def _value(self) -> float:
        digits = self.draw.choice((1, 2, 2, 3, 3, 4, 5, 6))
        whole = self.draw.randrange(10 ** (digits - 1), 10**digits)
        return whole / self.draw.choice((10, 100)) if self.draw.random() < 0.4 else whole


def _shared(tables: Sequence[Any], wanted: Callable[[str], bool]) -> list[str]:
    return sorted(code for code in tables[0] if wanted(code) and all(code in table for table in tables))


def _can_say(unit: str, locale: "Locale") -> bool:
    """Where the locale has no words for a unit, Babel writes the unit's identifier."""
    from babel import units

    lengths: tuple[Any, ...] = ("long", "short")
    try:
        return not any(
            unit in units.format_unit(value, unit, length, locale=locale) for value in (1, 2.5, 7) for length in lengths
        )
    except units.UnknownUnitError:
        return False


def _in_use(currency: str) -> bool:
    from babel import numbers

    return currency in _current_currencies() and numbers.is_currency(currency)


def _current_currencies() -> frozenset[str]:
    from babel.core import get_global

    held = get_global("territory_currencies")
    return frozenset(code for spans in held.values() for code, _, end, tender in spans if end is None and tender)


def _name(kind: str, code: str) -> Sayer:
    return lambda locale: str(getattr(locale, kind)[code])
