"""Homology of unions of closed voxel cubes modulo 2, by elimination on all of their cells."""

import itertools


def cells_of(mask):
    """Return the cells of all voxels: doubled coordinates, odd along the axes they extend in."""
    cells = set()
    for voxel in itertools.product(*(range(n) for n in mask.shape)):
        if mask[voxel]:
            cells |= set(itertools.product(*((2 * a, 2 * a + 1, 2 * a + 2) for a in voxel)))
    return cells


def dimension(cell):
    return sum(a % 2 for a in cell)


def faces(cell):
    for axis in range(3):
        if cell[axis] % 2:
            for step in (-1, 1):
                yield (*cell[:axis], cell[axis] + step, *cell[axis + 1 :])


class Span:
    """Linear combinations of cells modulo 2, as bits of an integer."""

    def __init__(self, vectors=()):
        self.pivots = {}
        for vector in vectors:
            self.add(vector)

    def add(self, vector):
        """Add a vector; return whether it is new."""
        while vector:
            top = vector.bit_length()
            if top not in self.pivots:
                self.pivots[top] = vector
                return True
            vector ^= self.pivots[top]
        return False

    def __len__(self):
        return len(self.pivots)


def cycles(cells, k, number):
    """Return a basis of the chains of dimension k without a boundary."""
    reduced, out = {}, []
    for cell in sorted(c for c in cells if dimension(c) == k):
        rim, chain = 0, 1 << number[cell]
        for face in faces(cell):
            rim ^= 1 << number[face]
        while rim and rim.bit_length() in reduced:
            other_rim, other = reduced[rim.bit_length()]
            rim, chain = rim ^ other_rim, chain ^ other
        if rim:
            reduced[rim.bit_length()] = (rim, chain)
        else:
            out.append(chain)
    return out


def boundaries(cells, k, number):
    out = []
    for cell in cells:
        if dimension(cell) == k + 1:
            rim = 0
            for face in faces(cell):
                rim ^= 1 << number[face]
            out.append(rim)
    return out


def common_homology(a, b):
    """Return Betti numbers of two masks, of their union, and of what both have in common in it."""
    of_a, of_b, union = cells_of(a), cells_of(b), cells_of(a | b)
    number = {cell: i for i, cell in enumerate(sorted(union))}
    found = []
    for k in range(3):
        own = [
            len(cycles(cells, k, number)) - len(Span(boundaries(cells, k, number)))
            for cells in (of_a, of_b, union)
        ]
        nothing = boundaries(union, k, number)
        kept = [
            len(Span([*nothing, *itertools.chain(*chains)])) - len(Span(nothing))
            for chains in (
                [cycles(of_a, k, number)],
                [cycles(of_b, k, number)],
                [cycles(of_a, k, number), cycles(of_b, k, number)],
            )
        ]
        found.append((*own, kept[0] + kept[1] - kept[2]))
    return [tuple(row[i] for row in found) for i in range(4)]
