"""The loaded chunks of a distance field, in memory of bounded size."""

import numpy as np
from numpy.typing import NDArray

from tracer.kernels.field_sampling import CHUNK, FAR, NOT_LOADED

SLOT_EDGE = CHUNK + 1
SLOT_BYTES = SLOT_EDGE**3
_FIRST_SLOTS = (
    1024  # pages that hold no chunk yet take no memory; copying them all later takes time
)


class ChunkPool:
    """Slots for chunks and the table that says which chunk is where.

    Parameters
    ----------
    grid_zyx : tuple of int
        Chunks along z, y, x.
    bound_bytes : float
        Memory to stay within, as long as the wanted chunks do.

    Attributes
    ----------
    pool : ndarray of uint8, shape (slots, CHUNK + 1, CHUNK + 1, CHUNK + 1)
        The codes. Grows by doubling, up to the bound.
    table : ndarray of int32, shape grid_zyx
        Slot of a chunk, NOT_LOADED or FAR.
    n_evicted : int
        Chunks that had to make room.

    Notes
    -----
    Growing makes a new pool *and a new table*: who still holds the old pair has a consistent, if
    outdated, picture. Evicting changes both in place.
    """

    def __init__(self, grid_zyx: tuple[int, int, int], bound_bytes: float) -> None:
        self.bound = max(1, int(bound_bytes) // SLOT_BYTES)
        self.pool = np.empty((0, SLOT_EDGE, SLOT_EDGE, SLOT_EDGE), np.uint8)
        self.table = np.full(grid_zyx, NOT_LOADED, np.int32)
        self.n_evicted = 0
        self._owners = np.empty(0, np.int64)
        self._last_used = np.empty(0, np.int64)
        self._free: list[int] = []
        self._tick = 0

    def require(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Protect chunks from eviction until the next call; return those that are not loaded.

        Parameters
        ----------
        chunks : ndarray of int64, shape (n,)
            Flat indices into the table.

        Returns
        -------
        ndarray of int64, shape (m,)
            Sorted flat indices of the missing ones.
        """
        slots = self.table.reshape(-1)[chunks]
        self._tick += 1
        self._last_used[slots[slots >= 0]] = self._tick
        return np.unique(chunks[slots == NOT_LOADED])

    def take(self, n_wanted: int) -> int:
        """Return a free slot.

        Parameters
        ----------
        n_wanted : int
            Slots that may still be asked for before the next :meth:`require`, this one included.

        Returns
        -------
        int
            Slot to fill, then to be handed to :meth:`assign` or :meth:`release`.
        """
        if not self._free:
            n = len(self.pool)
            if n < self.bound:
                self._grow(min(max(_FIRST_SLOTS, 2 * n), self.bound))
            elif self._last_used.min() < self._tick:
                self._evict(int(self._last_used.argmin()))
            else:
                self._grow(n + n_wanted)
        slot = self._free.pop()
        self._last_used[slot] = self._tick
        return slot

    def assign(self, chunk: int, slot: int) -> None:
        """Declare a slot to hold a chunk.

        Parameters
        ----------
        chunk : int
            Flat index into the table.
        slot : int
            A slot that was taken.
        """
        self._owners[slot] = chunk
        self.table.reshape(-1)[chunk] = slot

    def release(self, slot: int) -> None:
        """Give back a slot that was taken and not assigned.

        Parameters
        ----------
        slot : int
            The slot.
        """
        self._free.append(slot)

    def assign_far(self, chunk: int) -> None:
        """Declare a chunk to be at the cap everywhere; it needs no slot.

        Parameters
        ----------
        chunk : int
            Flat index into the table.
        """
        self.table.reshape(-1)[chunk] = FAR

    def _evict(self, slot: int) -> None:
        self.table.reshape(-1)[self._owners[slot]] = NOT_LOADED
        self._free.append(slot)
        self.n_evicted += 1

    def _grow(self, n_slots: int) -> None:
        n = len(self.pool)
        pool = np.empty((n_slots, SLOT_EDGE, SLOT_EDGE, SLOT_EDGE), np.uint8)
        pool[:n] = self.pool
        self.pool = pool
        self.table = self.table.copy()
        self._owners = np.concatenate([self._owners, np.full(n_slots - n, -1)])
        self._last_used = np.concatenate([self._last_used, np.zeros(n_slots - n, np.int64)])
        self._free.extend(range(n_slots - 1, n - 1, -1))
