"""Read PLY files: ASCII or binary of either byte order, polygons of any number of corners."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_INDICES = ("vertex_indices", "vertex_index")
_TEXCOORD = "texcoord"  # per corner of a face, as MeshLab writes it


@dataclass(slots=True)
class _Element:
    """What the header says of an element: properties (name, type, type of the count or '')."""

    name: str
    count: int
    properties: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        return any(count for _, _, count in self.properties)


@dataclass(frozen=True, slots=True, eq=False)
class PlyMesh:
    """Vertices and polygons of a PLY file.

    Attributes
    ----------
    vertices : dict of str to ndarray
        Their properties that are no lists.
    polygons : list of ndarray of int64
        Corners of every face.
    corner_uv : list of ndarray of float64, shape (k, 2)
        Texture coordinates of those corners; empty where the file keeps none with its faces.
    """

    vertices: dict[str, NDArray[Any]]
    polygons: list[NDArray[np.int64]]
    corner_uv: list[NDArray[np.float64]]


def parse_ply(data: bytes) -> PlyMesh:
    """Return what is in a PLY file.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    PlyMesh
        Elements other than vertices and faces are passed over.

    Raises
    ------
    ValueError
        If it is no such file, is cut off, or a face names a vertex that is not there.
    """
    order, elements, body = _parse_header(data)
    values: Iterator[tuple[str, dict[str, Any]]]
    values = _ascii(elements, body) if order == "" else _binary(elements, body, order)
    found = dict(values)
    if "vertex" not in found or "face" not in found:
        raise ValueError("no vertices or no faces")
    vertices, faces = found["vertex"], found["face"]
    key = next((name for name in _INDICES if name in faces), None)
    if key is None:
        raise ValueError("faces have no vertex_indices")
    polygons = [np.asarray(corners, np.int64) for corners in faces[key]]
    n = next(element.count for element in elements if element.name == "vertex")
    for corners in polygons:
        if len(corners) < 3:
            raise ValueError(f"a face has {len(corners)} corners; remove lines and points")
        if corners.min() < 0 or corners.max() >= n:
            raise ValueError(f"a face names vertex {corners.max()} of {n}")
    uv = [np.asarray(one, np.float64) for one in faces.get(_TEXCOORD, ())]
    if any(len(one) != 2 * len(corners) for one, corners in zip(uv, polygons, strict=False)):
        raise ValueError("a face has not two texture coordinates per corner")
    return PlyMesh(vertices, polygons, [one.reshape(-1, 2) for one in uv])


def _parse_header(data: bytes) -> tuple[str, list[_Element], bytes]:
    """Return the byte order ('' for ASCII), the elements, and what follows the header."""
    head, mark, body = data.partition(b"end_header")
    if not mark:
        raise ValueError("no end_header")
    body = body[body.index(b"\n") + 1 :]
    order: str | None = None
    elements: list[_Element] = []
    for line in head.decode("ascii", "replace").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "format":
            order = _ORDERS.get(words[1])
        elif words[0] == "element":
            elements.append(_Element(words[1], int(words[2])))
        elif words[0] == "property" and words[1] == "list":
            elements[-1].properties.append((words[4], _TYPES[words[3]], _TYPES[words[2]]))
        elif words[0] == "property":
            elements[-1].properties.append((words[2], _TYPES[words[1]], ""))
    if order is None:
        raise ValueError("no format that is known: ascii, binary_little_endian, binary_big_endian")
    return order, elements, body


def _ascii(elements: list[_Element], body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and properties of each element of a text."""
    words = body.split()
    at = 0
    for element in elements:
        names = [name for name, _, _ in element.properties]
        if not element.has_lists:
            size = element.count * len(names)
            if at + size > len(words):
                raise ValueError(f"the file is cut off in its {element.name} elements")
            table = np.array(words[at : at + size], np.float64).reshape(-1, max(len(names), 1))
            at += size
            yield element.name, {name: table[:, k] for k, name in enumerate(names)}
            continue
        rows: dict[str, list[Any]] = {name: [] for name in names}
        for _ in range(element.count):
            for name, kind, count in element.properties:
                n = int(words[at]) if count else 1
                first = at + bool(count)
                at = first + n
                if at > len(words):
                    raise ValueError(f"the file is cut off in its {element.name} elements")
                of = int if kind[0] in "iu" else float
                rows[name].append([of(word) for word in words[first:at]])
        yield element.name, rows


def _binary(
    elements: list[_Element], body: bytes, order: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and properties of each element of binary data."""
    at = 0
    for element in elements:
        cut_off = ValueError(f"the file is cut off in its {element.name} elements")
        lengths = _first_lengths(element, body, at, order) if element.count else None
        dtype = _row_dtype(element, order, lengths or [0] * len(element.properties))
        end = at + dtype.itemsize * element.count
        if end <= len(body):
            table = np.frombuffer(body, dtype, element.count, offset=at)
            counts = [name for name in dtype.names or () if name.startswith("#")]
            if all((table[name] == table[name][:1]).all() for name in counts):
                at = end
                yield (
                    element.name,
                    {name: _native(table[name]) for name in dtype.names or () if name[0] != "#"},
                )
                continue
        if not element.has_lists:
            raise cut_off
        rows: dict[str, list[Any]] = {name: [] for name, _, _ in element.properties}
        for _ in range(element.count):  # faces differ in their numbers of corners
            for name, kind, count in element.properties:
                n = 1
                if count:
                    n, at = int(_take(body, count, order, 1, at, cut_off)[0]), at + int(count[1])
                rows[name].append(_take(body, kind, order, n, at, cut_off))
                at += n * int(kind[1])
        yield element.name, rows


def _take(body: bytes, kind: str, order: str, n: int, at: int, cut_off: ValueError) -> NDArray[Any]:
    """Return some numbers at a place of the data."""
    if n < 0 or at + n * int(kind[1]) > len(body):
        raise cut_off
    return np.frombuffer(body, order + kind, n, offset=at)


def _first_lengths(element: _Element, body: bytes, at: int, order: str) -> list[int]:
    """Return how long the lists of the first row are, 0 for what is no list."""
    cut_off = ValueError(f"the file is cut off in its {element.name} elements")
    lengths = []
    for _, kind, count in element.properties:
        n = 0
        if count:
            n, at = int(_take(body, count, order, 1, at, cut_off)[0]), at + int(count[1])
        lengths.append(n)
        at += (n if count else 1) * int(kind[1])
    return lengths


def _row_dtype(element: _Element, order: str, lengths: list[int]) -> np.dtype[Any]:
    """Return the type of a row whose lists have certain lengths."""
    fields: list[Any] = []
    for (name, kind, count), n in zip(element.properties, lengths, strict=True):
        if count:
            fields.append((f"#{name}", order + count))
            fields.append((name, order + kind, (max(n, 0),)))
        else:
            fields.append((name, order + kind))
    return np.dtype(fields)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values, values.dtype.newbyteorder("="))
