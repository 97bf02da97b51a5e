"""The metadata of Zarr arrays, v2 and v3, parsed from their JSON without importing zarr.

Only what is needed to find, decode and describe chunks is kept. Anything out of the ordinary
(sharding, filters, transposed order, rare codecs) is marked as not :attr:`ArrayMetadata.is_plain`
and left to the zarr package when data is read.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracer.errors import VolumeError
from tracer.storage import Storage

V2_ARRAY, V2_GROUP, V2_ATTRIBUTES, V3_NODE = ".zarray", ".zgroup", ".zattrs", "zarr.json"
PLAIN_CODECS = frozenset({"blosc", "zstd", "gzip", "zlib"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayMetadata:
    """What is known of an array without reading its data.

    Attributes
    ----------
    path : str
        Key of the array below its storage; empty for the root.
    shape : tuple of int
        Elements per axis.
    dtype : dtype
        As stored, possibly big-endian.
    chunks : tuple of int
        Elements per chunk, the unit of decoding.
    shards : tuple of int
        Elements per stored object: the shards of a sharded array, else equal to `chunks`.
    fill_value : float
        Value of elements that are not stored.
    separator : str
        Between the indices in a chunk's key, ``/`` or ``.``.
    prefix : str
        In front of the indices in a chunk's key: ``c`` in Zarr v3.
    codec : str or None
        Compression of a plain array, one of `PLAIN_CODECS`; None for raw bytes.
    codec_text : str
        The whole chain of codecs, for people.
    is_plain : bool
        Whether a chunk is C-ordered elements with at most one of `PLAIN_CODECS`.
    zarr_format : int
        2 or 3.
    raw : bytes
        The JSON file itself.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    fill_value: float
    separator: str
    prefix: str
    codec: str | None
    codec_text: str
    is_plain: bool
    zarr_format: int
    raw: bytes

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """Return the number of chunks per axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    def object_key(self, index: tuple[int, ...]) -> str:
        """Return the key of the stored object that holds a chunk.

        Parameters
        ----------
        index : tuple of int
            Chunk index per axis.

        Returns
        -------
        str
            Key below the storage: of the chunk itself, or of its shard.
        """
        parts = [str(i * c // s) for i, c, s in zip(index, self.chunks, self.shards, strict=True)]
        if self.prefix:
            parts.insert(0, self.prefix)
        name = self.separator.join(parts) or "0"
        return f"{self.path}/{name}" if self.path else name

    def object_index(self, key: str) -> tuple[int, ...] | None:
        """Return the index of a stored object, the inverse of its key.

        Parameters
        ----------
        key : str
            Key below the storage.

        Returns
        -------
        tuple of int or None
            Index per axis in units of `shards`; None if `key` is not an object of this array.
        """
        name = key[len(self.path) + 1 :] if self.path else key
        if self.prefix:
            head = self.prefix + self.separator
            if not name.startswith(head):
                return None
            name = name[len(head) :]
        parts = name.split(self.separator)
        if len(parts) != len(self.shape) or not all(part.isdecimal() for part in parts):
            return None
        index = tuple(int(part) for part in parts)
        inside = all(i * s < n for i, s, n in zip(index, self.shards, self.shape, strict=True))
        return index if inside else None


def read_json(storage: Storage, key: str) -> dict[str, Any] | None:
    """Return a JSON object.

    Parameters
    ----------
    storage : Storage
        Where it lies.
    key : str
        Its relative path.

    Returns
    -------
    dict or None
        The object; None if there is no such file.

    Raises
    ------
    VolumeError
        If it is not a JSON object.
    """
    data = storage.get(key)
    return None if data is None else parse_json(data, f"{storage.root}/{key}")


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object in `data`.

    Parameters
    ----------
    data : bytes
        Content of a file.
    where : str
        Its path, for messages.

    Returns
    -------
    dict
        The object.

    Raises
    ------
    VolumeError
        If it is not a JSON object.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise VolumeError(f"{where}: not valid JSON ({error}); restore the file") from error
    if not isinstance(value, dict):
        raise VolumeError(f"{where}: holds a {type(value).__name__}, not an object; restore it")
    return value


def read_array_metadata(storage: Storage, path: str) -> ArrayMetadata | None:
    """Return the metadata of the array at `path`.

    Parameters
    ----------
    storage : Storage
        Where the array lies.
    path : str
        Key of the array; empty for the root of the storage.

    Returns
    -------
    ArrayMetadata or None
        None if there is no array.

    Raises
    ------
    VolumeError
        If its metadata is damaged or of a kind that Zarr does not define.
    """
    for name, parse in ((V2_ARRAY, _parse_v2), (V3_NODE, _parse_v3)):
        key = f"{path}/{name}" if path else name
        raw = storage.get(key)
        if raw is None:
            continue
        where = f"{storage.root}/{key}"
        value = parse_json(raw, where)
        if name == V3_NODE and value.get("node_type") == "group":
            return None
        try:
            return parse(path, value, raw)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise VolumeError(
                f"{where}: not the metadata of a Zarr array ({error!r}); restore the file"
            ) from error
    return None


def read_attributes(storage: Storage) -> dict[str, Any] | None:
    """Return the attributes of the group or array at the root of a storage.

    Parameters
    ----------
    storage : Storage
        Where to look.

    Returns
    -------
    dict or None
        Attributes, possibly empty; None if this is no Zarr node at all.

    Raises
    ------
    VolumeError
        If a metadata file is damaged.
    """
    node = read_json(storage, V3_NODE)
    if node is not None:
        attributes = node.get("attributes", {})
        return attributes if isinstance(attributes, dict) else {}
    found = read_json(storage, V2_ATTRIBUTES)
    if found is not None:
        return found
    known = (V2_GROUP, V2_ARRAY, f"0/{V2_ARRAY}", f"0/{V3_NODE}")
    return {} if any(storage.get(key) is not None for key in known) else None


def _parse_v2(path: str, value: Mapping[str, Any], raw: bytes) -> ArrayMetadata:
    shape = _positive(value["shape"], at_least=0)
    chunks = _positive(value["chunks"])
    if len(chunks) != len(shape):
        raise ValueError("shape and chunks differ in length")
    compressor = value.get("compressor")
    filters = value.get("filters") or []
    codec = None if compressor is None else str(compressor["id"])
    return ArrayMetadata(
        path=path,
        shape=shape,
        dtype=np.dtype(value["dtype"]),
        chunks=chunks,
        shards=chunks,
        fill_value=_number(value.get("fill_value")),
        separator=_separator(value.get("dimension_separator", ".")),
        prefix="",
        codec=codec,
        codec_text=" + ".join(_v2_codec_text(c) for c in [*filters, compressor] if c) or "raw",
        is_plain=not filters
        and (value.get("order", "C") == "C" or len(shape) < 2)
        and (codec is None or codec in PLAIN_CODECS),
        zarr_format=2,
        raw=raw,
    )


def _v2_codec_text(codec: Mapping[str, Any]) -> str:
    name = str(codec["id"])
    return f"{name}-{codec['cname']}" if "cname" in codec else name


def _parse_v3(path: str, value: Mapping[str, Any], raw: bytes) -> ArrayMetadata:
    if value["node_type"] != "array":
        raise ValueError(f"node_type is {value['node_type']!r}")
    shape = _positive(value["shape"], at_least=0)
    grid = value["chunk_grid"]
    if grid["name"] != "regular":
        raise ValueError(f"chunk grid {grid['name']!r} is not supported")
    shards = chunks = _positive(grid["configuration"]["chunk_shape"])
    codecs = list(value["codecs"])
    plain = True
    text = ""
    if codecs and codecs[0]["name"] == "sharding_indexed":
        inner = codecs[0]["configuration"]
        chunks = _positive(inner["chunk_shape"])
        codecs = list(inner["codecs"])
        plain = False
        text = "sharded "
    if not len(shape) == len(chunks) == len(shards):
        raise ValueError("shape and chunk_shape differ in length")
    names = [str(codec["name"]) for codec in codecs]
    compressors = [name for name in names if name != "bytes"]
    encoding = value.get("chunk_key_encoding", {"name": "default"})
    is_default = encoding["name"] == "default"
    separator = encoding.get("configuration", {}).get("separator", "/" if is_default else ".")
    return ArrayMetadata(
        path=path,
        shape=shape,
        dtype=_v3_dtype(value["data_type"], codecs),
        chunks=chunks,
        shards=shards,
        fill_value=_number(value.get("fill_value")),
        separator=_separator(separator),
        prefix="c" if is_default else "",
        codec=compressors[0] if compressors else None,
        codec_text=text + (" + ".join(map(_v3_codec_text, codecs)) or "raw"),
        is_plain=plain
        and names[:1] == ["bytes"]
        and len(compressors) <= 1
        and all(name in PLAIN_CODECS for name in compressors),
        zarr_format=3,
        raw=raw,
    )


def _v3_codec_text(codec: Mapping[str, Any]) -> str:
    name = str(codec["name"])
    cname = codec.get("configuration", {}).get("cname")
    return f"{name}-{cname}" if cname else name


def _v3_dtype(name: Any, codecs: list[Mapping[str, Any]]) -> np.dtype[Any]:
    if not isinstance(name, str):
        raise ValueError(f"data_type {name!r} is not supported")
    dtype = np.dtype(name)
    for codec in codecs:
        if codec["name"] == "bytes" and codec.get("configuration", {}).get("endian") == "big":
            return dtype.newbyteorder(">")
    return dtype.newbyteorder("<")


def _positive(values: Any, *, at_least: int = 1) -> tuple[int, ...]:
    found = tuple(int(v) for v in values)
    if any(v < at_least for v in found):
        raise ValueError(f"{values!r} must be at least {at_least}")
    return found


def _separator(value: Any) -> str:
    if value not in ("/", "."):
        raise ValueError(f"separator {value!r} is neither '/' nor '.'")
    return str(value)


def _number(value: Any) -> float:
    """Return a fill value as a number; absent ones count as 0, as in zarr."""
    if value is None or isinstance(value, list | dict):
        return 0.0
    if isinstance(value, str):
        named = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
        return named.get(value, 0.0)
    return float(value)
