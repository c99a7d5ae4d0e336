"""Size of a safetensors file, from names, dtypes and shapes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_SAFETENSORS_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}


def count_tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the tensors' elements."""
    return sum(t.numel() * t.element_size() for t in tensors.values())


def count_safetensors_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of these floating-point tensors as a safetensors file without metadata.

    Source: the format's page, huggingface.co/docs/safetensors: eight bytes, a header of compact
    JSON filled up with spaces to a multiple of eight, and the numbers, those of larger types first.
    """
    header, at = {}, 0
    for name, tensor in sorted(tensors.items(), key=lambda kv: (-kv[1].element_size(), kv[0])):
        end = at + tensor.numel() * tensor.element_size()
        kind = _SAFETENSORS_DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + -(-len(text) // 8) * 8 + at
