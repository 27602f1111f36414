"""Whether a model on this disk is quantized already, told by its file alone. Not for what its quantization is."""

import mmap
import re

from quantfleet.jobfile.models import ModelFiles

# A protocol buffer has before a text the number of its field and its length. So what is found is an operator's type
# (NodeProto.op_type is field 4, OpDesc.type field 3) or an attribute's name, and no entry of the version table that
# every Paddle program has.
_QUANTIZED_OPERATORS = {
    ".onnx": rb"\x22.(DequantizeLinear|QLinear(Conv|MatMul)|QGemm|(Conv|MatMul)Integer|DynamicQuantizeLinear)",
    ".pdmodel": rb"\x1a.(dequantize_linear|fake_(channel_wise_)?(de)?quantize_)|\x0a.quantize_weight_bits",
    ".json": rb"dequantize_linear|fake_(channel_wise_)?(de)?quantize_",
}


def is_quantized(files: ModelFiles) -> bool:
    """Whether a model's graph has quantized operators, by their names in its file; no engine is imported for it."""
    if files.format == "paddle-lite":
        return True  # models.find takes no other
    graph = files.files[0]
    pattern = _QUANTIZED_OPERATORS.get(graph.suffix)
    if pattern is None or not graph.stat().st_size:
        return False
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return re.search(pattern, content, re.DOTALL) is not None
