"""Zarr arrays and volumes of every kind, written by the zarr package or by hand."""

import json

import numpy as np
import zarr
import zarr.codecs as codecs
from numcodecs import Blosc, GZip, Zlib, Zstd

V2_COMPRESSORS = {
    "raw": None,
    "blosc": Blosc("zstd", 3, Blosc.NOSHUFFLE),
    "blosc-lz4-shuffle": Blosc("lz4", 5, Blosc.SHUFFLE),
    "zstd": Zstd(3),
    "gzip": GZip(1),
    "zlib": Zlib(1),
}
V3_COMPRESSORS = {
    "raw": None,
    "blosc": codecs.BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle"),
    "zstd": codecs.ZstdCodec(level=3),
    "gzip": codecs.GzipCodec(level=1),
}
META = {"type": "vol", "uuid": "vol-1", "name": "vol", "voxelsize": 7.91, "format": "zarr"}


def some_voxels(shape=(21, 34, 27), dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    voxels = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    voxels[:16, :16, :16] = 0  # at least one chunk of 16 is empty
    return voxels


def make_array(path, voxels, *, zarr_format=2, chunk=16, separator="/", compressor="blosc", **more):
    chunk_shape = (chunk,) * voxels.ndim
    table = V2_COMPRESSORS if zarr_format == 2 else V3_COMPRESSORS
    encoding = (
        {"name": "v2", "separator": separator}
        if zarr_format == 2
        else {"name": "default", "separator": separator}
    )
    array = zarr.create_array(
        store=str(path),
        shape=voxels.shape,
        dtype=voxels.dtype,
        chunks=chunk_shape,
        compressors=table[compressor],
        zarr_format=zarr_format,
        chunk_key_encoding=encoding,
        fill_value=more.pop("fill_value", 0),
        config={"write_empty_chunks": False},
        **more,
    )
    array[...] = voxels
    return array


def make_volume(path, levels, *, zarr_format=2, multiscales=True, meta=META, **array_options):
    """Write a group of levels; finest first."""
    path.mkdir(parents=True)
    for number, voxels in enumerate(levels):
        make_array(path / str(number), voxels, zarr_format=zarr_format, **array_options)
    attributes = {}
    if multiscales:
        listing = {
            "version": "0.4" if zarr_format == 2 else "0.5",
            "axes": [{"name": a, "type": "space"} for a in "zyx"],
            "datasets": [
                {
                    "path": str(k),
                    "coordinateTransformations": [{"type": "scale", "scale": [2.0**k] * 3}],
                }
                for k in range(len(levels))
            ],
        }
        attributes = {"multiscales": [listing]}
    if zarr_format == 2:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        if multiscales:
            (path / ".zattrs").write_text(json.dumps(attributes))
    else:
        node = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {"ome": attributes} if multiscales else {},
        }
        (path / "zarr.json").write_text(json.dumps(node))
    if meta is not None:
        (path / "meta.json").write_text(json.dumps(meta))
    return path
