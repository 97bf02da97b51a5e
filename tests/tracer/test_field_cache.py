"""The disk cache of distance fields: invisible but for the time it saves."""

import json
import os

import numpy as np
import pytest
from field_volume import FieldVolume

from tracer import field_cache
from tracer.distance_field import DistanceField
from tracer.errors import CacheError, OutputError, ParamsError, TracerWarning
from tracer.field_cache import FieldCache

BLOCK = (3, 20, 20)
KEY = {"volume_identity": "a", "threshold": 170}


def mask(seed=0, shape=BLOCK):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def values():
    out = np.zeros((20, 20, 400), np.uint8)
    out[5:9] = 255
    out[:, :, 240:] = 0
    return out


def files(root):
    return sorted(root.glob("field-*/*/*.mask"))


def loaded(volume, **options):
    field = DistanceField(volume, **options)
    field.ensure(volume.chunk_indices())
    return field


def codes(field):
    view = field.view()
    return [view.pool[slot].tobytes() if slot >= 0 else slot for slot in view.table.ravel()]


def test_load__returns_what_was_stored_and_nothing_else(tmp_path):
    cache = FieldCache(tmp_path, KEY, BLOCK)
    cache.store((1, 2, 3), mask())
    cache.store((1, 2, 4), None)
    again = FieldCache(tmp_path, KEY, BLOCK)
    found, packed = again.load((1, 2, 3))
    assert found
    np.testing.assert_array_equal(packed, mask())
    assert packed.flags.writeable
    assert again.load((1, 2, 4)) == (True, None)
    assert again.load((3, 2, 1)) == (False, None)
    assert FieldCache(tmp_path, {**KEY, "threshold": 171}, BLOCK).load((1, 2, 3)) == (False, None)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def _shorten_to_a_piece_of_the_header(path):
    path.write_bytes(path.read_bytes()[:11])


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def _append(path):
    path.write_bytes(path.read_bytes() + b"x")


def _empty(path):
    path.write_bytes(b"")


def _zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def _replace_by_a_neighbour(path):
    path.write_bytes(path.with_name("2_4.mask").read_bytes())


def _remove(path):
    path.unlink()


DAMAGES = [
    _truncate,
    _shorten_to_a_piece_of_the_header,
    _flip_a_bit,
    _append,
    _empty,
    _zero,
    _replace_by_a_neighbour,
    _remove,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_load__refuses_a_damaged_or_foreign_file(tmp_path, damage):
    cache = FieldCache(tmp_path, KEY, BLOCK)
    cache.store((1, 2, 3), mask())
    cache.store((1, 2, 4), mask(1))
    damage(cache.path((1, 2, 3)))
    assert cache.load((1, 2, 3)) == (False, None)
    assert cache.load((1, 2, 4))[0]


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit, _empty])
def test_field__replaces_a_damaged_file(tmp_path, damage):
    volume = FieldVolume(values())
    first = loaded(volume, cache_root=tmp_path)
    sound = [path.read_bytes() for path in files(tmp_path)]
    damage(files(tmp_path)[0])
    second = loaded(volume, cache_root=tmp_path)
    assert codes(second) == codes(first)
    assert (second.stats.chunks_computed, second.stats.chunks_cached) == (1, 3)
    assert [path.read_bytes() for path in files(tmp_path)] == sound


def test_field__with_a_cache_equals_one_without(tmp_path):
    volume = FieldVolume(values())
    plain = loaded(volume)
    cold, warm = (loaded(volume, cache_root=tmp_path) for _ in range(2))
    assert codes(plain) == codes(cold) == codes(warm)
    assert (cold.stats.chunks_computed, cold.stats.chunks_cached) == (4, 0)
    assert (warm.stats.chunks_computed, warm.stats.chunks_cached) == (0, 4)
    assert plain.stats.chunks_far == warm.stats.chunks_far == 2


def test_field__from_a_full_cache_does_not_read_the_volume(tmp_path):
    loaded(FieldVolume(values()), cache_root=tmp_path)
    volume = FieldVolume(values())
    loaded(volume, cache_root=tmp_path)
    assert volume.reads == []


def test_field__shares_masks_between_caps_of_one_border(tmp_path):
    volume = FieldVolume(values())
    loaded(volume, cache_root=tmp_path, cap=8)
    assert loaded(volume, cache_root=tmp_path, cap=5).stats.chunks_computed == 0
    wide = loaded(volume, cache_root=tmp_path, cap=20)
    assert wide.stats.chunks_computed == 4
    assert codes(wide) == codes(loaded(volume, cap=20))
    assert len(list(tmp_path.glob("field-*"))) == 2


def test_field__keeps_other_volumes_and_thresholds_apart(tmp_path):
    other = values()
    other[12] = 180
    for array, threshold in ((values(), 170), (other, 170), (other, 181)):
        volume = FieldVolume(array)
        assert loaded(volume, threshold=threshold, cache_root=tmp_path).stats.chunks_cached == 0
    assert len(list(tmp_path.glob("field-*"))) == 3


def test_field_json__says_what_the_folder_is(tmp_path):
    volume = FieldVolume(values())
    DistanceField(volume, 99, 12, tmp_path)
    (path,) = tmp_path.glob("field-*/field.json")
    assert json.loads(path.read_text()) == {
        "what": "masks of a distance field",
        "volume": "array",
        "volume_identity": volume.identity,
        "threshold": 99,
        "border": 16,
        "chunk": 128,
        "format_version": 1,
    }


def test_cache__that_cannot_be_written_is_refused_before_work(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    volume = FieldVolume(values())
    with pytest.raises(CacheError, match=r"file: cannot be used as a cache .*give another"):
        DistanceField(volume, cache_root=blocked)
    assert volume.reads == []


def test_store__warns_once_and_goes_on_when_the_disk_is_full(tmp_path, monkeypatch):
    def full(path, content):
        raise OutputError(f"{path}: cannot write (No space left on device)")

    monkeypatch.setattr(field_cache, "write_bytes", full)
    volume = FieldVolume(values())
    with pytest.warns(TracerWarning, match="cannot be written any more") as caught:
        field = loaded(volume, cache_root=tmp_path)
    assert len(caught) == 1
    assert codes(field) == codes(loaded(volume))


def test_store__sweeps_what_killed_processes_left(tmp_path):
    cache = FieldCache(tmp_path, KEY, BLOCK)
    cache.store((1, 2, 3), mask())
    old, young = (cache.path((1, 2, 3)).with_name(f".3_3.mask.{n}.tmp") for n in (1, 2))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    FieldCache(tmp_path, KEY, BLOCK).store((1, 2, 3), mask())
    assert young.exists()
    assert not old.exists()


def _size(root):
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files(root))


def test_store__keeps_the_limit_over_all_fields(tmp_path):
    (tmp_path / "mine.mask").write_bytes(b"not a cache file")
    limit = 200_000
    caches = [
        FieldCache(tmp_path, {**KEY, "threshold": t}, BLOCK, limit_bytes=limit) for t in (1, 2)
    ]
    for i in range(60):
        caches[i % 2].store((0, 0, i), mask(i))
        assert _size(tmp_path) <= limit
    assert _size(tmp_path) >= limit * 0.7
    assert caches[1].load((0, 0, 59))[0]
    assert not caches[0].load((0, 0, 0))[0]
    assert (tmp_path / "mine.mask").exists()


def test_store__counts_what_other_processes_wrote(tmp_path):
    limit = 200_000
    for i in range(60):  # a new cache each time, as many short processes do
        FieldCache(tmp_path, KEY, BLOCK, limit_bytes=limit).store((0, 0, i), mask(i))
        assert _size(tmp_path) <= limit


def test_store__removes_what_was_not_used_for_longest(tmp_path):
    cache = FieldCache(tmp_path, KEY, BLOCK, limit_bytes=40_000)
    for i in range(9):
        cache.store((0, 0, i), mask(i))
        os.utime(cache.path((0, 0, i)), (1e9 + i, 1e9 + i))
    assert cache.load((0, 0, 0))[0]  # a use that counts
    cache.store((0, 0, 9), mask(9))
    assert [i for i in range(10) if cache.load((0, 0, i))[0]] == [0, 4, 5, 6, 7, 8, 9]


def test_store__with_a_limit_below_one_chunk_keeps_none(tmp_path):
    volume = FieldVolume(values())
    field = loaded(volume, cache_root=tmp_path, cache_limit_gb=1e-6)
    assert files(tmp_path) == []
    assert codes(field) == codes(loaded(volume))


def test_limit__must_be_positive(tmp_path):
    with pytest.raises(ParamsError, match="cache_limit_gb = -1: must be positive"):
        DistanceField(FieldVolume(values()), cache_root=tmp_path, cache_limit_gb=-1)
