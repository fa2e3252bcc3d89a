"""A few lines around the onnx package: write a graph the way one writes an expression."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..face import import_optional

OPSET, IR_VERSION = 11, 6  # old enough for every onnxruntime in use
Shape = tuple[int | str, ...]


class Graph:
    """Nodes and constants in the order they are added; values are referred to by name."""

    def __init__(self) -> None:
        """Raises DependencyMissing without onnx."""
        self._onnx = import_optional("onnx")
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: np.ndarray | float) -> str:
        """A constant that several nodes share: int64 from whole numbers in an array, float16 kept, else float32."""
        array = np.atleast_1d(np.asarray(values))
        if array.dtype != np.float16:
            whole = isinstance(values, np.ndarray) and array.dtype.kind == "i"
            array = array.astype(np.int64 if whole else np.float32)
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operation: str, *inputs: str | np.ndarray | float, output: str = "", **options: Any) -> str:
        """Appends one node; returns its output's name, which is a running number unless `output` says it."""
        output = output or f"value_{len(self._nodes)}"
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self._nodes.append(self._onnx.helper.make_node(operation, names, [output], **options))
        return output

    def model(self, inputs: dict[str, Shape], outputs: dict[str, Shape]) -> bytes:
        """The graph as an ONNX file; `inputs` and `outputs` map names to float32 shapes, with text for a free size."""
        helper, number = self._onnx.helper, self._onnx.TensorProto.FLOAT
        ends = [
            [helper.make_tensor_value_info(name, number, shape) for name, shape in values.items()]
            for values in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, "tiny", *ends, initializer=self._constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        self._onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)
