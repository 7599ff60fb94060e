"""Floor 4: the model in other toolkits' formats, one a file; each is an extra."""

from typing import Literal

Quantization = Literal["float32", "float16", "bfloat16", "int16", "int8", "int8_float16", "int8_bfloat16"]
"""Of CTranslate2's weights."""
