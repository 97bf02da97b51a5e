"""Compiled cost functions inside Ceres: the only module that touches a pointer.

A ``pyceres.CostFunction`` is a C++ object whose first word points to its virtual table. In the
Itanium C++ ABI (Linux and macOS, gcc and clang) slot 2 of that table is ``Evaluate``::

    object ──▶ [ ~D1 | ~D0 | Evaluate | spare ──▶ constants | spare ──▶ arrays ]
                              └─ replaced by the address of a Numba callback

:func:`native_cost` points the object at such a copy of its table. The callback finds its constants
through the object it is called on, so one cost object serves all blocks with equal constants, and
nothing holds the GIL. Table, constants and arrays live exactly as long as the cost object: they
hang on a finaliser, which runs after the C++ destructor (it is looked up in the table as well).

Before the first use in a process a tiny problem with known residual and Jacobian goes through
Ceres. Another platform, an untested pyceres or any deviation switches to the callback path: the
same compiled function, called through a Python cost function. The results are the same to the
bit; an evaluation costs about 100 times as much.

A callback has the signature ``(cost, parameters, residuals, jacobians) -> bool`` of four addresses
and uses the accessors of this module only. It returns 0 where it cannot be evaluated, which makes
Ceres retry with a shorter step.
"""

import ctypes
import platform
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyceres
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from tracer.kernels._jit import compile_callback, inline_kernel

TESTED_PYCERES = ("2.6",)
"""Versions of pyceres that the test-suite passed with; others take the callback path."""

SIGNATURE = types.uint8(types.int64, types.int64, types.int64, types.int64)
_ARRAY_WORDS = 5
_PROBE = 77


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def _doubles(typing_context: Any, address: Any) -> Any:
    """Return an address as a pointer to float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float64)(address), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def _void(typing_context: Any, address: Any) -> Any:
    """Return an address as an untyped pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(address), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def _word(typing_context: Any, address: Any, index: Any) -> Any:
    """Return the 64-bit word at an index of a table."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load(builder.gep(base, [arguments[1]]))

    return types.int64(address, types.int64), generate


@inline_kernel
def constant(cost: int, index: int) -> float:
    """Return a constant of a cost.

    Parameters
    ----------
    cost : int
        First argument of the callback.
    index : int
        Position in the `constants` of :func:`native_cost`.

    Returns
    -------
    float
        The constant.
    """
    return float(_doubles(_word(_word(cost, 0), 3))[index])


@inline_kernel
def array_pointer(cost: int, index: int) -> Any:
    """Return the pointer to an array of a cost, for ``numba.carray``.

    Parameters
    ----------
    cost : int
        First argument of the callback.
    index : int
        Position in the `arrays` of :func:`native_cost`.

    Returns
    -------
    pointer
        Untyped pointer to the first element.
    """
    return _void(_word(_word(_word(cost, 0), 4), index * _ARRAY_WORDS))


@inline_kernel
def array_extent(cost: int, index: int, axis: int) -> int:
    """Return the length of an array of a cost along an axis.

    Parameters
    ----------
    cost : int
        First argument of the callback.
    index : int
        Position in the `arrays` of :func:`native_cost`.
    axis : int
        Axis, 0 to 3.

    Returns
    -------
    int
        Number of elements along that axis.
    """
    return int(_word(_word(_word(cost, 0), 4), index * _ARRAY_WORDS + 1 + axis))


@inline_kernel
def parameter(parameters: int, block: int, index: int) -> float:
    """Return a value of a parameter block.

    Parameters
    ----------
    parameters : int
        Second argument of the callback.
    block : int
        Parameter block of the residual block.
    index : int
        Position in the parameter block.

    Returns
    -------
    float
        The value.
    """
    return float(_doubles(_word(parameters, block))[index])


@inline_kernel
def set_residual(residuals: int, row: int, value: float) -> None:
    """Store a residual.

    Parameters
    ----------
    residuals : int
        Third argument of the callback.
    row : int
        Which residual of the block.
    value : float
        Its value.
    """
    _doubles(residuals)[row] = value


@inline_kernel
def set_derivative(jacobians: int, block: int, index: int, value: float) -> None:
    """Store one entry of a Jacobian, unless nobody asked for it.

    Parameters
    ----------
    jacobians : int
        Fourth argument of the callback; null when only residuals are wanted.
    block : int
        Parameter block; its pointer is null while it is fixed.
    index : int
        Residual times size of the parameter block plus position in it.
    value : float
        The derivative.
    """
    if jacobians != 0:
        base = _word(jacobians, block)
        if base != 0:
            _doubles(base)[index] = value


@inline_kernel
def set_gradient(jacobians: int, block: int, row: int, x: float, y: float, z: float) -> None:
    """Store the gradient of one residual at a three-dimensional point.

    Parameters
    ----------
    jacobians : int
        Fourth argument of the callback; null when only residuals are wanted.
    block : int
        Parameter block of three values; its pointer is null while it is fixed.
    row : int
        Which residual of the block.
    x, y, z : float
        The gradient.
    """
    if jacobians != 0:
        base = _word(jacobians, block)
        if base != 0:
            gradient = _doubles(base)
            gradient[3 * row] = x
            gradient[3 * row + 1] = y
            gradient[3 * row + 2] = z


class NativeCost(NamedTuple):
    """A cost function and what it was made of.

    Attributes
    ----------
    ceres : pyceres.CostFunction
        The object that Ceres evaluates.
    native : bool
        Whether Ceres calls the compiled function directly.
    n_residuals : int
        Residuals per block.
    block_sizes : tuple of int
        Sizes of the parameter blocks of one residual block.
    """

    ceres: Any
    native: bool
    n_residuals: int
    block_sizes: tuple[int, ...]


class _Memory:
    """What the compiled function reads: kept alive by whoever may call it."""

    def __init__(
        self, constants: Sequence[float] | NDArray[np.float64], arrays: Sequence[NDArray[Any]]
    ) -> None:
        self.constants = np.array(constants, dtype=np.float64, ndmin=1)
        self.arrays = tuple(arrays)
        words = np.zeros((max(len(arrays), 1), _ARRAY_WORDS), dtype=np.int64)
        for row, array in zip(words, arrays, strict=False):
            if not array.flags.c_contiguous or array.ndim >= _ARRAY_WORDS:
                raise ValueError(f"a cost's array must be C-contiguous, at most 4-D: {array.shape}")
            row[0] = array.ctypes.data
            row[1 : 1 + array.ndim] = array.shape
        self.words = words
        self.table = np.zeros(7, dtype=np.uint64)
        self.table[5] = self.constants.ctypes.data
        self.table[6] = words.ctypes.data
        self.cost_word = np.array([self.table.ctypes.data + 16], dtype=np.uint64)


class _CallbackCost(pyceres.CostFunction):  # type: ignore[misc]  # pyceres is untyped
    """The slow path: Python calls the compiled function for Ceres."""

    def __init__(
        self, callback: Any, n_residuals: int, block_sizes: Sequence[int], memory: _Memory
    ) -> None:
        super().__init__()
        self.set_num_residuals(n_residuals)
        self.set_parameter_block_sizes(list(block_sizes))
        self._call = callback.ctypes
        self._memory = memory
        self._cost = memory.cost_word.ctypes.data
        # pyceres 2.6 crashes when the first call of a cost function asks for residuals only
        self.evaluate(*(np.arange(size) + float(block) for block, size in enumerate(block_sizes)))

    def Evaluate(  # noqa: N802, RUF100 (the name that pyceres calls)
        self,
        parameters: list[NDArray[np.float64]],
        residuals: NDArray[np.float64],
        jacobians: list[NDArray[np.float64]] | None,
    ) -> bool:
        """Evaluate one residual block, as Ceres asks."""
        words = ctypes.c_uint64 * len(parameters)
        pointers = words(*(block.__array_interface__["data"][0] for block in parameters))
        rows = 0
        if jacobians is not None:
            # pyceres hands out scratch arrays for fixed blocks, never None
            given = words(*(block.__array_interface__["data"][0] for block in jacobians))
            rows = ctypes.addressof(given)
        return bool(
            self._call(
                self._cost,
                ctypes.addressof(pointers),
                residuals.__array_interface__["data"][0],
                rows,
            )
        )


@cache
def _compiled(function: Callable[..., int]) -> Any:
    """Return the callback of a function, compiled on first use."""
    return compile_callback(function, SIGNATURE)


def _restore(cost: "weakref.ref[Any]", this: int, original: int, memory: _Memory) -> None:
    """Release the memory of a cost; at exit, when the cost still lives, give its table back."""
    if cost() is not None:
        ctypes.c_uint64.from_address(this).value = original
    del memory


def _patched_cost(
    callback: Any, n_residuals: int, block_sizes: Sequence[int], memory: _Memory
) -> Any:
    """Return a cost function of Ceres that calls the compiled function, or None."""
    cost = pyceres.CostFunction()
    cost.set_num_residuals(_PROBE)
    holder = ctypes.c_void_p.from_address(id(cost) + 16).value  # pybind11: instance -> values
    this = ctypes.c_void_p.from_address(holder).value if holder else None  # -> the C++ object
    if not this:
        return None
    # table word, three words of std::vector<int32>, then the number of residuals: if it is where
    # it should be, this really is the object
    if ctypes.c_int32.from_address(this + 32).value != _PROBE:
        return None
    cost.set_num_residuals(n_residuals)
    cost.set_parameter_block_sizes(list(block_sizes))
    table_word = ctypes.c_uint64.from_address(this)
    original = table_word.value
    # offset to top, type information, both destructors
    memory.table[:4] = list((ctypes.c_uint64 * 4).from_address(original - 16))
    memory.table[4] = callback.address
    table_word.value = int(memory.table.ctypes.data) + 16
    weakref.finalize(cost, _restore, weakref.ref(cost), this, original, memory)
    return cost


def native_cost(
    function: Callable[..., int],
    n_residuals: int,
    block_sizes: Sequence[int],
    constants: Sequence[float] | NDArray[np.float64] = (),
    arrays: Sequence[NDArray[Any]] = (),
    *,
    native: bool | None = None,
) -> NativeCost:
    """Return a cost function that Ceres evaluates without entering Python.

    Parameters
    ----------
    function : callable
        Plain function of four addresses, see the module; compiled on first use.
    n_residuals : int
        Residuals per block.
    block_sizes : sequence of int
        Sizes of the parameter blocks of one residual block.
    constants : sequence of float
        What :func:`constant` returns.
    arrays : sequence of ndarray
        What :func:`array_pointer` points to: C-contiguous, at most 4-D, used in place.
    native : bool, optional
        False for the callback path, True for the direct one; by default the direct one where it
        works.

    Returns
    -------
    NativeCost
        Serves any number of residual blocks, in any number of problems.
    """
    callback = _compiled(function)
    memory = _Memory(constants, arrays)
    if native is None:
        native = native_status() == ""
        if not native:
            _warn_once(native_status())
    ceres = _patched_cost(callback, n_residuals, block_sizes, memory) if native else None
    if ceres is None:
        native = False
        ceres = _CallbackCost(callback, n_residuals, block_sizes, memory)
    return NativeCost(ceres, native, n_residuals, tuple(block_sizes))


def _self_test_residual(cost: int, parameters: int, residuals: int, jacobians: int) -> int:
    """Evaluate ``c0 * a0 * b1`` and ``b0 - c1``."""
    a = parameter(parameters, 0, 0)
    b0 = parameter(parameters, 1, 0)
    b1 = parameter(parameters, 1, 1)
    set_residual(residuals, 0, constant(cost, 0) * a * b1)
    set_residual(residuals, 1, b0 - constant(cost, 1) * array_extent(cost, 0, 1))
    set_derivative(jacobians, 0, 0, constant(cost, 0) * b1)
    set_derivative(jacobians, 0, 1, 0.0)
    set_derivative(jacobians, 1, 0, 0.0)
    set_derivative(jacobians, 1, 1, constant(cost, 0) * a)
    set_derivative(jacobians, 1, 2, 1.0)
    set_derivative(jacobians, 1, 3, 0.0)
    return 1


def _proves_itself() -> bool:
    """Return whether Ceres computes a known residual and Jacobian through a patched object."""
    cost = native_cost(_self_test_residual, 2, (1, 2), (3.0, 5.0), (np.zeros((2, 7)),), native=True)
    if not cost.native:
        return False
    a, b = np.array([2.0]), np.array([11.0, 13.0])
    problem = pyceres.Problem()
    problem.add_residual_block(cost.ceres, None, [a, b])
    free = np.asarray(problem.evaluate_jacobian().to_tuple()[2])
    if list(problem.evaluate_residuals()) != [78.0, -24.0] or not np.array_equal(
        free, [39.0, 0.0, 6.0, 0.0, 1.0, 0.0]
    ):
        return False
    problem.set_parameter_block_constant(a)
    fixed = np.asarray(problem.evaluate_jacobian().to_tuple()[2])
    return np.array_equal(fixed, [0.0, 6.0, 1.0, 0.0])


@cache
def native_status() -> str:
    """Return why compiled cost functions cannot be used in this process.

    Returns
    -------
    str
        Empty when they can, which has then been proved on a tiny problem.
    """
    machine = platform.machine().lower()
    if sys.implementation.name != "cpython":
        return f"this is {sys.implementation.name}, not CPython"
    if sys.platform not in ("linux", "darwin") or machine not in (
        "x86_64",
        "amd64",
        "arm64",
        "aarch64",
    ):
        return f"the C++ ABI of {sys.platform} on {machine} is not supported"
    if pyceres.__version__ not in TESTED_PYCERES:
        return f"pyceres {pyceres.__version__} is not one of {', '.join(TESTED_PYCERES)}"
    return "" if _proves_itself() else "the self-test of compiled cost functions failed"


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"Ceres evaluates residuals through Python, about 100 times slower: {reason}",
        RuntimeWarning,
        stacklevel=3,
    )
