"""Colours: CIEDE2000 against its published pairs, Lab and swatches."""

import numpy as np
import pytest
from PIL import Image

from atelier_server.brand.palette import (
    Swatch,
    brand_swatches,
    ciede2000,
    hex_colour,
    palette_distance,
    picture_swatches,
    to_lab,
)

# Sharma, Wu, Dalal: The CIEDE2000 Color-Difference Formula, Color Research and Application 30 (2005), table 1.
SHARMA = """
50.0000 2.6772 -79.7751 50.0000 0.0000 -82.7485 2.0425
50.0000 3.1571 -77.2803 50.0000 0.0000 -82.7485 2.8615
50.0000 2.8361 -74.0200 50.0000 0.0000 -82.7485 3.4412
50.0000 -1.3802 -84.2814 50.0000 0.0000 -82.7485 1.0000
50.0000 -1.1848 -84.8006 50.0000 0.0000 -82.7485 1.0000
50.0000 -0.9009 -85.5211 50.0000 0.0000 -82.7485 1.0000
50.0000 0.0000 0.0000 50.0000 -1.0000 2.0000 2.3669
50.0000 -1.0000 2.0000 50.0000 0.0000 0.0000 2.3669
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0009 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0010 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0011 7.2195
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0012 7.2195
50.0000 -0.0010 2.4900 50.0000 0.0009 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0010 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0011 -2.4900 4.7461
50.0000 2.5000 0.0000 50.0000 0.0000 -2.5000 4.3065
50.0000 2.5000 0.0000 73.0000 25.0000 -18.0000 27.1492
50.0000 2.5000 0.0000 61.0000 -5.0000 29.0000 22.8977
50.0000 2.5000 0.0000 56.0000 -27.0000 -3.0000 31.9030
50.0000 2.5000 0.0000 58.0000 24.0000 15.0000 19.4535
50.0000 2.5000 0.0000 50.0000 3.1736 0.5854 1.0000
50.0000 2.5000 0.0000 50.0000 3.2972 0.0000 1.0000
50.0000 2.5000 0.0000 50.0000 1.8634 0.5757 1.0000
50.0000 2.5000 0.0000 50.0000 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""
PAIRS = np.array([[float(word) for word in line.split()] for line in SHARMA.strip().splitlines()])


@pytest.mark.parametrize("row", range(len(PAIRS)))
def test_ciede2000_is_the_published_one(row: int) -> None:
    first, second, expected = PAIRS[row, :3], PAIRS[row, 3:6], PAIRS[row, 6]
    assert float(ciede2000(first, second)) == pytest.approx(expected, abs=1e-4)
    assert float(ciede2000(second, first)) == pytest.approx(expected, abs=1e-4)


def test_ciede2000_broadcasts() -> None:
    table = ciede2000(PAIRS[:, None, :3], PAIRS[None, :, 3:6])
    assert table.shape == (34, 34)
    assert np.allclose(np.diag(table), PAIRS[:, 6], atol=1e-4)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    assert np.allclose(to_lab(np.array(rgb, np.float64)), lab, atol=0.02)


@pytest.mark.parametrize("colour", ["#ff0000", "#1e90ff", "#000000", "#ffffff", "#7f7f7f"])
def test_a_flat_picture_is_one_swatch_of_its_colour(colour: str) -> None:
    swatches = picture_swatches(Image.new("RGB", (300, 100), colour))
    assert [(hex_colour(swatch), swatch.share) for swatch in swatches] == [(colour, 1.0)]


def test_swatches_tell_the_shares_commonest_first_and_always_the_same() -> None:
    picture = Image.new("RGB", (48, 48), "#ff0000")
    picture.paste("#0000ff", (0, 0, 12, 48))
    swatches = picture_swatches(picture)
    assert [hex_colour(swatch) for swatch in swatches] == ["#ff0000", "#0000ff"]
    assert [swatch.share for swatch in swatches] == [0.75, 0.25]
    assert picture_swatches(picture) == swatches


def test_the_distance_is_weighted_by_shares() -> None:
    red, blue = Swatch(53.24, 80.09, 67.2, 0.75), Swatch(32.3, 79.19, -107.86, 0.25)
    apart = float(ciede2000(np.array([53.24, 80.09, 67.2]), np.array([32.3, 79.19, -107.86])))
    assert palette_distance((red, blue), (red,)) == pytest.approx(0.25 * apart)
    assert palette_distance((red, blue), (blue, red)) == 0.0


def test_a_brands_swatches_count_each_picture_once() -> None:
    red, blue = (
        picture_swatches(Image.new("RGB", (9, 9), "#ff0000")),
        picture_swatches(Image.new("RGB", (9, 9), "blue")),
    )
    assert [hex_colour(swatch) for swatch in brand_swatches([red, red, blue])] == ["#ff0000", "#0000ff"]
    assert brand_swatches([]) == ()
