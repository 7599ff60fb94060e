"""Floor 0: inner loops in C, for a CPU: `decoding.c` and `training.c`. They are compiled for this very processor when they are first
wanted, which takes a second, and kept in the cache. Where there is no compiler, or SEQ2SEQ_KERNELS is 0, their slow twins in torch are
used.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from seq2seq.atomic import replacing_file
from seq2seq.folders import cache_folder

LANES = 16
"""Numbers in a vector. This and what follows is handed to the compiler: the files in C have it from here."""
MOST_PARTS = 8
"""Vectors that a head may be wide."""
AT_ONCE = 8
"""Hypotheses of a sentence that read a key or value together."""
TOGETHER = 4
"""Sums of attention in training that are made together: they need not wait for each other."""
KERNEL_WIDTHS = range(LANES, MOST_PARTS * LANES + 1, LANES)
"""Widths of a head that the kernels of attention and of rotary positions can do."""


def scratch_size(nodes: int) -> int:
    """How many numbers of four bytes the kernels of attention need to work with."""
    return (AT_ONCE + 1) * nodes + LANES


def training_scratch_size(queries: int, keys: int, width: int) -> int:
    """How many numbers a thread needs for attention within sentences of at most so many queries and keys, and for its gradient."""
    queries, keys = (-(-count // LANES) * LANES for count in (queries, keys))
    return (5 * keys + 3 * queries) * width + 2 * queries * keys


def rows_of(*tensors: Any) -> Any:
    """Tensors (1, H, N, D), float32 or bfloat16, as `rows` in C."""
    numbers = [n for x in tensors for n in (x.data_ptr(), x.stride(2), x.stride(1), int(x.element_size() == 2))]
    return (ctypes.c_int64 * len(numbers))(*numbers)


_FOLDER = Path(__file__).parent
_FLAGS = (
    *("-std=c11", "-O3", "-march=native", "-shared", "-fPIC"),
    *(f"-DLANES={LANES}", f"-DMOST_PARTS={MOST_PARTS}", f"-DAT_ONCE={AT_ONCE}", f"-DTOGETHER={TOGETHER}"),
    # Sums may be taken in any order, as every library does; infinities stay what they are.
    *(
        "-fno-math-errno",
        "-fno-trapping-math",
        "-fno-signed-zeros",
        "-fassociative-math",
        "-freciprocal-math",
        "-ffp-contract=fast",
    ),
)
_POINTER, _SIZE, _BITS = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64
_KEPT = [_POINTER, _POINTER, _SIZE, _SIZE, _SIZE]
_ATTENTION = [_POINTER, _POINTER, *[_SIZE] * 6, _POINTER, _SIZE, _POINTER, _POINTER]
_DROPOUT = [_POINTER, _POINTER, _POINTER, _SIZE, _BITS, _BITS, ctypes.c_double, _SIZE]
_AGREEMENT = [_POINTER, _SIZE, _SIZE, ctypes.c_double, _POINTER, _POINTER, _SIZE]
_DECODING: dict[str, list[Any]] = {
    "attend_to_past": [_POINTER, _POINTER, *_KEPT, _POINTER, _POINTER, _SIZE, _SIZE, _POINTER, _POINTER, *[_SIZE] * 6],
    "attend_to_source": [_POINTER, *_KEPT, _POINTER, _SIZE, _POINTER, _POINTER, *[_SIZE] * 6],
    "log_sum_exp": [_POINTER, _POINTER, _SIZE, _SIZE],
    "best": [_POINTER] * 5 + [_SIZE] * 4,
}
_TRAINING: dict[str, list[Any]] = {
    "agreement_of_bfloat16_rows": _AGREEMENT,
    "agreement_of_rows": _AGREEMENT,
    "attend_within": _ATTENTION,
    "attend_within_backward": _ATTENTION,
    "dropout": _DROPOUT,
    "dropout_of_bfloat16": _DROPOUT,
    "dropout_to_bfloat16": _DROPOUT,
    "exponentials_of_rows": [_POINTER, _SIZE, _SIZE, _POINTER, _POINTER, _SIZE],
    "exponentials_of_bfloat16_rows": [_POINTER, _SIZE, _SIZE, _POINTER, _POINTER, _SIZE],
    "normalize": [_POINTER, _SIZE, _SIZE, _POINTER, _POINTER, ctypes.c_double, _POINTER, _SIZE, _POINTER, _SIZE],
    "normalize_backward": [_POINTER, _SIZE, _POINTER, _POINTER, _SIZE, _SIZE, *[_POINTER] * 4, _SIZE],
    "turn": [_POINTER, _SIZE, _SIZE, _SIZE, _POINTER, _SIZE, _SIZE],
}


@cache
def kernels() -> ctypes.CDLL | None:
    """The functions of `decoding.c`, or None where they cannot be had."""
    return _library("decoding.c", _DECODING, "-fopenmp-simd")


@cache
def training_kernels() -> ctypes.CDLL | None:
    """The functions of `training.c`, which run on the threads that torch's run on, or None where they cannot be had."""
    return _library("training.c", _TRAINING, "-fopenmp")


def _library(source: str, functions: dict[str, list[Any]], threads: str) -> ctypes.CDLL | None:
    if os.environ.get("SEQ2SEQ_KERNELS") == "0":
        return None
    try:
        program, *arguments = shlex.split(os.environ.get("CC", "cc"))  # it may be `ccache gcc`
        found = shutil.which(program)
        if found is None:
            return None
        library = ctypes.CDLL(str(_compiled((found, *arguments), _FOLDER / source, (*_FLAGS, threads))))
        for name, types in functions.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return library


def runs_kernels(*tensors: Any) -> bool:
    """Whether kernels may be given these tensors, of which no gradient is wanted: float32 on a CPU, each row without gaps."""
    return all(
        tensor.device.type == "cpu" and tensor.element_size() == 4 and tensor.stride(-1) == 1 and not tensor.requires_grad
        for tensor in tensors
    )


def runs_training_kernels(*tensors: Any) -> bool:
    """Whether there are kernels of training, and they may be given these tensors: float32 or bfloat16 on a CPU."""
    alike = all(tensor.device.type == "cpu" and str(tensor.dtype) in ("torch.float32", "torch.bfloat16") for tensor in tensors)
    return alike and training_kernels() is not None


def _compiled(compiler: tuple[str, ...], source: Path, flags: tuple[str, ...]) -> Path:
    """The library in the cache, whose name knows the source, the compiler and the processor: a cache may be shared by several."""
    text = source.read_text(encoding="utf-8") + (_FOLDER / "vectors.h").read_text(encoding="utf-8")
    made_from = (text, " ".join(compiler), " ".join(flags), processor())
    path = cache_folder("kernels") / f"{hashlib.sha256(chr(0).join(made_from).encode()).hexdigest()[:32]}.so"
    if not path.is_file():
        with replacing_file(path) as temporary:
            command = [*compiler, *flags, str(source), "-o", str(temporary), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path


def processor() -> str:
    """What this processor can do, as Linux tells; elsewhere its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n")
    except OSError:
        return platform.machine() + platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
