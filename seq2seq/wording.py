"""Floor 2: wishes in words. A glossary, banned phrases and given beginnings become what search is told in tokens."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from seq2seq.data.text import BYTE_PIECE, SPACE_MARK, is_letter, runs
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.decoding.stepper import Banned, Lexicon
from seq2seq.errors import ConfigProblem, DataProblem
from seq2seq.symbols import EOS


@dataclass(frozen=True)
class Glossary:
    """Terms of the source language and what they must be called in the target language, in pairs."""

    terms: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, lines: Iterable[str], name: str) -> "Glossary":
        """From lines of two columns, parted by a tab.

        Raises:
            DataProblem: naming the line that is not.
        """
        terms = []
        for number, line in enumerate(lines, start=1):
            columns = [" ".join(column.split()) for column in line.split("\t")]
            if not any(columns):
                continue
            if len(columns) != 2 or not all(columns):
                raise DataProblem(
                    f"{name} line {number} is not a pair of terms: {line[:80]!r}", "write SOURCE TERM, a tab, TARGET TERM"
                )
            terms.append((columns[0], columns[1]))
        return cls(tuple(terms))

    def wanted(self, text: str, spaces: bool) -> list[str]:
        """The target terms whose source terms stand in a text: whole words, whatever their case, longer terms before the shorter
        ones they hold; anywhere in the text if the source language is written without spaces."""
        units: Sequence[str] = _words(text) if spaces else text
        known, longest = self._by_words if spaces else self._by_characters
        found, at = [], 0
        while at < len(units):
            for length in range(min(longest, len(units) - at), 0, -1):
                if target := known.get(units[at : at + length]):
                    found.append(target)
                    at += length - 1
                    break
            at += 1
        return list(dict.fromkeys(found))

    @cached_property
    def _by_words(self) -> tuple[Mapping[Any, str], int]:
        """Source terms in words, with their targets, and the words of the longest."""
        return _with_longest({_words(source): target for source, target in self.terms})

    @cached_property
    def _by_characters(self) -> tuple[Mapping[Any, str], int]:
        """The same in characters."""
        return _with_longest(dict(self.terms))


def _with_longest(known: Mapping[Any, str]) -> tuple[Mapping[Any, str], int]:
    return known, max(map(len, known), default=0)


def _words(text: str) -> tuple[str, ...]:
    return tuple(run for run in runs(text.casefold()) if not run.isspace())


def says(text: str, term: str, spaces: bool) -> bool:
    """Whether a text holds a term in whole words; anywhere if its language is written without spaces."""
    if not spaces:
        return term in text
    text, at = f" {' '.join(text.split())} ", 0
    while (at := text.find(term, at + 1)) >= 0:
        if not is_letter(text[at - 1]) and not is_letter(text[at + len(term)]):
            return True
    return False


@dataclass(frozen=True)
class Wording:
    """What is wanted of all translations, in words.

    Attributes:
        glossary: terms that must be translated so.
        banned: phrases that must not be said.
        explain: whether to say which words belong together and how sure the model is.
    """

    glossary: Glossary | None = None
    banned: tuple[str, ...] = ()
    explain: bool = False

    def mapped(self, change: Callable[[str], str]) -> "Wording":
        """With every text changed, as to one Unicode normal form."""
        glossary = self.glossary and Glossary(tuple((change(source), change(target)) for source, target in self.glossary.terms))
        return replace(self, glossary=glossary, banned=tuple(map(change, self.banned)))

    def check(self, spaces: tuple[bool, bool]) -> None:
        """Whether it can be followed.

        Args:
            spaces: whether source and target language are written with spaces.

        Raises:
            ConfigProblem: a term has two translations, or one that holds a banned phrase.
        """
        known: dict[Any, str] = {}
        banned = {" ".join(phrase.split()) for phrase in self.banned} - {""}
        for source, target in self.glossary.terms if self.glossary else ():
            said = known.setdefault(_words(source) if spaces[0] else source, target)
            if said != target:
                raise ConfigProblem(
                    f"the glossary has two translations of {source!r}: {said!r} and {target!r}", "keep one of them"
                )
            if forbidden := next((phrase for phrase in banned if phrase in target and says(target, phrase, spaces[1])), None):
                raise ConfigProblem(f"the glossary wants {target!r}, and {forbidden!r} is banned", "take out one of them")

    @property
    def needs_lexicon(self) -> bool:
        return self.glossary is not None or bool(self.banned)


def phrase_tokens(tokenizer: Tokenizer, text: str, spaces: bool) -> tuple[int, ...]:
    """The tokens of a phrase in the middle of a target sentence."""
    if spaces:
        return tuple(tokenizer.encode_target([text])[0][:-1])
    return _longest_pieces(SPACE_MARK.join(text.split()), {piece: i for i, piece in enumerate(tokenizer.target_pieces())})


def _longest_pieces(text: str, ids: dict[str, int]) -> tuple[int, ...]:
    """A text without the space that encoders put before it, cut into the longest pieces from its start; bytes where there is none."""
    tokens: list[int] = []
    while text:
        length = next((n for n in range(min(len(text), 32), 0, -1) if text[:n] in ids), 0)
        if length:
            tokens.append(ids[text[:length]])
        else:
            tokens += [ids[name] for byte in text[0].encode() if (name := f"<0x{byte:02X}>") in ids]
        text = text[length or 1 :]
    return tuple(tokens)


def make_lexicon(tokenizer: Tokenizer, spaces: bool, banned: Sequence[str] = ()) -> Lexicon:
    """What search needs to know of the target side's tokens.

    Args:
        spaces: whether the target language is written with spaces.
        banned: phrases that no translation may hold as whole words, in this very spelling. A token that completes one is not
            said, even where the next might have made a longer word of it.
    """
    spellings = [_spelling(piece) for piece in tokenizer.target_pieces()]
    ends_word = [not spaces or (text != "" and not _is_letter(text[0])) for text in spellings]
    ends_word[EOS] = True
    characters = {character for text in spellings for character in text}
    wanted = {SPACE_MARK.join(phrase.split()) for phrase in banned} - {""}
    phrases = {way for phrase in wanted for way in _ways_to_spell(phrase, characters)}
    return Lexicon(torch.tensor(ends_word), _reading_machine(spellings, phrases, spaces) if phrases else None)


def _spelling(piece: str) -> str:
    """What a piece adds to the text. A byte of a longer character is a letter of its own, of private use."""
    if byte := BYTE_PIECE.fullmatch(piece):
        return _in_bytes(bytes([int(byte[1], 16)]))
    return "" if piece.startswith("<") and piece.endswith(">") and len(piece) > 2 else piece


def _in_bytes(text: bytes) -> str:
    return "".join(chr(byte) if byte < 0x80 else chr(_BYTES_FROM + byte) for byte in text)


def _ways_to_spell(phrase: str, characters: set[str]) -> set[str]:
    """A phrase as it is, with every character in bytes that has more than one, and with those that no token holds."""
    foreign = "".join(c if c in characters else _in_bytes(c.encode()) for c in phrase)
    plain = "".join(c if c == SPACE_MARK else _in_bytes(c.encode()) for c in phrase)
    return {phrase, foreign, plain}


_BYTES_FROM = 0xF700


def _is_letter(character: str) -> bool:
    return is_letter(character) or character == "\ue000" or _BYTES_FROM + 0x80 <= ord(character) <= _BYTES_FROM + 0xFF


_MOST_CELLS = 20_000_000


def _reading_machine(spellings: Sequence[str], phrases: set[str], spaces: bool) -> Banned:
    """A machine whose states are the beginnings of phrases that a text may end with (Aho and Corasick, 1975), fed token by token.

    Two more states have read no beginning: state 0 stands where a word may begin, state 1 within a word.
    """
    beginnings = sorted({phrase[:n] for phrase in phrases for n in range(1, len(phrase) + 1)})
    number = {text: i for i, text in enumerate(beginnings, start=2)}
    if (len(number) + 2) * len(spellings) > _MOST_CELLS:
        raise ConfigProblem(
            f"the banned phrases have {len(number):,} beginnings, too many for a vocabulary of {len(spellings):,} tokens",
            "ban fewer or shorter phrases",
        )
    alphabet = sorted({character for phrase in phrases for character in phrase})
    known = {character: i for i, character in enumerate(alphabet)}
    another_letter, another_sign = "\ue000", "\ue001"
    characters = [*alphabet, another_letter, another_sign]

    def after(state: int, character: str) -> int:
        text = (beginnings[state - 2] if state >= 2 else "") + character
        for start in range(len(text)):
            inside = spaces and _is_letter(text[start]) and (_is_letter(text[start - 1]) if start else state == 1)
            if not inside and text[start:] in number:
                return number[text[start:]]
        return int(_is_letter(character))

    step = torch.tensor([[after(state, character) for character in characters] for state in range(len(number) + 2)])
    complete = torch.tensor([False, False, *(_ends_with_one(text, phrases, spaces) for text in beginnings)])
    letter = torch.tensor([_is_letter(character) for character in characters])

    longest = max(1, *map(len, spellings))
    columns = torch.full((longest, len(spellings)), -1)
    for token, text in enumerate(spellings):
        for place, character in enumerate(text):
            columns[place, token] = known.get(character, len(alphabet) + (not _is_letter(character)))
    reached = torch.arange(len(number) + 2)[:, None].repeat(1, len(spellings))
    forbidden = torch.zeros(reached.shape, dtype=torch.bool)
    for place, column in enumerate(columns):
        is_read = column >= 0
        if place:
            forbidden |= is_read & complete[reached] & (~letter[column] if spaces else torch.tensor(True))
        reached = torch.where(is_read, step[reached, column], reached)
    forbidden |= complete[reached] & (columns[0] >= 0)
    return Banned(forbidden, reached.int())


def _ends_with_one(text: str, phrases: set[str], spaces: bool) -> bool:
    """Whether a beginning ends with a whole phrase: itself, or a shorter one."""
    for start in range(len(text)):
        inside = spaces and start > 0 and _is_letter(text[start]) and _is_letter(text[start - 1])
        if not inside and text[start:] in phrases:
            return True
    return False
