"""Surfaces from labels of whole sheets."""

import numpy as np
import pytest
import scipy.ndimage as ndi
from array_volume import ArrayVolume

from tracer.errors import ParamsError
from tracer.predict.blocks import iterate_blocks, read_with_halo
from tracer.predict.from_labels import FromLabelsParams, LabelReach, labels_block
from tracer.predict.orientation import Outward

SMALL = {"half_width": 1.5, "max_thickness": 14.0, "smooth_radius": 2, "normal_sigma": 3.0}


def _convert(labels, params, edge=64, outward=None):
    out = np.empty(labels.shape, np.uint8)
    halo = LabelReach.of(params).halo
    for block in iterate_blocks(labels.shape, edge):
        part = labels_block(
            read_with_halo(ArrayVolume(labels), block, halo),
            params,
            start_zyx=block.start_zyx,
            outward=outward,
        )
        z, y, x = block.shape_zyx
        box = tuple(slice(a, b) for a, b in zip(block.start_zyx, block.stop_zyx, strict=True))
        out[box] = part[:z, :y, :x]
    return out


def _rings(rng=None):
    """Return touching rings of sheets around an axis, and the radius; rough where asked."""
    _, y, x = np.meshgrid(np.arange(10), np.arange(70), np.arange(70), indexing="ij")
    radius = np.hypot(y - 34.5, x - 34.5)
    rough = radius
    if rng is not None:
        noise = ndi.gaussian_filter(rng.normal(size=radius.shape), 2.0)
        rough = radius + 0.7 * noise / noise.std()
    labels = np.zeros(radius.shape, np.uint16)
    labels[(rough >= 12) & (rough < 20)] = 7
    labels[(rough >= 20) & (rough < 28)] = 300  # touches 7
    return labels, radius


@pytest.mark.parametrize("face", ["mid-line", "recto", "all"])
def test_labels_block__blocks_give_the_bits_of_the_whole(face):
    labels, _ = _rings(np.random.default_rng(1))
    labels = labels[:, 10:50, 3:48]
    params = FromLabelsParams(**SMALL, face=face, axis_x=31.5, axis_y=24.5)
    outward = Outward.straight(31.5, 24.5)
    whole = _convert(labels, params, 64, outward)
    assert 0.05 < (whole > 0).mean() < 0.6
    np.testing.assert_array_equal(_convert(labels, params, 16, outward), whole)


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize(
    ("face", "places"), [("mid-line", (16, 24)), ("recto", (13.5, 21.5)), ("verso", (18.5, 26.5))]
)
def test_labels_block__surface_lies_where_the_face_says(face, places, rough):
    labels, radius = _rings(np.random.default_rng(2) if rough else None)
    params = FromLabelsParams(**SMALL, face=face, axis_x=34.5, axis_y=34.5)
    out = _convert(labels, params, outward=Outward.straight(34.5, 34.5)) > 0
    for place in places:
        near = np.abs(radius - place) < 3.9
        assert np.median(radius[out & near]) == pytest.approx(place, abs=0.3)
    away = np.min([np.abs(radius - place) for place in places], axis=0)
    if rough:  # a face that wobbles by 0.7 leaves its band of 1.5 now and then
        assert out[away < 0.7].mean() > 0.9
    else:
        assert out[away < 0.7].all()
        assert away[out].max() < 1.5 + 0.7


def test_labels_block__touching_sheets_stay_apart():
    labels, _ = _rings()
    for face in ("mid-line", "all"):
        out = _convert(labels, FromLabelsParams(**SMALL, face=face)) > 0
        parts, count = ndi.label(out, np.ones((3, 3, 3)))
        assert count >= 2
        for part in range(1, count + 1):
            assert len(np.unique(labels[(parts == part) & (labels > 0)])) == 1


def test_labels_block__cracks_inside_a_sheet_do_not_split_its_middle():
    labels = np.zeros((40, 30, 30), np.uint16)
    labels[14:24] = 5
    labels[17:19, 8:22, 8:22] = 0
    out = _convert(labels, FromLabelsParams(**SMALL | {"half_width": 1.0})) > 0
    column = np.flatnonzero(out[:, 15, 15])
    assert 18.5 - 2 <= column.min() <= column.max() <= 18.5 + 2
    assert ndi.label(out)[1] == 1


def test_labels_block__ignored_label_is_background():
    labels, _ = _rings()
    out = _convert(labels, FromLabelsParams(**SMALL, face="all", ignore_label=300))
    assert not out[labels == 300].any()
    assert out[labels == 7].all()


def test_labels_block__nothing_from_nothing():
    assert not _convert(np.zeros((10, 10, 10), np.uint16), FromLabelsParams(**SMALL)).any()


def test_from_labels_params__a_face_needs_to_know_what_is_outward():
    with pytest.raises(ParamsError, match="outward"):
        FromLabelsParams.from_mapping({"face": "recto"})
    FromLabelsParams.from_mapping({"face": "recto", "outward": (1, 0, 0)})
