"""What counts as blank, what may stand in a line of output, and where words begin."""

import re
import unicodedata
from collections.abc import Iterable, Sequence


def is_blank(text: str) -> bool:
    """Nothing but white space, control characters and invisible ones such as U+200B."""
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)


def one_line(text: str) -> str:
    """The text with every control character and every line or paragraph separator made a space."""
    return text if text.isprintable() else "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)


def without_halves(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\ufffd", text)


SPACE_MARK = "\u2581"
"""A space in the pieces of SentencePiece."""
_WITHOUT_SPACES = {"zh", "ja", "th", "lo", "km", "my"}


def has_spaces(language: str) -> bool:
    """Whether a language is written with spaces between words."""
    return re.split("[_-]", language)[0] not in _WITHOUT_SPACES


def beginnings(pieces: Iterable[str], spaces: bool) -> list[bool]:
    """Of each piece whether a word begins with it; in a language without spaces, every one is a word."""
    return [not spaces or piece.startswith(SPACE_MARK) for piece in pieces]


def words_of(ids: Sequence[int], begins: Sequence[bool]) -> list[list[int]]:
    """Tokens in groups, each of which begins where `begins` says of the token that a word does."""
    words: list[list[int]] = []
    for i in ids:
        if begins[i] or not words:
            words.append([i])
        else:
            words[-1].append(i)
    return words
