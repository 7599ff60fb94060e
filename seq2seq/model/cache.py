"""What the decoder keeps between steps: keys and values, owned by the caller and passed to every step.

The hypotheses of a sentence (K of them) have grown from one beginning, so their pasts are paths in one tree. The cache
keeps every token of that tree once, as a node with its keys and values, and for each hypothesis which nodes lie on its path.
Choosing among hypotheses then moves no keys: only paths are chosen. A node that is on no path any more is written over. The
order of nodes means nothing, because attention does not see it; where a token stands is in its keys already.

Cross-attention keys and values exist once per sentence, because all its hypotheses look at the same source. Each hypothesis
knows its own length, so sentences at different positions may share a batch.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seq2seq.model.positions import Rotation

BLOCK = 16
"""Room is made for this many nodes a hypothesis at a time."""


@dataclass(frozen=True)
class Newest:
    """What all layers need to know of the newest tokens: their nodes in the cache (B, K), their rotation, and what they may
    attend to, of their own past (B, K, N) and of the source (B, 1, 1, S)."""

    nodes: Tensor
    rotation: Rotation | None
    may_attend: Tensor
    may_attend_to_source: Tensor


@dataclass
class LayerCache:
    """Keys and values of one decoder layer: of the nodes (B, H, N, D), and of the memory (B, H, S, D)."""

    keys: Tensor
    values: Tensor
    memory_keys: Tensor
    memory_values: Tensor

    def write(self, keys: Tensor, values: Tensor, nodes: Tensor) -> None:
        """Keep the newest keys and values (B, H, K, D) of each hypothesis at its node (B, K)."""
        places = nodes[:, None, :, None].expand_as(keys)
        self.keys.scatter_(2, places, keys)
        self.values.scatter_(2, places, values)

    def of(self, sentences: Tensor) -> "LayerCache":
        kept = (x.index_select(0, sentences) for x in (self.keys, self.values, self.memory_keys, self.memory_values))
        return LayerCache(*kept)


@dataclass
class Cache:
    """The decoder's state in the middle of B sentences with K hypotheses each.

    Attributes:
        layers: one `LayerCache` a decoder layer.
        memory_mask: (B, 1, 1, S), True at source tokens.
        paths: (B, K, N), True where a node is in the past of a hypothesis.
        lengths: (B, K), how many tokens each hypothesis has.
        width: nodes from here on are not in use, known without asking the device.
    """

    layers: list[LayerCache]
    memory_mask: Tensor
    paths: Tensor
    lengths: Tensor
    width: int

    @classmethod
    def empty(cls, memory: list[tuple[Tensor, Tensor]], memory_mask: Tensor) -> "Cache":
        """One hypothesis a sentence, without a past: of each layer the memory's keys and values."""
        B = memory_mask.size(0)
        layers = []
        for keys, values in memory:
            room = keys.new_zeros(B, keys.size(1), BLOCK, keys.size(3))
            layers.append(LayerCache(room, room.clone(), keys, values))
        paths = memory_mask.new_zeros(B, 1, BLOCK)
        return cls(layers, memory_mask, paths, paths.new_zeros(B, 1, dtype=torch.long), 0)

    def grow(self) -> tuple[Tensor, Tensor]:
        """A node for the next token of every hypothesis, which joins its path.

        Returns:
            The nodes (B, K), and what may be attended to (B, K, width): the path of each hypothesis.
        """
        hypotheses = self.paths.size(1)
        self._make_room(self.width + hypotheses)
        nodes = self._free_nodes(hypotheses)
        self.width = max(self.width, int(nodes.max()) + 1)
        self.paths = self.paths.scatter(2, nodes[:, :, None], True)
        self.lengths = self.lengths + 1
        return nodes, self.paths[:, :, : self.width]

    def _free_nodes(self, count: int) -> Tensor:
        """(B, count): of each sentence the first nodes that are on no path."""
        within = self.width + count
        free = ~self.paths[:, :, :within].any(dim=1)
        if count == 1:
            return free.int().argmax(dim=1, keepdim=True)
        first_come_first = torch.arange(within, 0, -1, device=free.device)
        return (free * first_come_first).topk(count, dim=1).indices

    def _make_room(self, nodes: int) -> None:
        if (missing := nodes - self.paths.size(2)) > 0:
            more = -(-missing // BLOCK) * BLOCK * self.paths.size(1)
            self.paths = F.pad(self.paths, (0, more))
            for layer in self.layers:
                layer.keys, layer.values = (F.pad(x, (0, 0, 0, more)) for x in (layer.keys, layer.values))

    def select(self, rows: Tensor) -> "Cache":
        """The cache of the hypotheses `rows` (B', K'): row b*K + k goes on from hypothesis k of sentence b.

        A row of `rows` lists hypotheses of one sentence. Sentences may be left out but keep their order. The old cache
        must not be used any more.
        """
        sentences, hypotheses = self.lengths.shape
        layers, memory_mask, paths, lengths = self.layers, self.memory_mask, self.paths, self.lengths
        if rows.size(0) != sentences:
            kept = rows[:, 0] // hypotheses
            layers = [layer.of(kept) for layer in layers]
            memory_mask, paths, lengths = (x.index_select(0, kept) for x in (memory_mask, paths, lengths))
        chosen = rows % hypotheses
        paths = paths.gather(1, chosen[:, :, None].expand(-1, -1, paths.size(2)))
        return Cache(layers, memory_mask, paths, lengths.gather(1, chosen), self.width)

    def put(self, places: Tensor, new: "Cache") -> None:
        """Sentences of another cache, with as many hypotheses, take the places (B') of sentences that are done."""
        self._make_room(new.width)
        source = self.memory_mask.size(3)
        if (more := new.memory_mask.size(3) - source) > 0:
            self.memory_mask = F.pad(self.memory_mask, (0, more))
            for layer in self.layers:
                layer.memory_keys, layer.memory_values = (
                    F.pad(x, (0, 0, 0, more)) for x in (layer.memory_keys, layer.memory_values)
                )
        _overwrite(self.memory_mask, places, new.memory_mask)
        _overwrite(self.paths, places, new.paths[:, :, : new.width])
        self.lengths[places] = new.lengths
        for old, layer in zip(self.layers, new.layers, strict=True):
            for room, newcomers in (
                (old.keys, layer.keys[:, :, : new.width]),
                (old.values, layer.values[:, :, : new.width]),
                (old.memory_keys, layer.memory_keys),
                (old.memory_values, layer.memory_values),
            ):
                room[places, :, : newcomers.size(2)] = newcomers
        self.width = _last_in_use(self.paths.any(dim=1).any(dim=0))
        self._forget_source_from(_last_in_use(self.memory_mask.flatten(1).any(dim=0)))

    def _forget_source_from(self, length: int) -> None:
        """The sentences that had longer sources have left."""
        self.memory_mask = self.memory_mask[..., :length]
        for layer in self.layers:
            layer.memory_keys, layer.memory_values = layer.memory_keys[:, :, :length], layer.memory_values[:, :, :length]


def _overwrite(old: Tensor, places: Tensor, new: Tensor) -> None:
    """Boolean rows take the places of others; beyond their end it is False."""
    old[places] = F.pad(new, (0, old.size(-1) - new.size(-1)))


def _last_in_use(in_use: Tensor) -> int:
    """How many there are up to the last True of (N)."""
    return int((in_use * torch.arange(1, in_use.size(0) + 1, device=in_use.device)).max())
