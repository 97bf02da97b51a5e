"""From layers to chunks and back: cutting, contrast, stitching, run lengths."""

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tracer.errors import FormatError, OutputError, ParamsError
from tracer.layer_contrast import limited_map
from tracer.layer_stack import LayerStack, read_picture, write_picture
from tracer.layers import SplitParams, chunk_starts, contrast_layers, split_layers
from tracer.run_lengths import decode_runs, encode_runs
from tracer.stitch import StitchParams, gaussian_weights, stitch_predictions, to_grey


def write_stack(folder, layers, *, name="%02d.tif", **options):
    folder.mkdir(parents=True)
    for i, layer in enumerate(layers):
        path = folder / (name % i)
        if path.suffix == ".tif":
            tifffile.imwrite(path, layer, **options)
        else:
            Image.fromarray(layer).save(path)
    return folder


@pytest.fixture
def layers():
    """Return five layers of 40 x 100 pixels with an empty margin."""
    values = np.random.default_rng(0).integers(60, 140, (5, 40, 100)).astype(np.uint8)
    values[:, :, :7] = 0
    return values


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "lzw"}])
@pytest.mark.parametrize("name", ["%02d.tif", "layer_%d.png"])
def test_layer_stack__reads_windows(tmp_path, layers, options, name):
    stack = LayerStack(write_stack(tmp_path / "s", layers, name=name, **options))
    assert (len(stack), stack.shape, stack.dtype) == (5, (40, 100), np.uint8)
    window = stack.read(3, slice(5, 30), slice(20, 90))
    np.testing.assert_array_equal(window, layers[3, 5:30, 20:90])
    np.testing.assert_array_equal(np.concatenate(list(stack.bands(1, 16))), layers[1])


def test_layer_stack__orders_by_number(tmp_path, layers):
    folder = write_stack(tmp_path / "s", np.repeat(layers, 3, axis=0)[:12], name="%d.tif")
    (folder / "mask.png").write_bytes(b"")
    assert LayerStack(folder).numbers == list(range(12))
    assert LayerStack(folder).select("5:") == list(range(5, 12))
    assert LayerStack(folder).select(":2") == [0, 1]


def test_layer_stack__names_what_is_wrong(tmp_path, layers):
    with pytest.raises(FormatError, match="no such folder"):
        LayerStack(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="no numbered layers"):
        LayerStack(tmp_path / "empty")
    folder = write_stack(tmp_path / "s", layers)
    tifffile.imwrite(folder / "05.tif", layers[0, :9])
    with pytest.raises(FormatError, match=r"05\.tif: \(9, 100\)"):
        LayerStack(folder).read(5, slice(0, 4), slice(0, 4))
    (folder / "06.tif").write_bytes(b"II*\0")
    with pytest.raises(FormatError, match=r"06\.tif"):
        LayerStack(folder).read(6, slice(0, 4), slice(0, 4))
    with pytest.raises(ParamsError, match="selects none"):
        LayerStack(folder).select("30:40")
    with pytest.raises(ParamsError, match="FIRST:END"):
        LayerStack(folder).select("3-5")
    tifffile.imwrite(folder / "5.tif", layers[0])
    with pytest.raises(FormatError, match="several layers are called 5"):
        LayerStack(folder)
    rgb = write_stack(tmp_path / "rgb", np.zeros((1, 5, 5, 3), np.uint8), photometric="rgb")
    with pytest.raises(FormatError, match="one channel"):
        LayerStack(rgb)


@given(st.integers(1, 300), st.integers(1, 50), st.integers(0, 49))
def test_chunk_starts__cover_the_picture(cols, width, overlap):
    overlap = min(overlap, width - 1)
    starts = chunk_starts(cols, width, overlap)
    assert starts[0] == 0
    assert set(np.diff(starts)) <= {width - overlap}
    assert starts[-1] < cols
    assert starts[-1] + width >= cols
    assert len(starts) == 1 or starts[-2] + width < cols


def test_split_layers__chunks_overlap_and_keep_their_numbers(tmp_path, layers):
    folder = write_stack(tmp_path / "trace", layers)
    mask = np.where(layers.max(axis=0) > 0, 255, 0).astype(np.uint8)
    Image.fromarray(mask).save(folder / "mask.png")
    params = SplitParams(width=40, overlap=10, layers_range="1:4")
    result = split_layers(folder, tmp_path / "out", params)
    assert [f.name for f in result.folders] == ["trace_00", "trace_30", "trace_60"]
    for target, start in zip(result.folders, (0, 30, 60), strict=True):
        names = sorted(file.name for file in target.iterdir())
        assert names == ["01.tif", "02.tif", "03.tif", "mask.png"]
        for layer in (1, 2, 3):
            pixels = tifffile.imread(target / f"{layer:02d}.tif")
            np.testing.assert_array_equal(pixels, layers[layer, :, start : start + 40])
        np.testing.assert_array_equal(
            read_picture(target / "mask.png"), mask[:, start : start + 40]
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_contrast_layers__percentiles_of_the_whole_stack(tmp_path, layers, dtype):
    layers = layers.astype(dtype) * (257 if dtype == np.uint16 else 1)
    layers[0] //= 2  # a darker layer must stay darker
    layers[:, 3, 50] = layers[:, 3, 50] * 0 + 1
    folder = write_stack(tmp_path / "s", layers)
    contrast_layers(folder, tmp_path / "out", SplitParams(contrast="percentile"))
    out = np.stack([tifffile.imread(tmp_path / f"out/{i:02d}.tif") for i in range(5)])
    white = np.iinfo(dtype).max
    low, high = np.percentile(layers[layers > 0], [1, 99], method="inverted_cdf")
    expected = np.floor(
        np.clip((layers.astype(float) - low) / (high - low) * white, 0, white) + 0.5
    )
    expected = np.where(layers > 0, np.maximum(expected, 1), 0)
    np.testing.assert_array_equal(out, expected)
    assert ((out == 0) == (layers == 0)).all()


def test_contrast_layers__clahe_is_the_same_for_layers_and_chunks(tmp_path, layers):
    layers[:] = np.sort(layers.reshape(5, -1), axis=1).reshape(layers.shape)
    layers[3] = layers[2]
    layers[:, :, :7] = 0
    folder = write_stack(tmp_path / "s", layers)
    params = SplitParams(contrast="clahe", clahe_tile=20, width=40, overlap=10)
    contrast_layers(folder, tmp_path / "whole", params)
    split = split_layers(folder, tmp_path / "out", params)
    whole = np.stack([tifffile.imread(tmp_path / f"whole/{i:02d}.tif") for i in range(5)])
    np.testing.assert_array_equal(whole[2], whole[3])
    assert (whole != layers).any()
    assert ((whole == 0) == (layers == 0)).all()
    for target, start in zip(split.folders, (0, 30, 60), strict=True):
        pixels = tifffile.imread(target / "04.tif")
        np.testing.assert_array_equal(pixels, whole[4, :, start : start + 40])


def test_contrast_layers__without_anything_to_count(tmp_path):
    empty = np.zeros((2, 20, 20), np.uint8)
    folder = write_stack(tmp_path / "s", empty)
    contrast_layers(folder, tmp_path / "out", SplitParams(contrast="clahe", suffix="png"))
    assert not read_picture(tmp_path / "out/01.png").any()


@given(hnp.arrays(np.float64, 16, elements=st.integers(0, 1000)), st.floats(1, 8))
def test_limited_map__ascends_no_steeper_than_the_limit(counts, limit):
    table = limited_map(counts, limit)
    assert table[0] == 0
    assert table[-1] == pytest.approx(1)
    assert (np.diff(table) >= 0).all()
    # What is cut off is spread evenly: at most one mean more.
    assert np.diff(table).max() <= (limit + 1) / 16 + 1e-9


def test_limited_map__limit_one_is_no_contrast():
    np.testing.assert_allclose(limited_map(np.full(8, 3.0), 1.0), np.arange(9) / 8)


@pytest.mark.parametrize("suffix", ["npy", "png", "tif"])
def test_stitch_predictions__undoes_a_split(tmp_path, suffix):
    picture = np.random.default_rng(3).integers(0, 256, (30, 100)).astype(np.uint8)
    files = []
    for start in chunk_starts(100, 40, 15):
        chunk = picture[:, start : start + 40]
        files.append(tmp_path / f"trace_{start:02d}.{suffix}")
        write_picture(files[-1], (chunk / 255).astype(np.float32) if suffix == "npy" else chunk)
    out = stitch_predictions(files[::-1])
    np.testing.assert_allclose(out, picture / 255, atol=1e-6)
    np.testing.assert_array_equal(to_grey(out), picture)


def test_stitch_predictions__seam_is_smooth_and_weights_are_gaussian(tmp_path):
    np.save(tmp_path / "a_0.npy", np.zeros((4, 60)))
    np.save(tmp_path / "a_40.npy", np.ones((4, 60)))
    out = stitch_predictions([tmp_path / "a_0.npy", tmp_path / "a_40.npy"])
    assert out.shape == (4, 100)
    assert (out[:, :40] == 0).all()
    assert (out[:, 60:] == 1).all()
    assert (np.diff(out[0, 40:60]) > 0).all()
    weights = gaussian_weights(60)
    expected = weights[:20] / (weights[:20] + weights[40:])
    np.testing.assert_allclose(out[0, 40:60], expected, rtol=1e-6)
    np.testing.assert_allclose(weights, weights[::-1])


def test_stitch_predictions__places_scales_and_averages(tmp_path):
    for run, value in (("first", 0.2), ("second", 0.6)):
        folder = tmp_path / run / "trace_20"
        folder.mkdir(parents=True)
        np.save(folder / "prediction.npy", np.full((3, 5, 1), value))
    files = sorted(tmp_path.rglob("*.npy"))
    out = stitch_predictions(files, StitchParams(scale=0.25), cols=60)
    assert out.shape == (3, 15)
    np.testing.assert_allclose(out[:, 5:10], 0.4)
    assert not out[:, :5].any()
    assert not out[:, 10:].any()


def test_stitch_predictions__viewing_options(tmp_path):
    values = np.random.default_rng(1).random((6, 8))
    np.save(tmp_path / "p_0.npy", values)
    file = [tmp_path / "p_0.npy"]
    flipped = stitch_predictions(file, StitchParams(flip="horizontal"))
    np.testing.assert_allclose(flipped, values[:, ::-1], rtol=1e-6)
    boosted = stitch_predictions(file, StitchParams(boost=2.9))
    np.testing.assert_allclose(boosted, np.minimum(values * 2.9, 1), rtol=1e-6)
    averaged = stitch_predictions(file, StitchParams(average=3))
    assert averaged[2, 3] == pytest.approx(values[1:4, 2:5].mean())


def test_stitch_predictions__refuses(tmp_path):
    with pytest.raises(ParamsError, match="no predictions"):
        stitch_predictions([])
    np.save(tmp_path / "p.npy", np.zeros((3, 3)))
    (tmp_path / "x").mkdir()
    (tmp_path / "p.npy").rename(tmp_path / "x/p.npy")
    with pytest.raises(ParamsError, match="first column"):
        stitch_predictions([tmp_path / "x/p.npy"])
    np.save(tmp_path / "a_0.npy", np.zeros((3, 3)))
    np.save(tmp_path / "a_3.npy", np.zeros((4, 3)))
    with pytest.raises(FormatError, match="4 rows but the first chunk has 3"):
        stitch_predictions([tmp_path / "a_0.npy", tmp_path / "a_3.npy"])
    np.save(tmp_path / "n_0.npy", np.full((3, 3), np.nan))
    with pytest.raises(FormatError, match="not finite"):
        stitch_predictions([tmp_path / "n_0.npy"])


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 1)))
def test_encode_runs__round_trip(mask):
    runs = encode_runs(mask)
    np.testing.assert_array_equal(decode_runs(runs, mask.shape), mask * 255)


def test_encode_runs__equals_loops_from_one():
    mask = np.random.default_rng(2).integers(0, 2, (7, 9))
    flat = mask.ravel().tolist()
    expected = []
    for i, value in enumerate(flat):
        if value and (i == 0 or not flat[i - 1]):
            expected += [i + 1, 0]
        if value:
            expected[-1] += 1
    assert encode_runs(mask) == " ".join(map(str, expected))
    assert encode_runs(np.zeros((2, 3))) == ""


@pytest.mark.parametrize("text", ["1 2 3", "1 x", "0 1", "5 3", "1 0"])
def test_decode_runs__refuses(text):
    with pytest.raises(FormatError, match="run lengths"):
        decode_runs(text, (2, 3))


def test_write_picture__refuses_what_a_format_cannot_hold(tmp_path):
    with pytest.raises(OutputError, match="8 bits"):
        write_picture(tmp_path / "a.jpg", np.zeros((2, 2), np.uint16))
    with pytest.raises(OutputError, match="unknown format"):
        write_picture(tmp_path / "a.bmp", np.zeros((2, 2), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "values", [{"overlap": 10000}, {"low_percentile": 99, "contrast": "clahe"}]
)
def test_split_params__refuses(values):
    with pytest.raises(ParamsError):
        SplitParams.from_mapping(values)
