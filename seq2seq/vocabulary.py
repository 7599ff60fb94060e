"""Floor 2: a model with another vocabulary than it was trained with, so that it can go on with text that its own spells badly."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from seq2seq.bundle import Bundle
from seq2seq.data.text import SPACE_MARK
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import ConfigProblem
from seq2seq.model.transformer import Transformer


def respelled(bundle: Bundle, tokenizer: Tokenizer) -> Bundle:
    """The same model for other tokens: those that it knows keep their vectors, and a new one begins as the mean of what it was spelled as before.

    Raises:
        ConfigProblem: it has one matrix for source and target, and they are to have two vocabularies.
    """
    old, config = bundle.tokenizer.saying(""), bundle.config.model
    if config.tied_embeddings == "three-way" and not tokenizer.config.joint:
        raise ConfigProblem(
            "the bundle has one matrix of embeddings for source and target (tied_embeddings=three-way), which needs one joint vocabulary",
            "tokenizer.joint=true",
        )
    model = Transformer(
        replace(config, source_vocab_size=tokenizer.source_vocab_size, target_vocab_size=tokenizer.target_vocab_size)
    )
    moved = {
        "source_embedding": _spelled(old.source_pieces(), tokenizer.source_pieces(), old.encode_source),
        "target_embedding": _spelled(old.target_pieces(), tokenizer.target_pieces(), old.encode_target),
    }
    moved["output"] = moved["target_embedding"]
    tensors: dict[str, Tensor] = {}
    for name, tensor in bundle.model.state_dict().items():
        spelling = moved.get(name.split(".")[0])
        tensors[name] = (
            tensor if spelling is None or "positions" in name else torch.stack([tensor[ids].mean(dim=0) for ids in spelling])
        )
    model.load_state_dict(tensors)
    return replace(bundle, config=replace(bundle.config, model=model.config), model=model, tokenizer=tokenizer, shortlist=None)


def _spelled(old: Sequence[str], new: Sequence[str], encode: Callable[[Sequence[str]], list[list[int]]]) -> list[list[int]]:
    """Of each new piece the old ids that say the same: its own if it has one."""
    known, space = {piece: i for i, piece in enumerate(old)}, list(old).index(SPACE_MARK) if SPACE_MARK in old else None
    spelled = []
    for piece, (*ids, end) in zip(new, encode([piece.replace(SPACE_MARK, " ") for piece in new]), strict=True):
        if ids[1:] and ids[0] == space and not piece.startswith(SPACE_MARK):
            ids = ids[1:]  # a text begins with a space, the inside of a word does not
        spelled.append([known[piece]] if piece in known else ids or [end])
    return spelled
