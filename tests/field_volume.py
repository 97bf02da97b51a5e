"""An array that a distance field can be made of."""

import hashlib
import itertools

import numpy as np
from array_volume import ArrayVolume


class FieldVolume(ArrayVolume):
    """Prediction in memory; counts what is read and knows which stored objects are missing."""

    path = "array"

    def __init__(self, array, chunk=128):
        super().__init__(np.ascontiguousarray(array, np.uint8))
        self.chunk = chunk
        self.reads = []
        self.identity = hashlib.sha256(self.array.tobytes()).hexdigest()[:32]

    def require_prediction(self):
        assert self.array.dtype == np.uint8

    def chunk_shape_zyx(self, level):
        assert level == 0
        return (self.chunk,) * 3

    def chunk_exists(self, level, index_zyx):
        box = tuple(slice(i * self.chunk, (i + 1) * self.chunk) for i in index_zyx)
        return bool(self.array[box].any())

    def chunk_indices(self):
        """Return the indices of all chunks of the field."""
        return list(itertools.product(*(range(-(-n // 128)) for n in self.shape_zyx)))

    def read(self, level, start_zyx, stop_zyx):
        self.reads.append((tuple(start_zyx), tuple(stop_zyx)))
        return super().read(level, start_zyx, stop_zyx)
