"""Multi30k (Elliott et al., 2016): 29,000 captions of photographs in English, German, French and Czech."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seq2seq.data.download import RemoteFile
from seq2seq.data.parallel import in_folder, local_folder, parallel_corpus
from seq2seq.data.recipe import Corpus
from seq2seq.errors import ConfigProblem
from seq2seq.folders import cache_folder

_COMMIT = "a3d2e0d26b56f3846f66a952536ffed4e401d05a"
_FOLDER = f"https://raw.githubusercontent.com/multi30k/dataset/{_COMMIT}/data/task1/raw"
_SHA256 = {
    "test_2016_flickr.cs": "200a4a74cc9560f051924abb9803be008d1908d77f747e9141aeb86dfd2797f1",
    "test_2016_flickr.de": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.fr": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
    "test_2017_flickr.de": "a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee",
    "test_2017_flickr.en": "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074",
    "test_2017_flickr.fr": "3ba671ceb2299f3304ffafefea7a833d08632fbaf0ba18546f8a2ec2391af496",
    "test_2017_mscoco.de": "799e4854c25d601cb6cb6be29eabe5667734c61ace2f495e03e429031a0bc338",
    "test_2017_mscoco.en": "aab300bfb4427697987e02cd0aacd44bfe8aa50456231b6474c08038bbed2b58",
    "test_2017_mscoco.fr": "754f3072ba9f124569ba5258b32730fc1d214bbf8e0c6dfb2b74401676220db0",
    "test_2018_flickr.cs": "7d0a9db904f94c554a8c58049a9f3a5357c27f46cc3d710d70cb0b4a2585b8c2",
    "test_2018_flickr.de": "ddd0130c7d97482dc5197a02141dae8dd79f20f03586c480d675c09a32daf608",
    "test_2018_flickr.en": "ef4f4844037d4c5dea75c9a8ed5fd78905967a26f67c255e230cc9780032654d",
    "test_2018_flickr.fr": "fb2b83fcceb937a4f7e3e93c1c51c22aba92f1e342391e6b5ba392b16a920501",
    "train.cs": "a65adb8b32e3bc664f21ecba7a6e7f6950fd1f405e135f7c312faabdb6255077",
    "train.de": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.fr": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.cs": "b63226e05c4bd5dd6a42897d74b86a1b9d2c31498252c572b1ea7f7996927fcc",
    "val.de": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.fr": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
}


@dataclass(frozen=True)
class Multi30k:
    """Raw text, cased and not tokenised. `form=tok` is the lower-cased, Moses-tokenised form some papers score on;
    it is read from a local folder only."""

    source: str
    target: str
    test: Literal["test_2016_flickr", "test_2017_flickr", "test_2017_mscoco", "test_2018_flickr"] = "test_2016_flickr"
    form: Literal["raw", "tok"] = "raw"
    folder: str | None = None

    def __post_init__(self) -> None:
        unknown = {self.source, self.target} - {"en", "de", "fr", "cs"}
        if unknown or self.source == self.target:
            raise ConfigProblem(f"Multi30k has en, de, fr and cs; asked for {self.source} to {self.target}", "choose two of them")

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        stems = {"train": "train", "validation": "val", "test": self.test}
        folder = local_folder(self.folder, "multi30k" if self.form == "raw" else "multi30k_tok")
        return parallel_corpus(
            (self.source, self.target),
            {split: stems[split] for split in splits},
            in_folder(folder, None if self.folder else self._fetch) if folder else self._fetch,
            origin=f"Multi30k, github.com/multi30k/dataset, task 1, {self.form} text",
            licence="captions of Flickr photographs; research use",
        )

    def _fetch(self, stem: str, language: str) -> Path:
        name = f"{stem}.{language}"
        if self.form != "raw":
            raise ConfigProblem(
                "Multi30k's tokenised form is not downloaded",
                f"put data/task1/tok of github.com/multi30k/dataset into DIR/multi30k_tok, as {name} and so on, and set recipe.folder=DIR",
            )
        if name not in _SHA256:
            raise ConfigProblem(
                f"Multi30k has no {name} to download",
                "choose another language or test set, or name a folder that holds it: recipe.folder=DIR",
            )
        return RemoteFile(f"{_FOLDER}/{name}.gz", _SHA256[name]).fetch(cache_folder("multi30k"))
