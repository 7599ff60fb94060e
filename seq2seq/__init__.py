"""Train, judge and run encoder-decoder Transformers for translation.

    >>> from seq2seq import Translator
    >>> translator = Translator.load("runs/demo/bundle")
    >>> translator.translate(["Monday, March 3"])

Importing the package costs next to nothing: torch comes in with the first name that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seq2seq.bundle import Bundle as Bundle
    from seq2seq.model.config import TransformerConfig as TransformerConfig
    from seq2seq.model.transformer import Transformer as Transformer
    from seq2seq.translator import Translator as Translator

__version__ = "0.1.0"
_HOMES = {
    "Bundle": "seq2seq.bundle",
    "Transformer": "seq2seq.model.transformer",
    "TransformerConfig": "seq2seq.model.config",
    "Translator": "seq2seq.translator",
}
__all__ = ["Bundle", "Transformer", "TransformerConfig", "Translator", "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'seq2seq' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
