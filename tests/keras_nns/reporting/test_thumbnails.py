"""Small pictures show the very pixels they were made of, and stay small."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_nns.reporting.thumbnails import are_pictures, tiles, weights_png


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def cut_out(sheet, found, place):
    width, height = found.size
    row, column = divmod(place, found.columns)
    return sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 8, 6, 1), True),
        ((2, 8, 6, 3), True),
        ((2, 28, 28), True),
        ((2, 128, 9), False),
        ((2, 8, 8, 7), False),
        ((2, 2, 8, 3), False),
        ((2, 64), False),
    ],
)
def test_what_is_an_image(shape, expected):
    assert are_pictures(np.zeros(shape, dtype="float32")) is expected


@pytest.mark.parametrize("channels", [1, 3])
def test_a_tile_is_its_sample_pixel_by_pixel(channels):
    x = np.random.default_rng(0).integers(0, 256, size=(9, 5, 7, channels)).astype("float32")
    x[0] = 255  # What is in 0..255 keeps its brightness.
    exciting = {"a": np.array([[4, 2], [2, -1]]), "b": np.array([[8, 4]])}
    found = tiles(x, np.arange(9) * 10, exciting)
    assert found.size == (7, 5) and sorted(found.labels) == [20, 40, 80]
    sheet = opened(found.png)
    for layer, rows in exciting.items():
        for shown, row in zip(found.units[layer], rows, strict=True):
            wanted = [n for n in row if n >= 0]
            assert [found.labels[tile] for tile in shown] == [10 * n for n in wanted]
            for tile, n in zip(shown, wanted, strict=True):
                np.testing.assert_array_equal(cut_out(sheet, found, tile), np.squeeze(x[n]))


def test_large_images_are_made_small_and_many_are_thinned_out():
    x = np.random.default_rng(0).uniform(size=(60, 64, 32, 3))
    exciting = {"a": np.arange(60).reshape(10, 6)}
    whole = tiles(x, np.zeros(60, int), exciting)
    assert whole.size == (16, 32) and len(whole.labels) == 60
    fewer = tiles(x, np.zeros(60, int), exciting, most_bytes=len(whole.png) // 2)
    assert len(fewer.png) <= len(whole.png) // 2
    kept = len(fewer.units["a"][0])
    assert 0 < kept < 6 and len(fewer.labels) == 10 * kept
    assert tiles(x, np.zeros(60, int), exciting, most_bytes=100) is None
    assert tiles(x, np.zeros(60, int), {"a": np.full((2, 3), -1)}) is None


def test_weights_are_as_opaque_as_they_are_large():
    image = opened(weights_png(np.array([[0.5, -1.0], [np.nan, 3.0]]), limit=1.0))
    assert image.shape == (2, 2, 4)
    assert image[..., 3].tolist() == [[128, 255], [0, 255]]
    warm, cool = image[0, 0, :3], image[0, 1, :3]
    assert warm[0] > warm[2] and cool[2] > cool[0]
    assert image[1, 1, :3].tolist() == warm.tolist()
