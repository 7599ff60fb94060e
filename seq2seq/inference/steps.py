"""Steps of attention by kernels of our own: a library takes longer to begin so small products than to make them.

Each takes the place of the method of `MultiHeadAttention` that has its name, which is its slow twin.
"""

from collections.abc import Callable

from torch import Tensor

from seq2seq.kernels import KERNEL_WIDTHS, kernels
from seq2seq.model.attention import MultiHeadAttention
from seq2seq.model.cache import LayerCache, Newest

Step = Callable[[Tensor, LayerCache, Newest], Tensor]


def use_kernels(attention: MultiHeadAttention) -> None:
    """Of a layer that is prepared and on a CPU, in float32. Where there are no kernels, nothing happens."""
    library = kernels()
    if library is None or attention.d_head not in KERNEL_WIDTHS:
        return
    H, D, group = attention.heads, attention.d_head, attention.heads // attention.key_value_heads

    def attend_to_past(x: Tensor, past: LayerCache, newest: Newest) -> Tensor:
        projected = attention.project_together(x, "query", "key", "value")
        turns = None if newest.rotation is None else newest.rotation.turns
        may, keys = newest.may_attend, past.keys
        B, K, N = may.shape
        out = x.new_empty(B, K, H * D)
        library.attend_to_past(
            *(projected.data_ptr(), turns if turns is None else turns.data_ptr()),
            *(keys.data_ptr(), past.values.data_ptr(), *keys.stride()[:3], newest.nodes.data_ptr()),
            *(may.data_ptr(), may.stride(0), may.stride(1), out.data_ptr(), B, K, H, group, N, D),
        )
        return attention.output(out)  # type: ignore[no-any-return]

    def attend_to_source(x: Tensor, source: LayerCache, newest: Newest) -> Tensor:
        queries = attention.project_together(x, "query")
        may, keys = newest.may_attend_to_source, source.memory_keys
        B, K, S = x.size(0), x.size(1), may.size(3)
        out = x.new_empty(B, K, H * D)
        library.attend_to_source(
            *(queries.data_ptr(), keys.data_ptr(), source.memory_values.data_ptr(), *keys.stride()[:3]),
            *(may.data_ptr(), may.stride(0), out.data_ptr(), B, K, H, group, S, D),
        )
        return attention.output(out)  # type: ignore[no-any-return]

    attention.attend_to_past = attend_to_past  # type: ignore[method-assign]
    attention.attend_to_source = attend_to_source  # type: ignore[method-assign]
