"""`Session`: a model on a device; arrays in, arrays out, and errors that name the input."""

import ctypes
import re
from collections.abc import Iterable, Mapping
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from onnx import helper

from onnxviz.errors import DeviceError, SelectorError, ShapeError, did_you_mean
from onnxviz.graph.model import Model, ModelLike, ValueInfo, format_shape, load
from onnxviz.runtime.devices import CPU_PROVIDER, CUDA_PROVIDER, Device, quiet_options, resolve
from onnxviz.runtime.failures import creation_failed, run_failed
from onnxviz.runtime.library import onnxruntime

_STOP_SPINNING = "session.force_spinning_stop"
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
# Element types that numpy lacks (ml_dtypes has them); ONNX Runtime's Python route converts none of them.
_FOREIGN = re.compile(r"tensor\((?:bfloat16|float8\w*)\)")


class Session:
    """A model made ready on a device.

    Args:
        model: A Model, a path, or a ModelProto.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ModelError: The model cannot be loaded, or ONNX Runtime cannot use it.
        DeviceError: The device cannot be had, or has too little memory.
    """

    _as_shipped = False
    _takes_turns = False
    _threads = 0  # ONNX Runtime's choice

    def __init__(self, model: ModelLike, device: str = "auto") -> None:
        """Load the model and make it ready."""
        loaded = load(model)
        self.device: Device = resolve(device)
        self.inputs: tuple[ValueInfo, ...] = loaded.inputs
        self.outputs: tuple[ValueInfo, ...] = loaded.outputs
        as_shipped = self._as_shipped and loaded.path is not None
        self._session = _create(loaded, self.device, as_shipped, self._takes_turns, self._threads)
        self._foreign = {out.name for out in self._session.get_outputs() if _FOREIGN.fullmatch(out.type)}

    @overload
    def run(
        self, feeds: Mapping[str, Any], outputs: Iterable[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]: ...

    @overload
    def run(
        self, feeds: Mapping[str, Any], outputs: Iterable[str] | None = None, *, on_device: Iterable[str]
    ) -> dict[str, Any]: ...

    def run(
        self,
        feeds: Mapping[str, Any],
        outputs: Iterable[str] | None = None,
        *,
        on_device: Iterable[str] = (),
    ) -> dict[str, Any]:
        """Run the model once.

        Args:
            feeds: Every input by name: an array, something that numpy makes one of, or an
                `onnxruntime.OrtValue`, which is used where it lies. Kinds of numbers are not mixed; within
                a kind an array is converted where that loses nothing, and float64 to the input's own float
                type.
            outputs: The names of the outputs to return, in this order; None: all.
            on_device: Those of them to return as `onnxruntime.OrtValue`s that stay on the device.

        Returns:
            Each output by name, as a numpy array unless it is named in `on_device`.

        Raises:
            SelectorError: An input is missing, or there is no input or output of that name.
            ShapeError: An array's type, rank or size does not fit the input, or one another.
            DeviceError: The run failed, or the device ran out of memory.
        """
        given = self._checked(feeds)
        names = _known(outputs, [out.name for out in self.outputs], "output")
        stay = set(_known(on_device, names, "requested output"))
        bound = stay or self._foreign.intersection(names) or any(map(_must_bind, given.values()))
        try:
            answers = self._run_bound(given, names, stay) if bound else self._session.run(names, given)
        except Exception as err:  # ONNX Runtime's exceptions share no base
            raise run_failed(str(self.device), err) from err
        found = dict(zip(names, answers, strict=True))
        # ONNX Runtime may answer an output that is an input with the very memory that was fed.
        return {name: self._copy(value) if name in given else value for name, value in found.items()}

    def _run_bound(self, given: Mapping[str, Any], names: list[str], stay: set[str]) -> list[Any]:
        """The run by IO binding, which takes and leaves arrays where they lie."""
        binding = self._session.io_binding()
        for name, value in given.items():
            if _must_bind(value):
                binding.bind_ortvalue_input(name, _ort_value(value))
            else:
                binding.bind_cpu_input(name, value)
        for name in names:
            place = (self.device.kind, self.device.index) if name in stay else ("cpu", 0)
            binding.bind_output(name, *place)
        self._session.run_with_iobinding(binding)
        values = zip(names, binding.get_outputs(), strict=True)
        return [value if name in stay else _array(value) for name, value in values]

    def _copy(self, value: Any) -> Any:
        if isinstance(value, onnxruntime.OrtValue):
            place = self.device.kind, self.device.index
            return onnxruntime.OrtValue.ortvalue_from_numpy(value.numpy().copy(), *place)
        return np.array(value)

    def _checked(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        names = [where.name for where in self.inputs]
        _known(feeds, names, "input")
        missing = [repr(name) for name in names if name not in feeds]
        if missing:
            needed = ", ".join(map(str, self.inputs))
            raise SelectorError(
                f"no array was given for the input {', '.join(missing)}; the model takes {needed}"
            )
        return {where.name: _fitted(feeds[where.name], where) for where in self.inputs}


class SessionInTurn(Session):
    """A session between whose runs others run: its threads do not wait for work, and so slow none."""

    _takes_turns = True

    def __init__(self, model: ModelLike, device: str = "auto", threads: int = 0) -> None:
        """Load the model and make it ready; on a CPU with so many threads (0: ONNX Runtime's choice)."""
        self._threads = threads
        super().__init__(model, device)


class ShippedSession(SessionInTurn):
    """A session of the very file that a model was loaded from, and not of the graph made of it."""

    _as_shipped = True


def _create(model: Model, device: Device, as_shipped: bool, taking_turns: bool, threads: int) -> Any:
    options = quiet_options()
    options.intra_op_num_threads = threads
    if taking_turns:
        options.add_session_config_entry(_STOP_SPINNING, "1")
    if model.weights_folder is not None and not as_shipped:
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(model.weights_folder))
    what = "the model" if model.path is None else str(model.path)
    try:
        session = onnxruntime.InferenceSession(
            str(model.path) if as_shipped else model.serialize(),
            options,
            device.providers,
            enable_fallback=False,
        )
    except Exception as err:  # ONNX Runtime's exceptions share no base
        raise creation_failed(what, str(device), err) from err
    used, wanted = session.get_providers()[0], CPU_PROVIDER if device.kind == "cpu" else CUDA_PROVIDER
    if used != wanted:
        raise DeviceError(f"{what}: {device} was asked for, but onnxruntime chose {used}")
    return session


def _known(asked: Iterable[str] | None, names: list[str], kind: str) -> list[str]:
    """The names asked for, once each; all where none are asked for."""
    if asked is None:
        return names
    wanted = list(dict.fromkeys([asked] if isinstance(asked, str) else asked))
    for name in wanted:
        if name not in names:
            listed = ", ".join(map(repr, names))
            raise SelectorError(f"no {kind} {name!r}{did_you_mean(name, names)} ({kind}s: {listed})")
    return wanted


def _fitted(value: Any, where: ValueInfo) -> Any:
    """A feed as the input takes it: of its type, in one piece, of its rank and sizes."""
    if isinstance(value, onnxruntime.OrtValue):
        _check_shape(tuple(value.shape()), where)
        return value
    try:
        array = np.asarray(value)
    except ValueError as err:
        raise ShapeError(f"the input {where.name!r} was given what is not one array: {err}") from None
    _check_shape(array.shape, where)
    return _converted(array, where)


def _check_shape(given: tuple[int, ...], where: ValueInfo) -> None:
    if where.shape is None:
        return
    fixed = [size if isinstance(size, int) and size >= 0 else None for size in where.shape]
    if len(given) != len(fixed) or any(
        size not in (None, found) for size, found in zip(fixed, given, strict=True)
    ):
        raise ShapeError(
            f"the input {where.name!r} is {format_shape(where.shape)}, but {format_shape(given)} was given"
        )


def _converted(array: npt.NDArray[Any], where: ValueInfo) -> npt.NDArray[Any]:
    given = array.dtype
    if where.dtype == "string" and given.kind in "OSU":
        return array
    try:
        wanted = np.dtype("O" if where.dtype == "string" else where.dtype)
    except TypeError:  # a sequence, a map, or unknown: ONNX Runtime judges
        return array
    if given != wanted and not _may_become(array, wanted):
        raise ShapeError(
            f"the input {where.name!r} takes {where.dtype}, but {given.name} was given; "
            f"convert it first where that is what is meant: array.astype({wanted.name!r})"
        )
    try:
        with np.errstate(over="raise"):
            # Also puts foreign byte orders right, which ONNX Runtime takes for numbers as they lie.
            return np.asarray(array, wanted, order="C")
    except FloatingPointError:
        raise ShapeError(
            f"the input {where.name!r} takes {where.dtype}, and values beyond its range were given"
        ) from None


def _may_become(array: npt.NDArray[Any], wanted: np.dtype[Any]) -> bool:
    """Whether an array may be converted unasked: to a wider type, floats from float64, integers that fit."""
    given = array.dtype
    if _kind(given) != _kind(wanted):
        return False
    if _kind(given) == "integer":
        return bool(np.array_equal(array.astype(wanted), array))
    return given == np.float64 or np.can_cast(given, wanted)


def _kind(dtype: np.dtype[Any]) -> str:
    """What sort of numbers a type holds; ml_dtypes' types all have numpy's kind "V"."""
    if dtype.name.startswith(("float", "bfloat")):
        return "float"
    return "integer" if dtype.name.startswith(("int", "uint")) else dtype.name


def _must_bind(value: Any) -> bool:
    return not isinstance(value, np.ndarray) or value.dtype.isbuiltin == 2  # registered by ml_dtypes


def _ort_value(value: Any) -> Any:
    """An OrtValue over an array whose type numpy lacks; an OrtValue as it is."""
    if not isinstance(value, np.ndarray):
        return value
    element = helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(value, element)


def _array(value: Any) -> npt.NDArray[Any]:
    """The array of an OrtValue that lies in the CPU's memory."""
    if not _FOREIGN.fullmatch(value.data_type()):
        array: npt.NDArray[Any] = value.numpy()
        return array
    array = np.empty(value.shape(), helper.tensor_dtype_to_np_dtype(value.element_type()))
    ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array
