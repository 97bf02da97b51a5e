"""Distance fields for tests, without a volume and without the code that computes real ones."""

import numpy as np

from tracer.kernels.field_sampling import CHUNK, FAR, FieldView


def sheet_height(x, y):
    """Return the z of the mid-line of the test sheet."""
    return 40.0 + 5.0 * np.sin(x / 21.0) + 3.0 * np.cos(y / 17.0)


def sheet_codes(shape_zyx=(80, 100, 200), half_thickness=2.0, cap=16.0):
    """Return the codes of a wavy sheet that lies across z, about 4 voxels thick."""
    z, y, x = np.ogrid[: shape_zyx[0], : shape_zyx[1], : shape_zyx[2]]
    signed = np.abs(z - sheet_height(x, y)) - half_thickness
    return (np.round(8.0 * np.clip(signed, -8.0, cap)) + 64.0).astype(np.uint8)


def view_of_codes(codes, cap=16.0):
    """Return the field view of an array of codes; the last chunk of the table counts as far."""
    chunks = tuple(-(-n // CHUNK) for n in codes.shape)
    table = np.arange(np.prod(chunks), dtype=np.int32).reshape(chunks)
    pool = np.zeros((table.size, *(CHUNK + 1,) * 3), dtype=np.uint8)
    for index in np.ndindex(chunks):
        start = np.array(index) * CHUNK
        box = codes[tuple(slice(s, s + CHUNK + 1) for s in start)]
        pool[table[index]][tuple(slice(0, n) for n in box.shape)] = box
    return FieldView(pool, table, np.array(codes.shape, dtype=np.int64), cap)


def far_view(cap=16.0):
    """Return a field with nothing in it."""
    table = np.full((1, 1, 2), FAR, dtype=np.int32)
    pool = np.zeros((1, *(CHUNK + 1,) * 3), dtype=np.uint8)
    return FieldView(pool, table, np.array([80, 100, 200], dtype=np.int64), cap)
