"""What counts as blank, what may stand in a line of output, and where words begin."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby


def is_blank(text: str) -> bool:
    """Nothing but white space, control characters and invisible ones such as U+200B."""
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)


def one_line(text: str) -> str:
    """The text with every control character and every line or paragraph separator made a space."""
    return text if text.isprintable() else "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)


def without_halves(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\ufffd", text)


def is_letter(character: str) -> bool:
    """Whether it is part of a word: a letter, a digit, an underscore, or a mark on a letter, as many vowels of Indic scripts are; not what makes
    signs look otherwise."""
    if character.isalnum() or character == "_":
        return True
    return unicodedata.category(character) in ("Mn", "Mc") and not "\ufe00" <= character <= "\ufe0f"


def runs(text: str) -> list[str]:
    """Words, white space, and every other character by itself; joined they are the text."""
    found: list[str] = []
    for kind, run in groupby(text, lambda c: "word" if is_letter(c) else "space" if c.isspace() else "sign"):
        text = "".join(run)
        found += text if kind == "sign" else [text]
    return found


SPACE_MARK = "\u2581"
"""A space in the pieces of SentencePiece."""
SPACE_MARK_STAND_IN = "\ue581"
"""U+2581 in a text must not become a space: it travels as a private-use character."""
BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")
"""A byte of a character that has no piece of its own."""
_WITHOUT_SPACES = {"zh", "ja", "th", "lo", "km", "my"}
_OF_THREE_LETTERS = {
    **dict.fromkeys(("zho", "cmn", "yue", "wuu", "lzh"), "zh"),
    "jpn": "ja",
    "kor": "ko",
    "tha": "th",
    "lao": "lo",
    "khm": "km",
    "mya": "my",
}


def base_language(code: str) -> str:
    """Of `zh_Hant`, `zh-TW`, `ZH` and `yue` alike `zh`: a code without script and country, in two letters where we look at it."""
    code = re.split("[_-]", code)[0].lower()
    return _OF_THREE_LETTERS.get(code, code)


def has_spaces(language: str) -> bool:
    """Whether a language is written with spaces between words."""
    return base_language(language) not in _WITHOUT_SPACES


_GOES_ON = re.compile("<0x[89AB][0-9A-F]>")
"""A byte of UTF-8 that no character begins with."""


def beginnings(pieces: Iterable[str], spaces: bool) -> list[bool]:
    """Of each piece whether a word begins with it; in a language without spaces, every one is a word, but for what goes on with the
    bytes of a character."""
    return [piece.startswith(SPACE_MARK) if spaces else not _GOES_ON.fullmatch(piece) for piece in pieces]


def spelled(pieces: Iterable[str]) -> str:
    """What the pieces of a word spell, without the mark of the space before it."""
    parts = (
        bytes.fromhex(byte[1]) if (byte := BYTE_PIECE.fullmatch(piece)) else piece.lstrip(SPACE_MARK).encode() for piece in pieces
    )
    return b"".join(parts).decode("utf-8", "replace").replace(SPACE_MARK_STAND_IN, SPACE_MARK)


def words_of(ids: Sequence[int], begins: Sequence[bool]) -> list[list[int]]:
    """Tokens in groups, each of which begins where `begins` says of the token that a word does."""
    words: list[list[int]] = []
    for i in ids:
        if begins[i] or not words:
            words.append([i])
        else:
            words[-1].append(i)
    return words
