"""Walks to the faces of labelled sheets, on flat sheets with known faces."""

import numpy as np
import pytest

from tracer.kernels import label_faces as kernels


def _normals(shape, direction=(1.0, 0.0, 0.0)):
    out = np.zeros([-(-n // 2) for n in shape] + [3], np.float32)
    out[...] = direction
    return out


def _two_sheets():
    """Return sheet 3 in slices 10 to 15 with a crack at 12, and 4 in 16 to 19, touching it."""
    labels = np.zeros((32, 24, 24), np.uint16)
    labels[10:16] = 3
    labels[12] = 0
    labels[16:20] = 4
    return labels


def test_nearest_label__rounds_to_the_nearest_voxel():
    labels = np.arange(27, dtype=np.uint16).reshape(3, 3, 3)
    assert kernels.nearest_label(labels, 1, 1, 1, 0.4, -0.4, 0.0) == labels[1, 1, 1]
    assert kernels.nearest_label(labels, 1, 1, 1, 0.6, -0.6, 0.5) == labels[2, 0, 2]


def test_distance_to_face__crosses_cracks_but_no_other_instance():
    labels = _two_sheets()
    here = (labels, 14, 12, 12)
    assert kernels.distance_to_face(*here, 1.0, 0.0, 0.0, 3, 8.0, 2.0) == pytest.approx(1.5)
    assert kernels.distance_to_face(*here, -1.0, 0.0, 0.0, 3, 8.0, 2.0) == pytest.approx(
        4.75, abs=0.5
    )
    assert kernels.distance_to_face(*here, -1.0, 0.0, 0.0, 3, 8.0, 0.5) == pytest.approx(
        1.75, abs=0.5
    )
    assert kernels.distance_to_face(*here, -1.0, 0.0, 0.0, 3, 2.0, 2.0) <= 2.0
    assert kernels.distance_to_face(*here, 1.0, 0.0, 0.0, 9, 8.0, 2.0) < 0.0


def test_first_label__zero_where_nothing_is_near():
    labels = _two_sheets()
    assert kernels.first_label(labels, 7, 12, 12, 1.0, 0.0, 0.0, 4.0) == 3
    assert kernels.first_label(labels, 7, 12, 12, -1.0, 0.0, 0.0, 4.0) == 0
    assert kernels.first_label(labels, 7, 12, 12, 1.0, 0.0, 0.0, 2.0) == 0


def test_locate_in_instances__middle_and_faces_of_flat_sheets():
    labels = _two_sheets()
    instance, inner, outer = kernels.locate_in_instances(
        labels, _normals(labels.shape), 6.0, 2.0, 8
    )
    column = (slice(None), 4, 4)
    assert instance[column].tolist() == [0, 0, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 0, 0, 0, 0]
    offset = 0.5 * (inner - outer)[column]
    np.testing.assert_allclose(offset[2:8], np.arange(6) - 2.5, atol=1e-6)
    np.testing.assert_allclose(offset[8:12], np.arange(4) - 1.5, atol=1e-6)
    assert inner[column][2] == 0.5
    assert outer[column][7] == 0.5


def test_locate_in_instances__nothing_without_a_normal():
    labels = _two_sheets()
    out = kernels.locate_in_instances(labels, _normals(labels.shape, (0, 0, 0)), 6.0, 2.0, 8)
    assert not any(array.any() for array in out)


def test_average_offsets__evens_out_within_an_instance_only():
    rng = np.random.default_rng(1)
    instance = np.full((10, 20, 20), 5, np.uint16)
    instance[:, 10:] = 6
    offset = rng.normal(size=instance.shape).astype(np.float32)
    out = kernels.average_offsets(instance, offset, _normals(instance.shape), 2, False, 4)
    for y, x in ((4, 5), (8, 9), (9, 12), (10, 6), (13, 13)):
        same = instance[4, y - 2 : y + 3, x - 2 : x + 3] == instance[4, y, x]
        expected = offset[4, y - 2 : y + 3, x - 2 : x + 3][same].mean()
        assert out[0, y - 4, x - 4] == pytest.approx(expected, abs=1e-5)


def test_average_offsets__follows_normals_of_either_sign():
    instance = np.full((10, 20, 20), 5, np.uint16)
    normals = _normals(instance.shape)
    normals[:, ::2] *= -1.0
    sign = np.repeat(np.repeat(np.repeat(normals[..., 0], 2, 0), 2, 1), 2, 2)
    out = kernels.average_offsets(instance, 0.7 * sign, normals, 2, True, 4)
    np.testing.assert_allclose(out[0], 0.7 * sign[4, 4:-4, 4:-4], rtol=1e-5)


def test_average_offsets__nan_where_there_is_no_instance():
    instance = np.zeros((8, 8, 8), np.uint16)
    out = kernels.average_offsets(
        instance, np.zeros((8, 8, 8), np.float32), _normals((8, 8, 8)), 1, True, 2
    )
    assert np.isnan(out).all()


def test_separate_instances__opens_a_gap_of_two_voxels():
    labels = np.zeros((12, 6, 6), np.uint16)
    labels[2:6] = 1
    labels[6:10] = 2
    out = kernels.separate_instances(labels)[:, 2, 2]
    assert out.tolist() == [False, True, True, True, False, False, True, True, True, False]
    labels[labels == 2] = 1
    np.testing.assert_array_equal(
        kernels.separate_instances(labels), (labels > 0)[1:-1, 1:-1, 1:-1]
    )
