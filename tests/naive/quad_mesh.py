"""Obvious versions of the quad mesh geometry; imports nothing of ours."""

import numpy as np


def sample(points, valid, row, col):
    rows, cols = valid.shape
    if not (0 <= row <= rows - 1 and 0 <= col <= cols - 1):
        return None
    total = np.zeros(3)
    for r in range(rows):
        for c in range(cols):
            weight = max(0.0, 1 - abs(row - r)) * max(0.0, 1 - abs(col - c))
            if weight > 0:
                if not valid[r, c]:
                    return None
                total += weight * points[r, c].astype(np.float64)
    return total


def normal(points, valid, row, col):
    def difference(axis):
        ends = []
        for sign in (-1, 1):
            at = [row, col]
            at[axis] += sign
            inside = 0 <= at[0] < valid.shape[0] and 0 <= at[1] < valid.shape[1]
            ends.append(tuple(at) if inside and valid[tuple(at)] else (row, col))
        n = sum(ends[1]) - sum(ends[0])
        if n == 0:
            return None
        return (points[ends[1]].astype(np.float64) - points[ends[0]].astype(np.float64)) / n

    if not valid[row, col]:
        return None
    along_row, along_col = difference(1), difference(0)
    if along_row is None or along_col is None:
        return None
    cross = np.cross(along_row, along_col)
    length = np.linalg.norm(cross)
    return cross / length if length > 0 else None


def areas(points, valid):
    p = points.astype(np.float64)
    out = np.zeros((valid.shape[0] - 1, valid.shape[1] - 1))

    def triangle(a, b, c):
        return np.linalg.norm(np.cross(b - a, c - a)) / 2

    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            if valid[r : r + 2, c : c + 2].all():
                a, b, d, e = p[r, c], p[r, c + 1], p[r + 1, c], p[r + 1, c + 1]
                out[r, c] = (
                    triangle(a, b, d) + triangle(e, b, d) + triangle(a, b, e) + triangle(a, d, e)
                ) / 2
    return out
