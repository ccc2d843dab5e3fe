"""How like a stored embedding an output is, as another output of the model: a target like any other."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.autodiff.pullback import fresh_name
from onnxviz.errors import SelectorError, TargetError
from onnxviz.graph.extend import extend
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.methods.target import TargetLike

_PREFIX = "like "


def embedding_named(target: TargetLike) -> Path | None:
    """The file that a target such as `like embedding.npy` names; None where it names none."""
    if isinstance(target, str) and target.strip().lower().startswith(_PREFIX):
        place = Path(target.strip()[len(_PREFIX) :].strip())
        return place if place.suffix == ".npy" else None
    return None


def read_embedding(file: Path) -> npt.NDArray[np.float64]:
    """The numbers of a stored embedding, [elements]; pickles are refused.

    Raises:
        TargetError: The file holds no array of finite numbers, or zeros alone.
    """
    try:
        array = np.load(file, allow_pickle=False)
    except OSError as err:
        raise TargetError(f"target 'like {file}': cannot be read: {err.strerror or err}") from None
    except (ValueError, EOFError):
        raise TargetError(f"target 'like {file}': not a .npy file of numbers") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise TargetError(f"target 'like {file}': not a .npy file of numbers")
    numbers = array.astype(np.float64).ravel()
    if not np.isfinite(numbers).all() or not numbers.any():
        raise TargetError(f"target 'like {file}': an embedding needs finite numbers that are not all zero")
    return numbers


def similar(model: Model, embedding: npt.NDArray[np.float64], output: str | None = None) -> tuple[Model, str]:
    """The model with one more output: the cosine of each picture's output and an embedding, [N, 1].

    Args:
        model: Any model.
        embedding: As many numbers as the output has for one picture.
        output: Which output; None: the first of floats.

    Returns:
        The model and the name of its new output.

    Raises:
        SelectorError: There is no such output.
        TargetError: The output has another number of elements.
    """
    names = [value.name for value in model.outputs]
    floats = [value.name for value in model.outputs if "float" in value.dtype]
    of = output if output is not None else next(iter(floats), names[0])
    if of not in names:
        raise SelectorError(f"no output {of!r}; there are {', '.join(names)}")
    shape = model.tensor(of).shape
    sizes = [] if shape is None else list(shape)[1:]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes) and int(np.prod(known)) != embedding.size:
        raise TargetError(
            f"the embedding has {embedding.size} numbers, but output {of!r} has {int(np.prod(known))}"
        )
    name = fresh_name("similarity", model.tensors)

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        y = op.Reshape(values[of], op.ints(0, -1))
        unit = (embedding / np.linalg.norm(embedding))[:, None]
        assert y.dtype is not None
        along = op.MatMul(y, op.constant(unit.astype(y.dtype.numpy())))
        return {name: op.Div(along, op.ReduceL2(y, op.ints(1), keepdims=1))}

    return extend(model, "similarity", write, names), name
