"""An array that is read like a volume."""

import numpy as np


class ArrayVolume:
    """Level 0 only; zeros outside."""

    def __init__(self, array):
        self.array = array
        self.shape_zyx = array.shape

    def read(self, level, start_zyx, stop_zyx):
        assert level == 0
        out = np.zeros([b - a for a, b in zip(start_zyx, stop_zyx, strict=True)], self.array.dtype)
        low = [max(a, 0) for a in start_zyx]
        high = [min(b, n) for b, n in zip(stop_zyx, self.shape_zyx, strict=True)]
        if all(a < b for a, b in zip(low, high, strict=True)):
            target = tuple(
                slice(a - s, b - s) for a, b, s in zip(low, high, start_zyx, strict=True)
            )
            out[target] = self.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        return out
