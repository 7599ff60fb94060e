"""Floor 0: the inner loops of decoding in C, for a CPU. They are compiled for this very processor when they are first wanted, which
takes a second, and kept in the cache. Where there is no compiler, or SEQ2SEQ_KERNELS is 0, their slow twins in torch are used.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from seq2seq.atomic import replacing_file
from seq2seq.folders import cache_folder

KERNEL_WIDTHS = range(16, 129, 16)
"""Widths of a head that the kernel of attention can do."""


def scratch_size(nodes: int) -> int:
    """How many numbers of four bytes the kernels of attention need to work with."""
    return 9 * nodes + 16


_SOURCE = Path(__file__).with_name("kernels.c")
_FLAGS = (
    *("-std=c11", "-O3", "-march=native", "-shared", "-fPIC", "-fopenmp-simd"),
    # Sums may be taken in any order, as every library does; infinities stay what they are.
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-freciprocal-math"),
)
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_KEPT = [_POINTER, _POINTER, _SIZE, _SIZE, _SIZE]
_ARGUMENTS = {
    "attend_to_past": [_POINTER, _POINTER, *_KEPT, _POINTER, _POINTER, _SIZE, _SIZE, _POINTER, _POINTER, *[_SIZE] * 6],
    "attend_to_source": [_POINTER, *_KEPT, _POINTER, _SIZE, _POINTER, _POINTER, *[_SIZE] * 6],
    "log_sum_exp": [_POINTER, _POINTER, _SIZE, _SIZE],
    "best": [_POINTER] * 5 + [_SIZE] * 4,
}


@cache
def kernels() -> ctypes.CDLL | None:
    """The functions of `kernels.c`, or None where they cannot be had."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or os.environ.get("SEQ2SEQ_KERNELS") == "0":
        return None
    try:
        library = ctypes.CDLL(str(_compiled(compiler)))
        for name, arguments in _ARGUMENTS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, None
    except (OSError, subprocess.SubprocessError):
        return None
    return library


def runs_kernels(*tensors: Any) -> bool:
    """Whether kernels may be given these tensors, of which no gradient is wanted: float32 on a CPU, each row without gaps."""
    return all(
        tensor.device.type == "cpu" and tensor.element_size() == 4 and tensor.stride(-1) == 1 and not tensor.requires_grad
        for tensor in tensors
    )


def _compiled(compiler: str) -> Path:
    """The library in the cache, whose name knows the source, the compiler and the processor: a cache may be shared by several."""
    made_from = (_SOURCE.read_text(encoding="utf-8"), compiler, " ".join(_FLAGS), _processor())
    path = cache_folder("kernels") / f"{hashlib.sha256(chr(0).join(made_from).encode()).hexdigest()[:32]}.so"
    if not path.is_file():
        with replacing_file(path) as temporary:
            command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(temporary), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path


def _processor() -> str:
    """What this processor can do, as Linux tells; elsewhere its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n")
    except OSError:
        return platform.machine() + platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
