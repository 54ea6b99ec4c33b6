"""A GraphDef changed node by node: in the graph itself, and in the functions that it brings along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from netferry.converters.tensorflow.runtime import op_definition, tf


class Body:
    """The nodes of a graph, or of one of its functions, whose tensors are named in another way."""

    def __init__(self, nodes: Any, results: Any = None) -> None:
        self.nodes, self._results = nodes, results
        self._names = {node.name for node in nodes}
        self._redirected: dict[str, str] = {}

    def named(self, read: str) -> Any:
        """The node that gives what is read so."""
        return next(node for node in self.nodes if node.name == read.split(":")[0])

    def outputs(self, node: Any) -> Iterator[tuple[str, int]]:
        """Each tensor that the node gives, as others read it, and its dtype in TensorFlow's numbers."""
        definition = op_definition(node.op)
        position = 0
        for argument in definition.output_arg if definition is not None else ():
            for i, dtype in enumerate(_dtypes(argument, node)):
                yield self.reference(node.name, argument.name, i, position), dtype
                position += 1

    def inputs(self, node: Any) -> Iterator[tuple[int, int]]:
        """The place of each tensor that the node reads, and the dtype that it takes there."""
        definition = op_definition(node.op)
        dtypes = (one for each in definition.input_arg for one in _dtypes(each, node)) if definition else ()
        return enumerate(dtypes)

    def reference(self, node: str, argument: str, i: int = 0, position: int = 0) -> str:
        """How others read a tensor: by its operator's word for it in a function, by its position in a graph."""
        return f"{node}:{position}" if self._results is None else f"{node}:{argument}:{i}"

    def add(self, op: str, wish: str, inputs: Sequence[str], **attributes: Any) -> Any:
        """A node behind those that there are; its name is its own."""
        node = self.nodes.add(op=op, name=self._unique(wish), input=inputs)
        for name, value in attributes.items():
            node.attr[name].CopyFrom(value)
        return node

    def redirect(self, read: str, instead: str) -> None:
        """Whoever reads one tensor will read another, once all is changed."""
        self._redirected[read] = instead

    def finish(self, without: Sequence[Any] = ()) -> Mapping[str, str]:
        """Let each node read what it was redirected to (what stands for a tensor may read it itself), and drop nodes.

        Returns:
            What was redirected, for those who read from outside.
        """
        gone = {node.name for node in without}
        for node in self.nodes:
            for place, name in enumerate(node.input):
                instead = self._redirected.get(_whole(name), name)
                if instead.split(":")[0] != node.name:
                    node.input[place] = instead
        for key in self._results or ():
            self._results[key] = self._redirected.get(self._results[key], self._results[key])
        for place in reversed(range(len(self.nodes))):
            if self.nodes[place].name in gone:
                del self.nodes[place]
        return self._redirected

    def _unique(self, wish: str) -> str:
        name = wish
        for number in count(1):
            if name not in self._names:
                break
            name = f"{wish}_{number}"
        self._names.add(name)
        return name


def bodies(graph: Any) -> list[Body]:
    """The graph, then its functions."""
    return [Body(graph.node), *(Body(one.node_def, one.ret) for one in graph.library.function)]


def rename_functions(graph: Any) -> None:
    """Give each function a name that no other graph has: TensorFlow knows one of each name in a process."""
    mark = f"_{next(_GRAPHS)}"
    names = {one.signature.name: f"{one.signature.name}{mark}" for one in graph.library.function}
    for function in graph.library.function:
        function.signature.name = names[function.signature.name]
    for one in graph.library.gradient:
        one.function_name = names.get(one.function_name, one.function_name)
        one.gradient_func = names.get(one.gradient_func, one.gradient_func)
    for body in bodies(graph):
        for node in body.nodes:
            node.op = names.get(node.op, node.op)
            for attribute in node.attr.values():
                named = [attribute.func] if attribute.HasField("func") else attribute.list.func
                for called in named if names else ():
                    called.name = names.get(called.name, called.name)


_GRAPHS = count()


def type_attribute(dtype: Any) -> Any:
    return tf.compat.v1.AttrValue(type=tf.as_dtype(dtype).as_datatype_enum)


def tensor_attribute(value: Any, dtype: Any) -> Any:
    return tf.compat.v1.AttrValue(tensor=tf.make_tensor_proto(value, dtype=dtype))


def _dtypes(argument: Any, node: Any) -> Sequence[int]:
    if argument.type_list_attr:
        return list(node.attr[argument.type_list_attr].list.type)
    one = argument.type or node.attr[argument.type_attr].type
    return [one] * (node.attr[argument.number_attr].i if argument.number_attr else 1)


def _whole(name: str) -> str:
    """A reference with its position: the first output is also read by the node's name alone."""
    return name if ":" in name or name.startswith("^") else f"{name}:0"
