"""Any data set of the Hugging Face hub with a `translation` column or two text columns; also a local copy of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seq2seq.data.download import is_offline
from seq2seq.data.parallel import in_folder, local_folder, parallel_corpus
from seq2seq.data.recipe import Corpus, make_corpus, pairs_of
from seq2seq.errors import ConfigProblem, DataProblem, MachineProblem
from seq2seq.folders import cache_folder

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Hub:
    """`name` is a data set of the hub, `owner/name`, or a local folder that `datasets.load_dataset` can read."""

    source: str
    target: str
    name: str
    subset: str | None = None
    """The hub calls it a configuration."""
    revision: str | None = None
    train: str = "train"
    validation: str = "validation"
    test: str = "test"
    source_column: str | None = None
    """For data sets with two text columns; unset: the language codes, in a `translation` column or as columns."""
    target_column: str | None = None
    licence: str = "see the data set's card"

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        columns = (self.source_column, self.target_column)
        names = {"train": self.train, "validation": self.validation, "test": self.test}
        return hub_corpus(
            self.name,
            self.subset,
            self.revision,
            (self.source, self.target),
            {s: names[s] for s in splits},
            self.licence,
            columns,
        )


def hub_corpus(
    name: str,
    subset: str | None,
    revision: str | None,
    languages: tuple[str, str],
    splits: Mapping[str, str],
    licence: str,
    columns: tuple[str | None, str | None] = (None, None),
) -> Corpus:
    """A corpus from the hub. `splits` maps our names to the data set's."""
    import datasets

    datasets.config.HF_HUB_OFFLINE = is_offline()
    datasets.disable_progress_bars()
    try:
        loaded: Any = {
            ours: datasets.load_dataset(name, subset, split=theirs, revision=revision, cache_dir=str(cache_folder("hub")))
            for ours, theirs in splits.items()
        }
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        raise MachineProblem(
            f"cannot load the data set '{name}' ({error})",
            "check the name and the network; a local folder may stand in for the name",
        ) from None
    except (ValueError, RuntimeError) as error:
        raise ConfigProblem(
            f"the data set '{name}' cannot be loaded so: {error}",
            "set recipe.subset and the split names: recipe.train, recipe.validation, recipe.test",
        ) from None
    columns_of = {split: _two_columns(data, languages, columns, name) for split, data in loaded.items()}
    pairs = {split: pairs_of(data) for split, data in columns_of.items()}
    known = {split: str(data._fingerprint) for split, data in columns_of.items()}
    origin = f"Hugging Face hub: {name} {subset or ''} {revision or ''}".strip()
    return make_corpus(languages, pairs, origin, licence, settings=known)


def folder_or_hub(
    folder: str | None,
    name: str,
    languages: tuple[str, str],
    splits: Sequence[str],
    data_set: tuple[str, str, str | None],
    licence: str,
) -> Corpus:
    """A corpus that has its own recipe: from the local folder `name`, else from the hub under the same split names.

    Args:
        data_set: its name, subset and revision on the hub.
    """
    same = {split: split for split in splits}
    if found := local_folder(folder, name):
        return parallel_corpus(languages, same, in_folder(found), f"{name}, a local folder", licence)
    return hub_corpus(*data_set, languages, same, licence)


def check_paired_with_english(corpus: str, source: str, target: str, others: Sequence[str]) -> None:
    """Raises ConfigProblem unless one language is English and the other one of `others`."""
    if {source, target} not in [{"en", other} for other in others]:
        raise ConfigProblem(
            f"{corpus} pairs en with {', '.join(others)}; asked for {source} to {target}", "choose one of these pairs"
        )


def _two_columns(data: "Dataset", languages: tuple[str, str], columns: tuple[str | None, str | None], name: str) -> "Dataset":
    """Find the text and call it `source` and `target`."""
    flat = data.flatten()
    found = []
    for language, column in zip(languages, columns, strict=True):
        candidates = [column] if column else [f"translation.{language}", language]
        column = next((c for c in candidates if c in flat.column_names), None)
        if column is None:
            raise DataProblem(
                f"the data set '{name}' has no column for '{language}'; it has {', '.join(flat.column_names)}",
                "name the columns: recipe.source_column=… recipe.target_column=…",
            )
        kind = getattr(flat.features[column], "dtype", flat.features[column])
        if not str(kind).startswith(("string", "large_string")):
            raise DataProblem(
                f"the column '{column}' of the data set '{name}' is no text but {kind}; it has {', '.join(flat.column_names)}",
                "name columns of text: recipe.source_column=… recipe.target_column=…",
            )
        found.append(column)
    return flat.select_columns(found).rename_columns(dict(zip(found, ("source", "target"), strict=True)))
