"""The renderer of training pictures: deterministic, alike at every size, split fairly, truthfully captioned."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))
import pictures as art  # the scripts of training/ import it under this name too


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def halved(picture: np.ndarray) -> np.ndarray:
    size = picture.shape[0] // 2
    return picture.reshape(size, 2, size, 2, 3).astype(np.float32).mean(axis=(1, 3))


def test_vocabulary_is_as_promised() -> None:
    assert len(art.PRODUCTS) >= 16
    assert len(art.COLOURS) == 12
    assert len(art.MATERIALS) == 5
    assert len(art.SETTINGS) == 8
    assert len(art.STYLES) == 8
    assert set(art.STYLE_WORDS) == set(art.STYLES)
    assert all(words[0] == style for style, words in art.STYLE_WORDS.items())


@pytest.mark.parametrize("product", art.PRODUCTS)
def test_every_product_renders_and_shows(product: str) -> None:
    scene = art.make_scene(rng(3), product, "red", "studio", None, art.MATERIALS[len(product) % 5])
    picture = art.render(scene, 64)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    values = picture.astype(int)
    assert ((values[..., 0] - values[..., 1:].max(-1)) > 40).mean() > 0.01, "the object's red is to be seen"


def test_a_scene_is_one_picture_at_every_size() -> None:
    for seed in range(12):
        scene = art.sample_scene(rng(seed))
        assert np.array_equal(art.render(scene, 64), art.render(scene, 64))
        small, large = art.render(scene, 64).astype(np.float32), halved(art.render(scene, 128))
        assert np.abs(small - large).mean() < 4, scene


def test_sampling_repeats_by_seed() -> None:
    assert art.sample_scene(rng(5)) == art.sample_scene(rng(5))
    assert art.sample_scene(rng(5)) != art.sample_scene(rng(6))


def test_held_out_combinations_stay_out_of_training() -> None:
    combinations = [(p, c, s) for p in art.PRODUCTS for c in art.COLOURS for s in art.SETTINGS]
    kept = [c for c in combinations if art.is_held_out(*c)]
    assert 0.06 < len(kept) / len(combinations) < 0.10
    assert not art.is_held_out("handbag", "gold", "marble")
    # Every value is seen in training, only not in every combination.
    for index, names in enumerate((art.PRODUCTS, art.COLOURS, art.SETTINGS)):
        assert {c[index] for c in combinations if not art.is_held_out(*c)} == set(names)
    generator = rng(1)
    for split in ("train", "heldout"):
        for _ in range(100):
            scene = art.sample_scene(generator, split)  # type: ignore[arg-type]
            assert art.is_held_out(scene.product, scene.colour, scene.setting) == (split == "heldout")


def test_full_caption_names_everything() -> None:
    scene = art.make_scene(rng(0), "handbag", "gold", "marble", "luxury", "leather", "gold")
    assert art.full_caption(scene) == "luxury gold leather handbag with gold hardware on marble"


def test_captions_vary_and_end_cleanly() -> None:
    generator = rng(2)
    scenes = [art.sample_scene(generator) for _ in range(400)]
    captions = [art.caption(scene, generator) for scene in scenes]
    assert len(set(captions)) > 380
    assert all(c == c.strip() and "  " not in c and "{" not in c and ",," not in c for c in captions)
    lowered = [(s, c.lower()) for s, c in zip(scenes, captions, strict=True)]
    assert sum(s.product in c for s, c in lowered) > 200, "the plain name is the commonest"
    assert not any(
        other in c.split() for s, c in lowered for other in art.STYLES if other not in (s.style, "professional")
    )


@pytest.mark.parametrize("kind", art.DAMAGES)
def test_damage_grows_with_severity(kind: str) -> None:
    picture = art.render(art.make_scene(rng(4), "watch", "blue", "wood"), 64)
    assert np.array_equal(art.damage(picture, kind, 0.0, rng()), picture)
    changes = []
    for severity in (0.2, 0.6, 1.0):
        spoilt = art.damage(picture, kind, severity, rng(9))
        assert spoilt.shape == picture.shape
        assert spoilt.dtype == np.uint8
        assert np.array_equal(spoilt, art.damage(picture, kind, severity, rng(9)))
        changes.append(np.abs(spoilt.astype(float) - picture).mean())
    assert 1 < changes[0] < changes[2]
    assert art.damage_words(kind, 0.9, rng()).strip()


def test_unknown_damage_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown damage"):
        art.damage(np.zeros((8, 8, 3), np.uint8), "scratches", 0.5, rng())
    assert art.clean_words(rng())


def test_a_brand_world_keeps_its_habits() -> None:
    world = art.sample_world(rng(7))
    generator = rng(8)
    scenes = [art.sample_scene_in_world(world, generator) for _ in range(30)]
    assert len({s.product for s in scenes}) > 5
    assert {s.colour for s in scenes} <= set(world.colours)
    assert {s.setting for s in scenes} <= set(world.settings)
    assert {s.grade for s in scenes} == {world.look.grade}
    assert art.render(scenes[0], 64).shape == (64, 64, 3)
    assert art.sample_scene_in_world(world, generator, "chair").product == "chair"


def test_batches_equal_single_pictures() -> None:
    scenes = [art.sample_scene(rng(seed)) for seed in range(6)]
    batch = art.render_batch(scenes, 64, workers=1)
    assert batch.shape == (6, 64, 64, 3)
    assert all(np.array_equal(batch[i], art.render(scene, 64)) for i, scene in enumerate(scenes))
