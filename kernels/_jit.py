"""The only place where Numba compiles anything: one set of flags, one cache policy.

Conventions
-----------
``@kernel`` compiles with strict IEEE arithmetic (no ``fastmath``), NumPy error model, without the
GIL, lazily and with a disk cache. ``@inline_kernel`` is the same for scalar cores that are inlined
into their callers. ``@parallel_kernel`` additionally enables ``prange``; each iteration must write
its own slice. ``compile_callback`` makes a C function pointer of the same kind.

Numba's cache notices an edit of a kernel's own file but not of the kernels it calls, nor of their
constants. Each kernel is therefore cached in a folder named by a digest of its module *and of every
kernel module that this one imports*, so that an edit or an upgrade invalidates exactly what it can
affect and nothing else.
"""

import hashlib
import inspect
import os
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numba.np import linalg
from numba.np.arrayobj import make_array

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")

_IMPORT = re.compile(r"^from tracer\.kernels(?:\.(\w+))? import \(?([\w, ]*)", re.MULTILINE)
_FLAGS = {"error_model": "numpy", "nogil": True, "fastmath": False}


def _import_without_blas_probe() -> None:
    """Import Numba's array functions without SciPy's linear algebra.

    Numba asks at that import whether SciPy has a BLAS, which takes 0.15 s of every command; it has
    one, SciPy being required here. The question is asked again wherever a kernel needs the answer.
    """
    probe = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = probe


_import_without_blas_probe()


def cache_root() -> Path:
    """Return the folder below which compiled kernels are cached.

    Returns
    -------
    Path
        ``NUMBA_CACHE_DIR`` where it is set, else the user's cache folder.
    """
    configured = os.environ.get("NUMBA_CACHE_DIR")
    if configured:
        return Path(configured)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "scroll-tracer" / "numba"


@cache
def _closure(path: Path) -> frozenset[Path]:
    """Return the source files that a kernel module is made of, itself included."""
    files = {path}
    for module, names in _IMPORT.findall(path.read_text(encoding="utf-8")):
        stems = [module] if module else [name.strip() for name in names.split(",")]
        for stem in stems:
            imported = path.with_name(f"{stem}.py")
            if stem != "_jit" and imported != path and imported.exists():
                files |= _closure(imported)
    return frozenset(files)


@cache
def _cache_folder(path: Path) -> str:
    """Return the cache folder for the kernels of one module."""
    digest = hashlib.sha256()
    for file in sorted({*_closure(path), Path(__file__)}):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    digest.update(os.environ.get("NUMBA_BOUNDSCHECK", "").encode())
    return str(cache_root() / f"{path.stem}-{digest.hexdigest()[:16]}")


def _compile(function: Callable[P, R], **flags: object) -> Callable[P, R]:
    path = Path(inspect.getfile(function))
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _cache_folder(path)
    try:
        compiled = numba.njit(cache=True, **_FLAGS, **flags)(function)
    finally:
        numba.config.CACHE_DIR = before
    return cast("Callable[P, R]", compiled)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` compiled lazily, without the GIL, cached on disk.

    Parameters
    ----------
    function : callable
        Pure function over arrays, scalars and named tuples of arrays.

    Returns
    -------
    callable
        The compiled function with the same signature.
    """
    return _compile(function)


def inline_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Return a scalar core compiled like :func:`kernel` and inlined by LLVM where it pays.

    Parameters
    ----------
    function : callable
        Scalar core without checks; called from other kernels.

    Returns
    -------
    callable
        The compiled function with the same signature.
    """
    return _compile(function, forceinline=True)


def fused_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Return a scalar core that is spliced into its callers before types are inferred.

    Parameters
    ----------
    function : callable
        Scalar core that takes arrays, for innermost loops.

    Returns
    -------
    callable
        The compiled function with the same signature.

    Notes
    -----
    A call that LLVM inlines still counts references of every array it passes; one evaluation of a
    vertex's residuals takes 3.6 us that way and 1.7 us this way.
    """
    return _compile(function, inline="always")


def parallel_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` compiled with ``prange`` enabled.

    Parameters
    ----------
    function : callable
        Every iteration of its ``prange`` writes a slice of its own and reduces nothing.

    Returns
    -------
    callable
        The compiled function with the same signature.
    """
    return _compile(function, parallel=True)


def compile_callback(function: Callable[..., Any], signature: object) -> Any:
    """Return `function` compiled as a C callback, at once: an address needs compiled code.

    Parameters
    ----------
    function : callable
        Like a kernel, but with scalar arguments only.
    signature : numba signature
        C types of the result and the arguments.

    Returns
    -------
    numba.core.ccallback.CFunc
        Compiled callback with the attributes ``address`` and ``ctypes``.
    """
    path = Path(inspect.getfile(function))
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _cache_folder(path)
    try:
        return numba.cfunc(signature, cache=True, **_FLAGS)(function)
    finally:
        numba.config.CACHE_DIR = before


@intrinsic  # type: ignore[untyped-decorator]  # numba has no hints
def _without_owner(typing_context: Any, array: Any) -> Any:
    """Return an array with the same memory and nobody to count references to it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = make_array(signature.args[0])(context, builder, value=arguments[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), generate


def borrowed(array: A) -> A:
    """Return an array without an owner, for the kernels that a kernel calls.

    Parameters
    ----------
    array : ndarray
        An argument of a kernel that Python has called: Python owns it for as long as the call
        takes. Never an array that a kernel has made, which would be freed.

    Returns
    -------
    ndarray
        The same array.

    Notes
    -----
    Numba counts references, with atomic operations, wherever an array is passed on, sliced or taken
    out of a tuple. Where there is no owner nothing is counted: one judgement of a vertex takes
    10 us instead of 19, a scan across a sheet 0.2 us instead of 0.54.
    """
    return array


@overload(borrowed, jit_options={"forceinline": True})  # type: ignore[untyped-decorator]  # the same
def _compile_borrowed(array: Any) -> Callable[[Any], Any]:
    def borrow(array: Any) -> Any:
        return _without_owner(array)

    return borrow
