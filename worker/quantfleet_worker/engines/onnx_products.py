"""The convolutions and matrix products of an ONNX file, which INT8 is about. Not for what an engine made of them.

They are recognised in every form in which quantized files come: float, QDQ, QOperator (QLinearConv, …) and dynamic
(ConvInteger, …); https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper

from quantfleet_domain.jobs.measured import Conversion

from ..quantizers.metadata import FLOAT_KEY
from .base import NodeCounts

_FLOAT: tuple[str, ...] = ("Conv", "ConvTranspose", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul")
_DYNAMIC: tuple[str, ...] = ("ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat")
_QOPERATOR: tuple[str, ...] = ("QGemm", "QLinearConv", "QLinearMatMul")
_WEIGHT_INPUT = {name: 3 if name in _QOPERATOR else 1 for name in (*_FLOAT, *_DYNAMIC, *_QOPERATOR)}
_QUANTIZED_TYPES = {*_DYNAMIC, *_QOPERATOR, "DequantizeLinear"}
_LAYOUT = ("Identity", "Reshape", "Transpose")


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product with a constant weight.

    `aliases` are the names by which an engine may know it. `obstacle` says why the file itself makes it run in float,
    and is empty where it does not. `form` describes its integers, such as `u8 input, s8 weight`. `float_output` is
    whether anything reads its output unquantized.
    """

    name: str
    operator: str
    aliases: frozenset[str]
    obstacle: str
    form: str
    float_output: bool

    def __str__(self) -> str:
        return f"{self.name} ({self.operator})"


@dataclass(frozen=True)
class OnnxProducts:
    """The products of a file in graph order; `quantized` is whether it has anything in integers at all; `operators` are
    the types of all its nodes by name."""

    products: tuple[Product, ...]
    quantized: bool
    operators: Mapping[str, str]

    def counts(
        self, ran: Collection[str], limit: Callable[[Product], str], conversions: tuple[Conversion, ...]
    ) -> NodeCounts:
        """What became of the products in an engine: `ran` are the names of what it ran in INT8, `limit` says why it ran
        one in float that the file gives integers."""
        if not self.quantized:
            return NodeCounts(0, len(self.products), (), (), conversions)
        int8 = [product for product in self.products if not product.aliases.isdisjoint(ran)]
        rest = [product for product in self.products if product not in int8]
        return NodeCounts(
            int8=len(int8),
            quantizable=len(self.products),
            fallbacks=tuple(f"{product}: {product.obstacle or limit(product)}" for product in rest),
            ran=tuple(str(product) for product in int8),
            conversions=conversions,
        )


def named(model: Path, folder: Path) -> Path:
    """The model itself where all its nodes have names of their own, as accounts need; else a copy that gives them."""
    content = onnx.load(model, load_external_data=False)
    names = Counter(node.name for node in content.graph.node)
    if "" not in names and len(names) == len(content.graph.node):
        return model
    whole = onnx.load(model)
    for index, node in enumerate(whole.graph.node):
        if not node.name or names[node.name] > 1:
            node.name = f"{node.name or node.output[0]}.{index}"
    copy = folder / "named.onnx"
    onnx.save(whole, copy, save_as_external_data=True, location="weights")
    return copy


def read_products(model: Path) -> OnnxProducts:
    """The products of an ONNX file, all of whose nodes have names (see `named`)."""
    content = onnx.load(model, load_external_data=False)
    graph = content.graph
    left = next((item.value for item in content.metadata_props if item.key == FLOAT_KEY), "")
    reader = _Reader(graph, dict(line.split(": ", 1) for line in left.splitlines()))
    return OnnxProducts(
        products=tuple(reader.product(node) for node in graph.node if reader.is_product(node)),
        quantized=any(node.op_type in _QUANTIZED_TYPES for node in graph.node),
        operators={node.name: node.op_type for node in graph.node},
    )


class _Reader:
    def __init__(self, graph: GraphProto, left_in_float: dict[str, str]) -> None:
        self._left_in_float = left_in_float
        self._producers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._types = {item.name: item.data_type for item in graph.initializer}
        self._constants = set(self._types)
        for node in graph.node:
            if self._constants.issuperset(name for name in node.input if name):
                self._constants.update(node.output)

    def is_product(self, node: NodeProto) -> bool:
        index = _WEIGHT_INPUT.get(node.op_type)
        return index is not None and node.input[index] in self._constants

    def product(self, node: NodeProto) -> Product:
        obstacle = self._left_in_float.get(node.name) or self._obstacle(node)
        readers = self._readers.get(node.output[0], [])
        return Product(
            name=node.name,
            operator=node.op_type,
            aliases=frozenset(self._aliases(node, readers)),
            obstacle=obstacle,
            form=self._form(node),
            float_output=[item.op_type for item in readers] != ["QuantizeLinear"],
        )

    def _obstacle(self, node: NodeProto) -> str:
        if node.op_type not in _FLOAT:
            return ""
        weight = node.input[1]
        if self._source(weight) is None:
            return "its weight is in float in the model"
        if self._source(node.input[0]) is None:
            return f"its input {node.input[0]!r} has no range in the model"
        return ""

    def _source(self, tensor: str) -> NodeProto | None:
        """The DequantizeLinear that a tensor comes from, with nothing but changes of layout between."""
        node = self._producers.get(tensor)
        while node is not None and node.op_type in _LAYOUT:
            node = self._producers.get(node.input[0])
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def _aliases(self, node: NodeProto, readers: Sequence[NodeProto]) -> Sequence[str]:
        """Its name, its output, and the same of the addition of its bias, into which an engine may fuse it."""
        bias = [item for item in readers if item.op_type == "Add" and not self._constants.isdisjoint(item.input)]
        fused = bias if len(readers) == 1 else []
        return [name for item in (node, *fused) for name in (item.name, item.output[0])]

    def _form(self, node: NodeProto) -> str:
        if node.op_type in _FLOAT:
            sources = [self._source(name) for name in node.input[:2]]
            points = [item.input[2] if item is not None and len(item.input) > 2 else "" for item in sources]
        elif node.op_type in _QOPERATOR:
            points = [node.input[2], node.input[5]]
        else:
            return f"u8 input, {self._integers(node.input[1])} weight"
        return f"{self._integers(points[0])} input, {self._integers(points[1])} weight"

    def _integers(self, zero_point: str) -> str:
        """The type of an initializer; without a zero point it is u8 (ONNX, DequantizeLinear)."""
        code = self._types.get(zero_point, TensorProto.UINT8)
        return helper.tensor_dtype_to_np_dtype(code).name.replace("uint", "u").replace("int", "s")
