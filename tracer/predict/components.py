"""Sizes of connected components of a volume that is only ever held block by block.

Every block is labelled together with one more voxel on its upper sides. A voxel on such a seam gets
a label from each block that holds it, and those labels are one component. Only the seams of one
layer of blocks are kept: about 32 bytes per voxel of one slice.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tracer.predict.blocks import Block, Index, iterate_blocks
from tracer.progress import Progress, silent

MaskReader = Callable[[Index, Index], NDArray[np.bool_]]


@dataclass(slots=True)
class SeamLabels:
    """Labels of the voxels on the seams of one layer of blocks.

    Attributes
    ----------
    shape_zyx : tuple of int
        Shape of the volume.
    edge : int
        Edge of a block.
    planes : dict
        (axis, index of the seam along it) to the labels of its voxels.
    """

    shape_zyx: Index
    edge: int
    planes: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)

    def start_layer(self, layer: int) -> None:
        """Forget the seams that lie before a layer of blocks.

        Parameters
        ----------
        layer : int
            Number of the layer along z.
        """
        kept = (0, layer)
        self.planes = {key: plane for key, plane in self.planes.items() if key == kept}

    def meet(
        self, block: Block, labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of labels of the same voxel, and remember those of new voxels.

        Parameters
        ----------
        block : Block
            Whose labels they are.
        labels : ndarray of int64, shape (z, y, x)
            Of the block and one more voxel on its upper sides; 0 is background.

        Returns
        -------
        tuple of ndarray of int64
            Labels seen before and their counterparts.
        """
        earlier, later = [], []
        layer = block.start_zyx[0] // self.edge
        for axis in range(3):
            for at in range(0, labels.shape[axis], self.edge):
                seam = (block.start_zyx[axis] + at) // self.edge
                plane = self._plane(axis, seam)
                # z within a layer counts from the layer's first slice on the y and x seams.
                origin = (
                    block.start_zyx[0] - layer * self.edge,
                    block.start_zyx[1],
                    block.start_zyx[2],
                )
                box = tuple(
                    slice(origin[i], origin[i] + labels.shape[i]) for i in range(3) if i != axis
                )
                mine, known = np.take(labels, at, axis), plane[box]
                both = (mine > 0) & (known > 0)
                earlier.append(known[both])
                later.append(mine[both])
                known[known == 0] = mine[known == 0]
        return np.concatenate(earlier), np.concatenate(later)

    def _plane(self, axis: int, seam: int) -> NDArray[np.int64]:
        if (axis, seam) not in self.planes:
            extents = (self.edge + 1, self.shape_zyx[1] + 1, self.shape_zyx[2] + 1)
            self.planes[axis, seam] = np.zeros(
                [extent for i, extent in enumerate(extents) if i != axis], np.int64
            )
        return self.planes[axis, seam]


def label_block(
    read_mask: MaskReader, shape_zyx: Index, block: Block
) -> tuple[NDArray[np.int64], int]:
    """Return the components of a block and one more voxel on its upper sides.

    Parameters
    ----------
    read_mask : callable
        Returns the mask of a box (start, stop).
    shape_zyx : tuple of int
        Shape of the volume, at which the extra voxels end.
    block : Block
        Block.

    Returns
    -------
    labels : ndarray of int64
        Numbered from 1 by C order of their first voxels; connected through faces, edges and
        corners.
    count : int
        Number of components.
    """
    import scipy.ndimage as ndi

    z, y, x = (min(b + 1, n) for b, n in zip(block.stop_zyx, shape_zyx, strict=True))
    mask = read_mask(block.start_zyx, (z, y, x))
    labels, count = ndi.label(mask, ndi.generate_binary_structure(3, 3))
    return np.asarray(labels, np.int64), int(count)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComponentSizes:
    """Sizes of all components of a volume.

    Attributes
    ----------
    first : ndarray of int64, shape (blocks + 1,)
        Number of provisional labels before each block.
    sizes : ndarray of int64, shape (labels + 1,)
        Voxels of the component that a provisional label belongs to; index 0 is background.
    components : int
        Number of components.
    """

    first: NDArray[np.int64]
    sizes: NDArray[np.int64]
    components: int

    def of_block(self, block: Block, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the size of the component of every voxel.

        Parameters
        ----------
        block : Block
            Block.
        labels : ndarray of int64
            Its labels from :func:`label_block`, or a part of them.

        Returns
        -------
        ndarray of int64
            0 in the background.
        """
        return np.where(labels > 0, self.sizes[labels + self.first[block.number]], 0)


def measure_components(
    read_mask: MaskReader, shape_zyx: Index, edge: int, *, progress: Progress = silent
) -> ComponentSizes:
    """Return the sizes of the components of a volume, as if it were labelled in one piece.

    Parameters
    ----------
    read_mask : callable
        Returns the mask of a box (start, stop).
    shape_zyx : tuple of int
        Shape of the volume.
    edge : int
        Edge of a block in voxels.
    progress : callable
        Progress callback.

    Returns
    -------
    ComponentSizes
        Sizes for the same blocks.
    """
    from tracer.kernels.union_find import flatten_sets, join_pairs

    blocks = list(iterate_blocks(shape_zyx, edge))
    seams = SeamLabels(shape_zyx, edge)
    parents = np.arange(1024, dtype=np.int64)
    sizes = np.zeros(1024, np.int64)
    first = np.zeros(len(blocks) + 1, np.int64)
    for block in blocks:
        if block.start_zyx[1:] == (0, 0):
            seams.start_layer(block.start_zyx[0] // edge)
        labels, count = label_block(read_mask, shape_zyx, block)
        before = int(first[block.number])
        first[block.number + 1] = before + count
        while before + count + 1 > len(parents):
            parents = np.concatenate([parents, np.arange(len(parents), 2 * len(parents))])
            sizes = np.concatenate([sizes, np.zeros_like(sizes)])
        if count:
            labels[labels > 0] += before
            z, y, x = block.shape_zyx
            own = np.bincount((labels[:z, :y, :x] - before).clip(0).ravel(), minlength=count + 1)
            sizes[before + 1 : before + count + 1] = own[1:]
            join_pairs(parents, *seams.meet(block, labels))
        progress(block.number + 1, len(blocks), "measuring components")
    total = int(first[-1]) + 1
    parents, sizes = parents[:total], sizes[:total]
    flatten_sets(parents)
    joined = np.zeros_like(sizes)
    np.add.at(joined, parents, sizes)
    roots = np.unique(parents[1:])
    return ComponentSizes(
        first=first, sizes=joined[parents], components=int((joined[roots] > 0).sum())
    )
