"""Fifty kinds of bad input, each given to the commands as somebody would give it: what is refused, what is mended, what comes out."""

import bz2
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from seq2seq.atomic import write_manifest
from seq2seq.bundle import FORMAT_VERSION, Bundle
from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
from tests.cli.commands import SMALL
from tests.cli.commands import command as plain_command
from tests.conftest import counting_pairs, write_corpus

FROZEN = Path(__file__).parent.parent / "frozen"
SHORT = ["decoding=greedy", "decoding.lengths.max_factor=0", "decoding.lengths.max_offset=8"]
"""Quick to translate with."""
FILES = ["recipe=files", "recipe.source=en", "recipe.target=de"]
BRIEF = [*SMALL, "trainer.max_steps=1", "trainer.validate_every=1", *SHORT]
"""The shortest training there is."""


def command(
    name: str, *arguments: str, folder: Path, given: bytes = b"", from_nothing: bool = False
) -> subprocess.CompletedProcess[bytes]:
    done = plain_command(name, *arguments, folder=folder, given=given, from_nothing=from_nothing)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def python(code: str, folder: Path, *arguments: str) -> str:
    """What a program prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@dataclass(frozen=True)
class Desk:
    """An empty folder to work in, and a run that was trained elsewhere."""

    folder: Path
    run: Path
    looping: Path
    """A bundle whose model says one word for ever."""
    messy: Path
    """A folder with corpus/ of everything that is odd, and run/ and said.txt of a training on it."""

    @property
    def bundle(self) -> Path:
        return self.run / "bundle"

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def corpus(self, train: list[tuple[str, str]], validation: list[tuple[str, str]] | None = None) -> list[str]:
        """The corpus as files, and the arguments that name it."""
        write_corpus(self.folder / "corpus", "train", train)
        write_corpus(self.folder / "corpus", "val", validation or counting_pairs(4, seed=99))
        return [*FILES, "recipe.train=corpus/train", "recipe.validation=corpus/val"]

    def names(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}

    def contents(self) -> dict[Path, bytes]:
        """Every file but locks."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and path.name != ".lock")
        return {path: path.read_bytes() for path in files}

    def does(self, name: str, *arguments: str, given: bytes = b"") -> str:
        """Both outputs of a command that succeeds."""
        done = command(name, *arguments, folder=self.folder, given=given)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode() + done.stderr.decode()

    def translates(self, text: str | bytes, *arguments: str) -> list[str]:
        """The lines that a text on standard input is answered with, one for each of its records."""
        given = text if isinstance(text, bytes) else text.encode()
        done = command("translate", f"bundle={self.bundle}", *SHORT, *arguments, folder=self.folder, given=given)
        assert done.returncode == 0, done.stderr.decode()
        lines = done.stdout.decode().split("\n")
        assert lines.pop() == "", "the last line has no end"
        assert len(lines) == given.count(b"\n") + (not given.endswith(b"\n") and given != b"")
        texts = [line.replace("\t", " ") if "format=tsv" in arguments else line for line in lines]
        assert not [text for text in texts if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text)]
        return lines

    def remarks(self, text: str | bytes, *arguments: str, bundle: Path | None = None) -> tuple[list[str], list[tuple[int, str]]]:
        """The lines that a text in a file is answered with, and (line, code) of everything in the report."""
        source = self.write("in.txt", text)
        chosen = f"bundle={bundle or self.bundle}"
        self.does("translate", chosen, "input=in.txt", "output=out.txt", "overwrite=true", *SHORT, *arguments)
        *records, end = [json.loads(line) for line in (self.folder / "out.txt.report.jsonl").read_text().split("\n")[:-1]]
        assert all(record["detail"] for record in records)
        answer = (self.folder / "out.txt").read_bytes().decode()
        data = source.read_bytes()
        assert answer.count("\n") == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
        assert (end["line"], end["code"]) == (answer.count("\n"), "COMPLETE")
        return answer.split("\n")[:-1], [(record["line"], record["code"]) for record in records]

    def refuses(self, code: int, name: str, *arguments: str, said: list[str], given: bytes = b"") -> str:
        """What is said by a command that cannot be followed, and that must leave everything as it was."""
        before = self.contents()
        done = command(name, *arguments, folder=self.folder, given=given)
        error = done.stderr.decode()
        assert done.returncode == code, f"exit code {done.returncode}: {error or done.stdout.decode()}"
        assert "error: " in error
        assert "\nfix: " in error
        for text in said:
            assert text in error
        assert self.contents() == before
        return error

    def copy_of_bundle(self, name: str = "copy") -> Path:
        shutil.copytree(self.bundle, self.folder / name)
        return self.folder / name


def seal(bundle: Path, version: int = FORMAT_VERSION) -> None:
    """A manifest that says: just as it is now, this bundle is whole."""
    (bundle / "manifest.json").unlink()
    write_manifest(bundle, "seq2seq bundle", version, "seq2seq 99.0")


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for name, count in (("train", 80), ("val", 8)):
        write_corpus(folder / "corpus", name, counting_pairs(count, seed=count))
    corpus = ["recipe.train=corpus/train", "recipe.validation=corpus/val"]
    done = command("train", *FILES, *corpus, "run_dir=run", *SMALL, *SHORT, folder=folder)
    assert done.returncode == 0, done.stderr.decode()
    return folder / "run"


@pytest.fixture(scope="module")
def looping_bundle(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = Bundle.load(trained_run / "bundle")
    word = bundle.tokenizer.encode_target(["eins"])[0][0]
    weights = dict(bundle.model.named_parameters())
    embedding = next(weight for name, weight in weights.items() if "embedding" in name)
    with torch.no_grad():  # whatever is read, the last norm of the decoder gives the embedding of that word
        last = [name for name in weights if "decoder" in name and "norm" in name][-2:]
        weights[last[0]].zero_()
        weights[last[1]].copy_(50 * embedding[word])
        embedding[word] *= 3
    folder = tmp_path_factory.mktemp("looping") / "bundle"
    bundle.save(folder)
    return folder


ODD_TRAIN = [
    ("", "eins"),
    ("one", "\u00a0\u200b"),
    ("one\u2028two", "eins\u2029zwei"),
    ("one\x85two\x0bthree", "eins\x0czwei\x1cdrei"),
    ("one\rtwo", "eins zwei"),
    ("one\0two", "eins\0zwei"),
    ("one\ttwo", "eins\tzwei"),
    ("one \x1b[31mtwo", "eins \x1b[0mzwei"),
    ("one\ufefftwo", "eins zwei"),
    ("<s> one </s> <pad> <unk>", "<s> eins </s>"),
    ("one \U0001f600 ☃", "eins \U0001f600 ☃"),
    ("ќњ љђ " * 2000, "ќњ љђ " * 2000),
]
ODD_VALIDATION = [("one \x1b[31mtwo", "eins \x1b]0;zwei\x07")] * 8
PLAIN_COUNT = 80


@pytest.fixture(scope="module")
def messy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("messy")
    corpus = folder / "corpus"
    corpus.mkdir()
    plain = counting_pairs(PLAIN_COUNT)
    pairs = [plain[0], *ODD_TRAIN, *plain[1:]]
    (folder / "expected.json").write_text(json.dumps([plain[0], *ODD_TRAIN[2:], *plain[1:]]))
    sources, targets = zip(*pairs, strict=True)
    # A byte order mark and CRLF on one side, no end of the last line on the other.
    (corpus / "train.en").write_bytes(b"\xef\xbb\xbf" + "".join(source + "\r\n" for source in sources).encode())
    (corpus / "train.de").write_bytes("\n".join(targets).encode())
    write_corpus(corpus, "val", ODD_VALIDATION)
    where = ["recipe.train=corpus/train", "recipe.validation=corpus/val", "filters.max_drop=0.05"]
    done = command("train", *FILES, *where, "run_dir=run", *BRIEF, folder=folder)
    assert done.returncode == 0, done.stderr.decode()
    (folder / "said.txt").write_bytes(done.stdout + done.stderr)
    return folder


@pytest.fixture
def desk(tmp_path: Path, trained_run: Path, looping_bundle: Path, messy_folder: Path) -> Desk:
    return Desk(tmp_path, trained_run, looping_bundle, messy_folder)


LOAD_FILES = """
import json, sys
from seq2seq.recipes.files import Files
data = Files("en", "de", train=sys.argv[1]).load(("train",)).splits["train"]
print(json.dumps(list(zip(data["source"], data["target"]))))
"""


def row01_line_counts_differ(desk: Desk) -> None:
    arguments = desk.corpus(counting_pairs(200, seed=3))
    target = desk.folder / "corpus" / "train.de"
    lines = target.read_text().split("\n")
    target.write_text("\n".join(lines[:60] + lines[61:]))
    said = desk.refuses(3, "train", *arguments, said=["train.en", "200 lines", "train.de", "199"])
    near = re.search(r"near line (\d+)", said)
    assert near
    assert 50 <= int(near[1]) <= 70
    assert "run" not in desk.names()


def row01_a_line_lost_and_one_too_many(desk: Desk) -> None:
    """As many lines on both sides, and for most of them they are no translations."""
    pairs = counting_pairs(700, seed=3)
    arguments = [*desk.corpus(pairs), *BRIEF]
    assert "no translations" not in desk.does("doctor", *arguments)
    target = desk.folder / "corpus" / "train.de"
    lines = target.read_text().splitlines()
    target.write_text("\n".join([*lines[:250], *lines[251:], "eins"]) + "\n")
    found = re.search(r"train: near pair (\d+) the source has 1 line too many", desk.does("doctor", *arguments))
    assert found
    assert 245 <= int(found[1]) <= 255
    assert "by their lengths" in desk.does("train", *arguments, "trainer.max_steps=1", "run_dir=run")


def row01_line_counts_differ_at_evaluation(desk: Desk) -> None:
    desk.write("a.en", "one\ntwo\n")
    desk.write("a.de", "eins\n")
    files = ["source=a.en", "reference=a.de"]
    desk.refuses(3, "evaluate", f"bundle={desk.bundle}", *files, said=["a.en", "2 lines", "a.de", "1 "])


def row02_a_few_blank_sides_go_with_their_partners(desk: Desk) -> None:
    said = (desk.messy / "said.txt").read_text()
    assert "train: 2 pairs with a blank side dropped" in said
    kept = json.loads(python(LOAD_FILES, desk.messy, "corpus/train"))
    assert kept == json.loads((desk.messy / "expected.json").read_text())


def row02_many_blank_sides_are_refused(desk: Desk) -> None:
    arguments = desk.corpus([("", "eins")] * 3 + counting_pairs(80) + [("one", "\u3000")])
    desk.refuses(3, "train", *arguments, *BRIEF, "run_dir=run", said=["4 pairs", "4.8%", "filters.max_drop=0.01"])
    assert "run" not in desk.names()


def row03_blank_lines_stay_blank(desk: Desk) -> None:
    lines = desk.translates("one\n\n\ntwo\n\n")
    assert [bool(line) for line in lines] == [True, False, False, True, False]
    records = [json.loads(line) for line in desk.translates("\none\n\n", "format=jsonl")]
    assert [record["codes"] == ["BLANK"] for record in records] == [True, False, True]
    assert records[0]["candidates"] == [{"text": "", "score": 0.0}]


def row04_white_space_is_blank(desk: Desk) -> None:
    blanks = [" ", "\u00a0", "\u3000", "\u200b", "\t", " \u00a0\u3000\u200b\t ", "\u2028", "\ufeff", "\x0c"]
    lines, codes = desk.remarks("".join(f"{blank}\n" for blank in blanks) + "one\n")
    assert lines[:-1] == [""] * len(blanks)
    assert lines[-1]
    assert [code for code in codes if code[1] == "BLANK"] == [(number, "BLANK") for number in range(1, len(blanks) + 1)]


def _is_a_space(desk: Desk, *characters: str) -> None:
    """Each of them in a line is no end of it, and is to the model as a space."""
    lines = desk.translates("one two\nsix\n" + "".join(f"one{character}two\n" for character in characters))
    assert lines[0] != lines[1]
    assert lines[2:] == [lines[0]] * len(characters)


def row05_line_and_paragraph_separators(desk: Desk) -> None:
    _is_a_space(desk, "\u2028", "\u2029")


def row06_other_breaks_of_lines(desk: Desk) -> None:
    _is_a_space(desk, "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e")


def row07_lone_carriage_return(desk: Desk) -> None:
    _is_a_space(desk, "\r")


def row08_crlf(desk: Desk) -> None:
    plain = desk.translates("one two\nthree\nfour\n\n")
    assert desk.translates("one two\r\nthree\r\nfour\n\r\n") == plain


def row08_crlf_is_mentioned_once(desk: Desk) -> None:
    desk.write("in.txt", b"one two\r\nthree\r\nfour\n")
    said = desk.does("translate", f"bundle={desk.bundle}", *SHORT, "input=in.txt", "output=out.txt")
    assert b"\r" not in (desk.folder / "out.txt").read_bytes()
    assert len(re.findall("CRLF", said)) == 1


def row09_byte_order_mark(desk: Desk) -> None:
    lines = desk.translates("\ufeffone two\none two\n\ufeffone two\none\ufefftwo\n")
    assert lines == [lines[1]] * 4
    kept = json.loads(python(LOAD_FILES, desk.messy, "corpus/train"))
    assert not kept[0][0].startswith("\ufeff")


def row10_utf16_and_latin1(desk: Desk) -> None:
    for name, encoding in (("marked", "utf-16"), ("little", "utf-16-le"), ("big", "utf-16-be")):
        desk.write(f"{name}.txt", "one two\nthree\n".encode(encoding))
        files = [f"input={name}.txt", "output=out.txt"]
        said = ["looks like UTF-16", f"iconv -f UTF-16 -t UTF-8 {name}.txt"]
        desk.refuses(3, "translate", f"bundle={desk.bundle}", *files, said=said)
    desk.refuses(3, "translate", f"bundle={desk.bundle}", given="one\n".encode("utf-16"), said=["looks like UTF-16"])
    arguments = desk.corpus(counting_pairs(20))
    desk.write("corpus/train.de", "fünf\n".encode("latin-1") * 20)
    desk.refuses(
        3, "train", *arguments, *BRIEF, said=["20 of 20", "corpus/train.de:1:2", "iconv -f LATIN1 -t UTF-8 corpus/train.de"]
    )
    desk.write("corpus/train.de", "fünf\n".encode("utf-16") * 20)
    desk.refuses(3, "train", *arguments, *BRIEF, said=["corpus/train.de looks like UTF-16"])
    assert not {"out.txt", "runs"} & desk.names()


def _with_bad_bytes(desk: Desk) -> list[str]:
    arguments = desk.corpus(counting_pairs(100, seed=8))
    path = desk.folder / "corpus" / "train.en"
    lines = path.read_bytes().split(b"\n")
    for number in range(10, 17):
        lines[number] = b"one \xff two"
    path.write_bytes(b"\n".join(lines))
    return arguments


def row11_bad_bytes_in_training(desk: Desk) -> None:
    arguments = _with_bad_bytes(desk)
    listed = [f"corpus/train.en:{number}:5" for number in range(11, 16)]
    said = desk.refuses(3, "train", *arguments, *BRIEF, said=["7 of 100", ", ".join(listed), "recipe.bad_utf8=drop"])
    assert "train.en:16:5" not in said
    desk.refuses(3, "train", *arguments, *BRIEF, "recipe.bad_utf8=drop", said=["filters.max_drop=0.01"])
    mended = desk.does("train", *arguments, *BRIEF, "recipe.bad_utf8=drop", "filters.max_drop=0.1", "run_dir=run")
    assert "train: 7 pairs with bytes that are not UTF-8 dropped" in mended
    assert "93 pairs in" in mended


def row11_bad_bytes_in_translation(desk: Desk) -> None:
    lines, codes = desk.remarks(b"one two\none \xff two\nthree\n")
    assert all(lines)
    assert [code for code in codes if code[1] == "BAD_UTF8"] == [(2, "BAD_UTF8")]
    for files in (["input=in.txt"], ["input=in.txt", "output=new.txt"]):  # before a model is looked for
        desk.refuses(3, "translate", "bundle=nowhere", *files, "strict=true", said=["1 of 3", "in.txt:2:5"])


def row12_lone_surrogate_in_the_library(desk: Desk) -> None:
    code = """
import json, sys
from seq2seq import Translator
translator = Translator.load(sys.argv[1])
found = list(translator.stream(["one", "one \\ud800 two", "\\udfff"]))
assert len(translator.translate(["\\ud800"])) == 1
print(json.dumps([[t.text, list(t.codes)] for t in found]))
"""
    found = json.loads(python(code, desk.folder, str(desk.bundle)))
    assert ["BAD_UTF8" in codes for _, codes in found] == [False, True, True]
    for text, _ in found:
        text.encode()
    assert found[0][0]


def row12_lone_surrogate_in_training_json(desk: Desk) -> None:
    rows = [json.dumps({"en": source, "de": target}) for source, target in counting_pairs(150)]
    rows[6] = '{"en": "one \\ud800 two", "de": "eins zwei"}'
    desk.write("train.jsonl", "".join(row + "\n" for row in rows))
    write_corpus(desk.folder, "val", counting_pairs(4))
    arguments = [*FILES, "recipe.train=train.jsonl", "recipe.validation=val", "run_dir=run", *BRIEF]
    desk.refuses(3, "train", *arguments, said=["train.jsonl:7"])
    assert "149 pairs in" in desk.does("train", *arguments, "recipe.bad_utf8=drop")


def row13_nul(desk: Desk) -> None:
    _is_a_space(desk, "\0")
    lines, codes = desk.remarks(b"one two\none\0two\n\0\n")
    assert lines[1] == lines[0]
    assert lines[2] == ""
    assert [line for line, code in codes if code == "CONTROL"] == [2, 3]


def row14_tab(desk: Desk) -> None:
    _is_a_space(desk, "\t")
    for line in desk.translates("one\ttwo\nthree\n", "format=tsv"):
        assert line.count("\t") == 3
    rows = "one\teins\ntwo\tzwei\nthree\tdrei\tdrei\n"
    desk.write("train.tsv", rows)
    write_corpus(desk.folder, "val", counting_pairs(4))
    arguments = [*FILES, "recipe.train=train.tsv", "recipe.validation=val", "run_dir=run", *BRIEF]
    desk.refuses(3, "train", *arguments, said=["train.tsv:3", "expected 2 columns", "got 3"])


def row15_escape_sequences_in_text(desk: Desk) -> None:
    _is_a_space(desk, "\x1b", "\x07", "\x7f", "\x9b", "\x08")
    desk.write("train.jsonl", '{"en": "\x1b[31mone\x07"\n')
    write_corpus(desk.folder, "val", counting_pairs(4))
    arguments = [*FILES, "recipe.train=train.jsonl", "recipe.validation=val", "run_dir=run", *BRIEF]
    said = desk.refuses(3, "train", *arguments, said=["train.jsonl:1", "\\x1b[31mone\\x07"])
    assert not set(said) & {"\x1b", "\x07"}


def row15_escape_sequences_on_the_training_screen(desk: Desk) -> None:
    said = (desk.messy / "said.txt").read_text()
    assert "[31mtwo" in said
    assert not set(said) & {"\x1b", "\x07"}


def row16_no_end_of_the_last_line(desk: Desk) -> None:
    assert desk.translates("one two\nthree") == desk.translates("one two\nthree\n")
    kept = json.loads(python(LOAD_FILES, desk.messy, "corpus/train"))
    assert kept[-1] == json.loads((desk.messy / "expected.json").read_text())[-1]


def row17_no_line_at_all(desk: Desk) -> None:
    assert desk.translates("") == []
    assert desk.remarks("") == ([], [])
    assert (desk.folder / "out.txt").read_bytes() == b""
    for empty in ("train", "val"):
        arguments = desk.corpus(counting_pairs(10))
        for language in ("en", "de"):
            desk.write(f"corpus/{empty}.{language}", "")
        desk.refuses(3, "train", *arguments, *BRIEF, "run_dir=run", said=["train" if empty == "train" else "validation"])
    assert "run" not in desk.names()
    files = ["hypothesis=corpus/val.en", "reference=corpus/val.de"]
    desk.refuses(3, "evaluate", *files, said=["nothing to evaluate"])


PEAK = """
import resource, sys
from seq2seq.cli.translate import main
main()
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def row18_a_line_of_a_megabyte(desk: Desk) -> None:
    long = ("one two three. " * 70_000)[: 1 << 20]
    desk.write("in.txt", f"one\n{long}\n{'x' * 20_000}\ntwo\n")
    limits = ["decoding=greedy", "decoding.lengths.max_factor=0", "decoding.lengths.max_offset=1"]
    arguments = [f"bundle={desk.bundle}", "input=in.txt", "output=out.txt", *limits]
    done = subprocess.run([sys.executable, "-c", PEAK, *arguments], cwd=desk.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) * 1024 < 1.5e9
    lines = (desk.folder / "out.txt").read_text().split("\n")
    assert len(lines) == 5
    assert all(lines[:4])
    report = [json.loads(line) for line in (desk.folder / "out.txt.report.jsonl").read_text().split("\n")[:-1]]
    assert [remark["line"] for remark in report if remark["code"] == "LONG_SPLIT"] == [2, 3]


def row19_longer_than_the_model_holds(desk: Desk) -> None:
    tokenizer = Bundle.load(desk.bundle).tokenizer
    pair = len(tokenizer.encode_source(["two three two three"])[0]) - len(tokenizer.encode_source(["two three"])[0])
    first, second = ("one " + "two three " * (count // pair) + "ten." for count in (170, 190))
    sizes = [len(row) for row in tokenizer.encode_source([first, second])]
    assert max(sizes) <= 256 < sum(sizes)
    lines, codes = desk.remarks(f"{first}\n{second}\n{first} {second}\n")
    assert lines[2] == f"{lines[0]} {lines[1]}"
    assert [code for code in codes if code[1] == "LONG_SPLIT"] == [(3, "LONG_SPLIT")]
    said = (desk.messy / "said.txt").read_text()
    assert "train: 1 pairs longer than 256 tokens left out" in said
    assert f"{PLAIN_COUNT + len(ODD_TRAIN) - 3} pairs in" in said


def row20_a_translation_that_reaches_the_cap(desk: Desk) -> None:
    free = ["decoding.lengths.max_factor=2.0", "decoding.lengths.max_offset=50"]
    code = """
import sys
from seq2seq import Translator
from seq2seq.decoding.beam import BeamSearch
translator = Translator.load(sys.argv[1], BeamSearch(1))
for text in ("one", "one two three " * 12):
    source = translator.tokenizer.encode_source([text])
    hypothesis = translator.engine.search(translator.search, source)[0][0]
    print(len(hypothesis.tokens), len(source[0]), hypothesis.capped)
"""
    for line in python(code, desk.folder, str(desk.looping)).splitlines():
        length, source, capped = line.split()
        assert capped == "True"
        assert int(length) in (2 * int(source) + 50, 2 * (int(source) - 1) + 50, 255)
    lines, codes = desk.remarks("one\n\none two\n", *free, bundle=desk.looping)
    assert [bool(line) for line in lines] == [True, False, True]
    assert [code for code in codes if code[1] == "LENGTH_CAP"] == [(1, "LENGTH_CAP"), (3, "LENGTH_CAP")]


def row21_endless_repetition(desk: Desk) -> None:
    free = ["decoding.lengths.max_factor=2.0", "decoding.lengths.max_offset=50"]
    for decoding in ("greedy", "beam"):
        lines, codes = desk.remarks("one two\nthree\n", *free, f"decoding={decoding}", bundle=desk.looping)
        assert [line for line, code in codes if code == "LOOP"] == [1, 2]
        for line in lines:
            assert line.strip()
            assert not re.search(r"(.{2,60}?)\1{7}", line), line


def row22_one_character(desk: Desk) -> None:
    texts = ["a", "one two three four five six seven eight nine ten", "1", "。", "é", ".", "one", "\U0001f600"]
    lines, codes = desk.remarks("".join(f"{text}\n" for text in texts), "batch_size=8")
    empty = [number for number, line in enumerate(lines, start=1) if not line.strip()]
    assert empty == [number for number, code in codes if code == "EMPTY_OUT"]


def row23_edges_of_batches_and_chunks(desk: Desk) -> None:
    code = """
import io, sys
from pathlib import Path
from seq2seq import Translator
from seq2seq.cli.translate import main
given = sys.argv[1:]
for count in (0, 1, 3, 4, 5, 2047, 2048, 2049):
    Path("in.txt").write_text("".join(f"{'one' if i % 2 else 'two three'}\\n" for i in range(count)))
    sys.argv = ["seq2seq-translate", *given, "input=in.txt", f"output=out{count}.txt"]
    main()
"""
    limits = ["decoding=greedy", "decoding.lengths.max_factor=0", "decoding.lengths.max_offset=1", "batch_size=4"]
    python(code, desk.folder, f"bundle={desk.bundle}", *limits)
    whole = (desk.folder / "out2049.txt").read_text().split("\n")
    for count in (0, 1, 3, 4, 5, 2047, 2048, 2049):
        lines = (desk.folder / f"out{count}.txt").read_text().split("\n")
        assert len(lines) == count + 1
        assert lines[:-1] == whole[:count]
        assert all(lines[:-1])


VARIED = [" ".join(text for text, _ in counting_pairs(3, seed=i))[: 5 + 11 * (i * 7 % 13)] for i in range(26)]


def row24_order_stays(desk: Desk) -> None:
    lines = desk.translates("".join(f"{text}\n" for text in VARIED))
    assert len(set(lines)) > 5
    backwards = desk.translates("".join(f"{text}\n" for text in reversed(VARIED)), "format=jsonl", "batch_size=5")
    records = [json.loads(line) for line in backwards]
    assert [record["line"] for record in records] == list(range(1, len(VARIED) + 1))
    assert [record["translation"] for record in records] == lines[::-1]


def row25_batches_change_nothing(desk: Desk) -> None:
    text = "".join(f"{text}\n" for text in VARIED)
    for decoding in ("greedy", "beam"):
        found = [desk.translates(text, f"decoding={decoding}", f"batch_size={size}") for size in (1, 7, 64)]
        assert found[0] == found[1] == found[2]


def row26_composed_and_decomposed(desk: Desk) -> None:
    forms = [unicodedata.normalize(form, "fünf, zwölf, Ångström, é") for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    lines = desk.translates(f"{forms[0]}\n{forms[1]}\n{forms[0]}{forms[1]}\n")
    assert lines[0] == lines[1]
    code = """
import sys
from seq2seq import Translator
encode = Translator.load(sys.argv[1]).tokenizer.encode_source
assert encode([sys.argv[2]]) == encode([sys.argv[3]])
"""
    python(code, desk.folder, str(desk.bundle), *forms)


def row27_compatibility_forms(desk: Desk) -> None:
    arguments = desk.corpus([(f"① {source} ﬁ ︰", target) for source, target in counting_pairs(60)])
    said = desk.does("doctor", *arguments, *BRIEF, "tokenizer.normalize=nfkc")
    assert re.search(r"normalize=nfkc changes \d+\.\d% of the characters", said)
    assert "tokenizer.normalize=nfc" in said
    assert "of the characters" not in desk.does("doctor", *arguments, *BRIEF)
    assert "of the characters" not in desk.does("doctor", *arguments, *BRIEF, "tokenizer.normalize=none")
    desk.refuses(2, "train", *arguments, "tokenizer.normalize=identity", said=["nfc, nfkc, none"])


ROUND_TRIP = """
import json, sys
from seq2seq import Translator
tokenizer = Translator.load(sys.argv[1]).tokenizer
texts = json.loads(sys.argv[2])
rows = tokenizer.encode_source(texts)
assert all(2 < i for row in rows for i in row[:-1]), rows
assert tokenizer.decode_target(tokenizer.encode_target(texts)) == texts
assert not any(3 == i for row in rows for i in row[:-1]), rows
"""


def row28_names_of_special_tokens(desk: Desk) -> None:
    texts = ["<s>", "</s>", "<pad>", "<unk>", "one </s> two", "<s> one <pad>", "a▁b", "▁", "<0x41>"]
    for bundle in (desk.bundle, desk.messy / "run" / "bundle"):
        python(ROUND_TRIP, desk.folder, str(bundle), json.dumps(texts))
    lines = desk.translates("".join(f"{text}\n" for text in texts))
    assert all(lines)


def row29_characters_never_seen(desk: Desk) -> None:
    texts = [
        "Ω ≈ ç √",
        "\U0001f600 one",
        "日本語",
        "עברית",
        "\U0001f469\u200d\U0001f680 two",
        "e\u0301x".replace("e\u0301", "é"),
        "𝔘𝔫",
    ]
    python(ROUND_TRIP, desk.folder, str(desk.bundle), json.dumps(texts, ensure_ascii=True))
    for line in desk.translates("".join(f"{text}\n" for text in texts)):
        assert "⁇" not in line


def row30_more_tokens_than_the_text_has(desk: Desk) -> None:
    arguments = [*desk.corpus(counting_pairs(40)), *BRIEF, "tokenizer.vocab_size=8000", "run_dir=run"]
    refused = command("train", *arguments, "strict=true", folder=desk.folder)
    assert refused.returncode == 3
    most = re.search(r"error: asked for 8,000 tokens, the text has no more than (\d+)\nfix: ", refused.stderr.decode())
    assert most
    said = desk.does("train", *arguments)
    assert f"the text has no more than {most[1]}" in said
    assert Bundle.load(desk.folder / "run" / "bundle").tokenizer.source_vocab_size == int(most[1])


def row31_a_long_line_in_tokenizer_training(desk: Desk) -> None:
    """Characters that stand in one line of 12,000 only are known to the tokenizer: none is spelled as bytes."""
    tokenizer = Bundle.load(desk.messy / "run" / "bundle").tokenizer
    assert len(tokenizer.encode_source(["ќњ"])[0]) <= 4
    assert len(Bundle.load(desk.bundle).tokenizer.encode_source(["ќњ"])[0]) >= 5


def row32_a_tokenizer_of_another_model(desk: Desk) -> None:
    bundle = desk.copy_of_bundle()
    pairs = counting_pairs(300, seed=77)
    other = Tokenizer.train(TokenizerConfig(vocab_size=300), [s for s, _ in pairs], [t for _, t in pairs])
    other.save(bundle / "tokenizer")
    desk.refuses(4, "translate", "bundle=copy", given=b"one\n", said=["copy/tokenizer/", "SHA-256"])
    seal(bundle)
    sizes = [str(other.source_vocab_size), str(Bundle.load(desk.bundle).tokenizer.source_vocab_size)]
    assert sizes[0] != sizes[1]
    desk.refuses(4, "translate", "bundle=copy", given=b"one\n", said=sizes)


def row33_damaged_tokenizer_files(desk: Desk) -> None:
    bundle = desk.copy_of_bundle()
    path = bundle / "tokenizer" / "joint.model"
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"\x89PNG\r\n\x1a\n" + bytes(500), b"#version: 0.2\n\xe2\x96\x81 o\n"):
        path.write_bytes(damaged)
        desk.refuses(4, "translate", "bundle=copy", given=b"one\n", said=["joint.model", "SHA-256"])
    path.unlink()
    desk.refuses(4, "translate", "bundle=copy", given=b"one\n", said=["joint.model is missing"])


@pytest.mark.parametrize("damage", ["empty", "half", "picture", "text", "no model", "zeros"])
def test_row33_tokenizer_files_that_are_no_tokenizer_but_sealed(desk: Desk, damage: str) -> None:
    bundle = desk.copy_of_bundle()
    path = bundle / "tokenizer" / "joint.model"
    whole = path.read_bytes()
    made = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
        "text": b"#version: 0.2\n\xe2\x96\x81 o\n",
        "no model": b"\n\x00",
        "zeros": bytes(65 << 20),
    }
    path.write_bytes(made[damage])
    seal(bundle)
    try:
        desk.refuses(4, "translate", "bundle=copy", given=b"one\n", said=["joint.model"])
    finally:
        path.unlink()


def row34_a_truncated_state_or_model(desk: Desk) -> None:
    bundle = desk.copy_of_bundle()
    with (bundle / "weights.safetensors").open("r+b") as file:
        file.truncate(1000)
    desk.refuses(4, "translate", "bundle=copy", given=b"one\n", said=["weights.safetensors"])
    shutil.copytree(desk.run.parent, desk.folder / "work")
    run = desk.folder / "work" / "run"
    newest = max((run / "states").glob("step-*"))
    with (newest / "tensors.safetensors").open("r+b") as file:
        file.truncate(1000)
    corpus = ["recipe.train=corpus/train", "recipe.validation=corpus/val"]
    arguments = [*FILES, *corpus, "run_dir=run", *SMALL, *SHORT, "trainer.max_steps=9"]
    done = command("train", *arguments, folder=run.parent)
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    assert "going on from an earlier state" in said
    assert newest.name in said.replace("\n", "")
    assert "step       9" in said
    Bundle.load(run / "bundle")


def row35_a_flipped_bit_and_zeros(desk: Desk) -> None:
    bundle = desk.copy_of_bundle()
    for name in ("weights.safetensors", "tokenizer/joint.model", "config.json"):
        path = bundle / name
        whole = path.read_bytes()
        for damaged in (bytes([*whole[:-9], whole[-9] ^ 1, *whole[-8:]]), bytes(len(whole))):
            path.write_bytes(damaged)
            desk.refuses(4, "translate", "bundle=copy", given=b"one\n", said=[name, "SHA-256"])
        path.write_bytes(whole)
    (bundle / "manifest.json").write_bytes(bytes(100))
    desk.refuses(4, "translate", "bundle=copy", given=b"one\n", said=["manifest.json"])


def row36_a_newer_format(desk: Desk) -> None:
    seal(desk.copy_of_bundle(), FORMAT_VERSION + 1)
    said = [f"format {FORMAT_VERSION + 1}", f"up to {FORMAT_VERSION}", "update", "seq2seq 99.0"]
    desk.refuses(4, "translate", "bundle=copy", given=b"one\n", said=said)


def row36_older_formats(desk: Desk) -> None:
    bundles = sorted(manifest.parent for manifest in FROZEN.glob("**/manifest.json"))
    bundles = [folder for folder in bundles if (folder / "config.json").is_file()]
    assert bundles, "every release freezes one: tools/freeze.py"
    for bundle in bundles:
        done = command("translate", f"bundle={bundle}", *SHORT, folder=desk.folder, given=b"one two\n\n")
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.count(b"\n") == 2


def row37_settings_that_do_not_exist(desk: Desk) -> None:
    desk.refuses(2, "train", *FILES, "modle.d_model=8", said=["did you mean 'model.d_model'"])
    desk.refuses(2, "train", *FILES, "+model.d_modl=8", said=["did you mean 'model.d_model'"])
    desk.refuses(2, "train", *FILES, "++trainer.max_stepps=8", said=["did you mean 'trainer.max_steps'"])
    desk.refuses(2, "train", *FILES, "+something=8", said=["something"])
    desk.refuses(2, "translate", f"bundle={desk.bundle}", "decoding.beamsize=3", said=["did you mean 'decoding.beam_size'"])
    desk.refuses(2, "evaluate", "+refrence=x", said=["did you mean 'reference'"])
    assert not desk.names()


def row38_wrong_types_and_ranges(desk: Desk) -> None:
    wrong = ["schedule.learning_rate=abc", "model.dropout=1.5", "model.d_model=10", "model.heads=4", "decoding.beam_size=0"]
    said = ["learning_rate", "'abc'", "dropout", "1.5", "not divisible", "beam_size is 0"]
    desk.refuses(
        2, "train", *FILES, *wrong, "batch.max_tokens=-1", "trainer.max_steps=1.5", said=[*said, "max_tokens", "max_steps"]
    )
    desk.refuses(2, "translate", "batch_size=0", "decoding.n_best=0", "strict=perhaps", said=["n_best", "strict"])


def row39_what_yaml_makes_of_plain_text(desk: Desk) -> None:
    numbers = ["trainer.max_steps=12:30", "schedule.learning_rate=1e4x", "seed=1e3x"]
    desk.refuses(2, "train", *FILES, *numbers, said=["max_steps", "'12:30'", "learning_rate", "'1e4x'", "'1e3x'"])
    files = ["recipe=files", "recipe.source=en", "recipe.train=corpus/train", "recipe.validation=corpus/val"]
    desk.refuses(2, "train", *files, "recipe.target=true", said=["recipe.target", 'quote it, for example "no"'])
    desk.write("corpus/train.en", "one\n")
    for norwegian in ("no", "'no'", '"no"'):
        desk.refuses(3, "train", *files, f"recipe.target={norwegian}", said=["no file corpus/train.no"])
    settings = "_target_: seq2seq.recipes.files.Files\nsource: en\ntarget: no\ntrain: a\nvalidation: b\n"
    desk.write("mine/recipe/norwegian.yaml", settings)
    desk.refuses(2, "train", "--config-dir=mine", "recipe=norwegian", said=["recipe.target", 'quote it, for example "no"'])


def row39_digits_with_an_underscore_stay_a_name(desk: Desk) -> None:
    done = command("train", *FILES, "recipe.train=2024_10", "recipe.validation=val", folder=desk.folder)
    assert done.returncode == 2
    assert b"quote it" in done.stderr


def row40_paths_are_those_of_the_caller(desk: Desk) -> None:
    write_corpus(desk.folder / "corpus", "train", counting_pairs(30))
    write_corpus(desk.folder / "corpus", "val", counting_pairs(4))
    desk.write("inner/in.txt", "one\ntwo\n")
    inner = desk.folder / "inner"
    where = ["recipe.train=../corpus/train", "recipe.validation=../corpus/val", "run_dir=../made/run"]
    done = command("train", *FILES, *where, *BRIEF, folder=inner)
    assert done.returncode == 0, done.stderr.decode()
    paths = ["bundle=../made/run/bundle", "input=in.txt", "output=deep/out.txt"]
    done = command("translate", *paths, *SHORT, folder=inner)
    assert done.returncode == 0, done.stderr.decode()
    assert (inner / "deep" / "out.txt").read_text().count("\n") == 2
    assert {path.name for path in inner.iterdir()} == {"in.txt", "deep"}
    assert {path.name for path in desk.folder.iterdir()} == {"corpus", "inner", "made"}


def row40_the_run_knows_its_files(desk: Desk) -> None:
    """Wherever it is looked at from, the run folder tells which files it was made of."""
    kept = [path for path in desk.run.glob("*") if path.suffix in (".yaml", ".json")] + [desk.bundle / "README.md"]
    assert any(str(desk.run.parent / "corpus" / "train.en") in path.read_text() for path in kept)


def row41_what_is_not_there(desk: Desk) -> None:
    desk.write("texts/in.txt", "one\n")
    model = f"bundle={desk.bundle}"
    desk.refuses(3, "translate", model, "input=texts/in.text", "output=o.txt", said=["no file texts/in.text", "'texts/in.txt'"])
    desk.refuses(3, "translate", model, "input=text/in.txt", said=["no file text/in.txt", "folder text does not exist"])
    desk.refuses(3, "translate", model, "input=texts", said=["texts is a folder", "in.txt"])
    desk.refuses(3, "evaluate", "hypothesis=texts/in.txt", "reference=texts/on.txt", said=["'texts/in.txt'"])
    desk.refuses(4, "translate", f"bundle={desk.run}", given=b"one\n", said=["is not a bundle", f"did you mean {desk.bundle}?"])
    if os.geteuid():
        (desk.folder / "texts" / "in.txt").chmod(0)
        done = command("translate", model, "input=texts/in.txt", folder=desk.folder)
        assert done.returncode == 3
        assert b"Permission denied" in done.stderr
        (desk.folder / "texts" / "in.txt").chmod(0o600)


def row41_a_corpus_that_is_not_there(desk: Desk) -> None:
    desk.corpus(counting_pairs(4))
    mistyped = [*FILES, "recipe.train=corpus/trian", "recipe.validation=corpus/val"]
    desk.refuses(3, "train", *mistyped, said=["no file corpus/trian.en", "train.en"])


def row42_files_that_are_there(desk: Desk) -> None:
    desk.write("in.txt", "one\ntwo\n")
    desk.write("out.txt", "mine\n")
    os.link(desk.folder / "in.txt", desk.folder / "same.txt")
    model = f"bundle={desk.bundle}"
    desk.refuses(2, "translate", model, "input=in.txt", "output=out.txt", said=["out.txt exists", "overwrite=true"])
    for output in ("in.txt", "./in.txt", "same.txt"):
        same = ["input=in.txt", f"output={output}", "overwrite=true"]
        desk.refuses(2, "translate", model, *same, said=["same file"])
    desk.refuses(2, "translate", model, "input=in.txt", "report=in.txt", "overwrite=true", said=["same file"])
    desk.refuses(2, "translate", model, "input=in.txt", "output=.", said=["not a regular file"])
    desk.does("translate", model, *SHORT, "input=in.txt", "output=out.txt", "overwrite=true")
    assert (desk.folder / "out.txt").read_text().count("\n") == 2


def row42_a_report_that_is_there(desk: Desk) -> None:
    desk.write("in.txt", "one\ntwo\n")
    desk.write("out.txt.report.jsonl", "mine\n")
    desk.refuses(2, "translate", f"bundle={desk.bundle}", "input=in.txt", "output=out.txt", said=["out.txt.report.jsonl exists"])


def row42_one_name_for_two_files(desk: Desk) -> None:
    desk.write("in.txt", "one\ntwo\n")
    model = f"bundle={desk.bundle}"
    desk.refuses(2, "translate", model, "input=in.txt", "output=out.txt", "report=out.txt", said=["same file"])


def row42_scores_do_not_take_the_place_of_texts(desk: Desk) -> None:
    desk.write("a.de", "eins\nzwei\n")
    desk.write("b.de", "eins\ndrei\n")
    files = ["hypothesis=a.de", "reference=b.de", "bootstrap=0"]
    for output in ("a.de", "b.de"):
        desk.refuses(2, "evaluate", *files, f"output={output}", said=[output])
    desk.write("notes.txt", "mine\n")
    systems = ["systems=[a.de,b.de]", "reference=b.de", "samples=2"]
    (desk.folder / "folder").mkdir()
    for output in ("notes.txt", "folder"):
        for name, asked in (("evaluate", files), ("compare", systems)):
            desk.refuses(2, name, *asked, f"output={output}", said=[f"{output} is there, and no result"])
    desk.refuses(5, "evaluate", *files, "output=a.de/results.json", said=["cannot be written"])
    for _ in range(2):  # a result may take the place of a result
        desk.does("evaluate", *files, "output=scores.json")
        desk.does("compare", *systems, "output=page.html")


RUN = [*FILES, "recipe.train=corpus/train", "recipe.validation=corpus/val", "run_dir=run", *BRIEF, "trainer.max_steps=6"]
"""What `trained_run` was trained with, as far as it matters here."""


def row42_a_run_folder_that_is_there(desk: Desk) -> None:
    shutil.copytree(desk.run.parent, desk.folder, dirs_exist_ok=True)
    desk.write("run/notes.txt", "mine\n")
    desk.refuses(2, "train", *RUN, "seed=3", said=["seed was 1, is 3", "resume=restart"])
    desk.refuses(2, "train", *RUN, "resume=never", said=["holds a run already"])
    desk.does("train", *RUN, "seed=3", "trainer.max_steps=1", "resume=restart")
    assert (desk.folder / "run" / "notes.txt").read_text() == "mine\n"


def _keeps(desk: Desk, names: list[str], *arguments: str) -> None:
    """A training that goes well, or is refused, loses none of these files."""
    done = command("train", *arguments, folder=desk.folder)
    assert done.returncode in (0, 2), done.stderr.decode()
    assert [name for name in names if not (desk.folder / name).is_file()] == []


def row42_other_files_in_a_run_begun_anew(desk: Desk) -> None:
    shutil.copytree(desk.run.parent, desk.folder, dirs_exist_ok=True)
    names = ["run/states/notes.txt", "run/bundle/notes.txt"]
    for name in names:
        desk.write(name, "mine\n")
    _keeps(desk, names, *RUN, "seed=3", "trainer.max_steps=1", "resume=restart")


def row42_a_folder_of_somebody_called_bundle(desk: Desk) -> None:
    arguments = [*desk.corpus(counting_pairs(20)), *BRIEF, "run_dir=project"]
    names = ["project/bundle/app.js", "project/states/alaska.txt", "project/metrics.csv"]
    for name in names:
        desk.write(name, "mine\n")
    _keeps(desk, names, *arguments)
    assert (desk.folder / "project" / "metrics.csv").read_text() == "mine\n"


def row43_packed_files_by_other_names(desk: Desk) -> None:
    text = b"one two\nthree\n"
    plain = desk.translates(text)
    for name, data in (("plain.gz", text), ("packed.txt", gzip.compress(text)), ("other.gz", bz2.compress(text))):
        desk.write(name, data)
        done = command("translate", f"bundle={desk.bundle}", *SHORT, f"input={name}", folder=desk.folder)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.decode().split("\n")[:-1] == plain


def row43_packed_files_cut_short(desk: Desk) -> None:
    packed = gzip.compress(os.urandom(20_000).hex().encode() + b"\n")
    desk.write("cut.gz", packed[:-500])
    desk.write("damaged.gz", packed[:9000] + bytes(50) + packed[9050:])
    for name in ("cut.gz", "damaged.gz"):
        files = [f"input={name}", "output=out.txt"]
        said = desk.refuses(
            3, "translate", f"bundle={desk.bundle}", *files, said=[f"{name}: the gzip file is damaged or cut short"]
        )
        assert re.search(r"near its byte [\d,]+", said)
    arguments = desk.corpus(counting_pairs(4))
    (desk.folder / "corpus" / "train.en").unlink()
    desk.write("corpus/train.en.gz", packed[:-500])
    desk.refuses(3, "train", *arguments, *BRIEF, said=["corpus/train.en.gz: the gzip file is damaged or cut short"])


def row43_tables_by_other_names(desk: Desk) -> None:
    write_corpus(desk.folder, "val", counting_pairs(4))
    arguments = [*FILES, "recipe.validation=val", "run_dir=run", *BRIEF]
    desk.write("a.jsonl", "one\teins\n")
    desk.refuses(
        3, "train", *arguments, "recipe.train=a.jsonl", said=["a.jsonl:1: expected an object with the keys 'en' and 'de'"]
    )
    desk.write("a.tsv", '{"en": "one", "de": "eins"}\n')
    desk.refuses(3, "train", *arguments, "recipe.train=a.tsv", said=["a.tsv:1: expected 2 columns"])


def row43_a_packed_stream(desk: Desk) -> None:
    """What is packed on standard input is unpacked, or refused; its bytes are no text."""
    text = b"one two\nthree\n"
    done = command("translate", f"bundle={desk.bundle}", *SHORT, folder=desk.folder, given=gzip.compress(text))
    if done.returncode == 0:
        assert done.stdout.decode().split("\n")[:-1] == desk.translates(text)
    else:
        assert done.returncode == 3
        assert b"error: " in done.stderr


HUB = """
import json, sys
from datasets import Dataset
for name, rows in json.loads(sys.argv[1]).items():
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    Dataset.from_dict(columns).to_parquet(f"set/{name}.parquet")
"""


def _data_set(desk: Desk, **splits: list[dict[str, str | None]]) -> list[str]:
    (desk.folder / "set").mkdir()
    python(HUB, desk.folder, json.dumps(splits))
    return ["recipe=hub", "recipe.name=set", "run_dir=run", *BRIEF]


def row44_a_data_set_without_the_column(desk: Desk) -> None:
    rows: list[dict[str, str | None]] = [{"en": s, "german": t} for s, t in counting_pairs(20)]
    arguments = _data_set(desk, train=rows, validation=rows[:4])
    desk.refuses(3, "train", *arguments, said=["no column for 'de'", "en, german", "recipe.target_column"])


def row44_a_data_set_with_gaps_and_breaks(desk: Desk) -> None:
    rows: list[dict[str, str | None]] = [{"en": s, "de": t} for s, t in counting_pairs(50)]
    rows[3]["en"] = None
    rows[5]["de"] = "eins\nzwei"
    rows[7]["en"] = "one\ntwo\nthree"
    arguments = _data_set(desk, train=rows, validation=rows[10:14])
    said = desk.does("train", *arguments, "filters.max_drop=0.05")
    assert "train: 1 pairs with a blank side dropped" in said
    assert "49 pairs in" in said
    assert "train: 2 pairs had a line break inside" in said


def row45_as_many_translations_as_references(desk: Desk) -> None:
    desk.write("a.de", "eins\nzwei\n")
    desk.write("b.de", "eins\nzwei\ndrei\n")
    desk.refuses(3, "evaluate", "hypothesis=a.de", "reference=b.de", said=["2 translations", "3 references"])
    assert desk.names() == {"a.de", "b.de"}


def row46_empty_translations_and_references(desk: Desk) -> None:
    desk.write("full.de", "eins zwei drei vier fünf\n" * 4)
    desk.write("none.de", "\n" * 4)
    desk.write("half.de", "eins zwei drei vier fünf\n\n" * 2)
    for hypothesis, reference, empty in (("none", "full", 4), ("half", "full", 2), ("full", "half", 0), ("none", "none", 4)):
        files = [f"hypothesis={hypothesis}.de", f"reference={reference}.de", "output=scores.json", "bootstrap=20"]
        said = desk.does("evaluate", *files)
        found = json.loads((desk.folder / "scores.json").read_text())
        assert (found["sentences"], found["empty"]) == (4, empty)
        assert all("version" in score["signature"] and 0 <= score["value"] < float("inf") for score in found["scores"])
        if empty:
            assert f"{empty} translations are empty" in said
        if reference != "full":
            assert "references are empty" in said


def row46_references_that_are_split_into_words(desk: Desk) -> None:
    desk.write("a.de", "eins , zwei drei .\n" * 150)
    said = desk.does("evaluate", "hypothesis=a.de", "reference=a.de", "bootstrap=0")
    assert "tokenized" in said


def row47_test_sentences_in_training(desk: Desk) -> None:
    pairs = [(f"{s} {i}", f"{t} {i}") for i, (s, t) in enumerate(counting_pairs(60))]
    arguments = [*desk.corpus(pairs, pairs[:5]), *BRIEF]
    write_corpus(desk.folder / "corpus", "test", pairs[5:7])
    said = desk.does("train", *arguments, "run_dir=a")
    assert "train: 5 pairs have a side that is held out, too" in said
    assert "filters.decontaminate=true" in said
    cleaned = desk.does("train", *arguments, "recipe.test=corpus/test", "filters.decontaminate=true", "run_dir=b")
    assert "7 pairs left out: a side is in validation or test" in cleaned
    assert "53 pairs in" in cleaned
    assert "flatter" not in cleaned


def row48_copies_and_swapped_sides(desk: Desk) -> None:
    pairs = [(f"{s} {i}", "раз два три") for i, (s, _) in enumerate(counting_pairs(90))]
    pairs[3] = pairs[3][::-1]
    pairs[20:29] = [(source, source) for source, _ in pairs[20:29]]
    arguments = desk.corpus(pairs)
    said = desk.does("doctor", *arguments, *BRIEF)
    assert "9 pairs (10.0%) say the same on both sides" in said
    assert re.search(r"train: \d+ pairs \(\d+\.\d%\) are in a script that is rare", said)
    assert "filters.identical=true" in said
    assert "filters.wrong_script=true" in said
    assert not (desk.folder / "runs").exists()


def row48_swapped_files(desk: Desk) -> None:
    """Russian where English should be, from the first line to the last."""
    swapped = [(f"раз два {i}", f"one two {i}") for i in range(60)]
    for language, side in (("en", 0), ("ru", 1)):
        for name in ("train", "val"):
            desk.write(f"{name}.{language}", "".join(pair[side] + "\n" for pair in swapped))
    arguments = ["recipe=files", "recipe.source=en", "recipe.target=ru", "recipe.train=train", "recipe.validation=val"]
    assert "script" in desk.does("doctor", *arguments, *BRIEF)


def row48_validation_swapped(desk: Desk) -> None:
    pairs = counting_pairs(150, seed=3)
    arguments = [*desk.corpus(pairs[:100], [pair[::-1] for pair in pairs[100:]]), *BRIEF]
    assert "validation: its source reads like the target" in desk.does("doctor", *arguments)
    arguments = [*desk.corpus(pairs[:100], pairs[100:]), *BRIEF]
    assert "reads like" not in desk.does("doctor", *arguments)


def row49_nothing_is_all_padding(desk: Desk) -> None:
    text = "".join(f"{blank}\n{line}\n" for blank, line in zip(["", " ", "\u200b", "\0", "\ufeff"] * 3, VARIED[:15], strict=True))
    for line in desk.translates(text, "format=jsonl", "batch_size=2"):
        record = json.loads(line)
        assert all(abs(candidate["score"]) < 1e9 for candidate in record["candidates"])
        assert bool(record["translation"].strip()) == ("BLANK" not in record["codes"])
    metrics = (desk.messy / "run" / "metrics.csv").read_text().lower()
    assert metrics.count("\n") >= 2
    assert "nan" not in metrics
    assert "inf" not in metrics


def row50_one_pair(desk: Desk) -> None:
    arguments = [*desk.corpus([("one", "eins")], [("two", "zwei")]), *BRIEF, "run_dir=run"]
    said = desk.does("train", *arguments, "trainer.max_steps=2")
    assert "1 pairs in 1 batches" in said
    assert re.search(r"(?i)only|few|small|tiny|less than", said.replace("no more than", "")), said
    lines, _ = desk.remarks("one\n\n", bundle=desk.folder / "run" / "bundle")
    assert len(lines) == 2


ROWS: list[Callable[[Desk], None]] = [value for name, value in list(globals().items()) if re.match(r"row\d\d_", name)]


def test_every_row_has_a_test() -> None:
    assert {int(row.__name__[3:5]) for row in ROWS} == set(range(1, 51))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_bad_input(row: Callable[[Desk], None], desk: Desk) -> None:
    row(desk)


@pytest.mark.parametrize("name", ["train", "doctor", "evaluate", "translate"])
def test_errors_come_soon(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Lightning is imported, which takes seconds; and what is no setting at all, before torch."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    missing = ["recipe=files", "recipe.train=nowhere/train", "recipe.validation=nowhere/val"]
    bundle = ["bundle=nowhere"] if name in ("evaluate", "translate") else missing
    for arguments in (bundle, ["+nonsense=1"], ["nonsense"]):
        refused = command(name, *arguments, folder=tmp_path, from_nothing=True)
        assert 2 <= refused.returncode <= 6
        imported = {line.rpartition(b"|")[2].strip() for line in refused.stderr.split(b"\n") if line.startswith(b"import time:")}
        assert b"hydra" in imported
        assert not imported & ({b"torch", b"lightning"} if arguments == ["nonsense"] else {b"lightning"})
