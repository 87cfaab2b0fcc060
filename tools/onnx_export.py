"""Networks as ONNX files, which run in a browser: a denoising step of a `ClassConditionedUnet`, and a judge."""

import copy

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from course_utils.classifier import Classifier
from course_utils.model import ClassConditionedUnet

OPSET = 18
LARGE = 5_000  # numbers in a tensor of weights from which on they are stored as int8; smaller ones are float16


def export_network(network: ClassConditionedUnet) -> onnx.ModelProto:
    """A network as a graph of one step for one picture.

    The loop over the steps, which has guidance in it, stays outside: so the weights are in the file once.

    Returns:
        A graph: `sample` (1, 1, 28, 28), `timestep` int64 (1,) and `class_label` int64 (1,) in, `prediction` like
        `sample` out.
    """
    side = network.config.sample_size
    example = (torch.zeros(1, 1, side, side), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    return export(network, example, ("sample", "timestep", "class_label"), "prediction")


def export_judge(judge: Classifier) -> onnx.ModelProto:
    """A judge as a graph: `picture` (1, 1, 28, 28) in [-1, 1] in, `scores` (1, num_classes) out."""
    return export(judge, (torch.zeros(1, 1, 28, 28),), ("picture",), "scores")


def export(module: nn.Module, example: tuple, input_names: tuple[str, ...], output_name: str) -> onnx.ModelProto:
    """A module as an ONNX graph in float32 that takes tensors of the example's shapes."""
    program = torch.onnx.export(
        copy.deepcopy(module).eval(),
        example,
        dynamo=True,
        opset_version=OPSET,
        input_names=list(input_names),
        output_names=[output_name],
        verbose=False,
    )
    model = program.model_proto
    forget_sources(model)
    return model


def forget_sources(model: onnx.ModelProto):
    """Remove which line of which file each part came from: that is a quarter of the file, and names of folders."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")


def compressed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its weights in fewer bits; it still computes in float32.

    Large tensors of weights become int8 with a scale for each row, small ones float16. onnxruntime turns them back into
    float32 once, when it loads the file.
    """
    model = copy.deepcopy(model)
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    stored, nodes = [], []
    for tensor in weights:
        values = numpy_helper.to_array(tensor)
        if values.size > LARGE:
            more_stored, more_nodes = as_int8(tensor.name, values)
        else:
            more_stored, more_nodes = as_float16(tensor.name, values)
        stored, nodes = stored + more_stored, nodes + more_nodes
    others = [tensor for tensor in model.graph.initializer if tensor.data_type != TensorProto.FLOAT]
    nodes += list(model.graph.node)
    for field, parts in (("initializer", others + stored), ("node", nodes)):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(parts)
    onnx.checker.check_model(model)
    return model


def as_float16(name: str, values: np.ndarray):
    """What is stored, and the node that makes `name` of it."""
    stored = numpy_helper.from_array(values.astype(np.float16), f"{name}.float16")
    return [stored], [helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT)]


def as_int8(name: str, values: np.ndarray):
    """What is stored, and the nodes that make `name` of it."""
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
    scale = np.maximum(largest, 1e-12) / 127  # of each row: (rows, 1, 1, 1)
    stored = numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}.int8")
    scales = numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale")
    cast = helper.make_node("Cast", [stored.name], [f"{name}.whole"], to=TensorProto.FLOAT)
    return [stored, scales], [cast, helper.make_node("Mul", [f"{name}.whole", scales.name], [name])]
