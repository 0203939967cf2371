"""Renders product pictures with captions for training: scenes at random, pictures by scene, damages, brand worlds."""

from pictures.brand import BrandWorld, sample_scene_in_world, sample_world
from pictures.captions import caption, full_caption
from pictures.damage import CLEAN, DAMAGES, clean_words, damage, damage_words
from pictures.render import render, render_batch, render_stream
from pictures.scene import Scene, Split, is_held_out, make_scene, sample_scene
from pictures.styles import STYLE_WORDS, Grade
from pictures.vocabulary import ACCENTS, COLOUR_RGB, COLOURS, MATERIALS, PRODUCTS, SETTINGS, STYLES

__all__ = [
    "ACCENTS",
    "CLEAN",
    "COLOURS",
    "COLOUR_RGB",
    "DAMAGES",
    "MATERIALS",
    "PRODUCTS",
    "SETTINGS",
    "STYLES",
    "STYLE_WORDS",
    "BrandWorld",
    "Grade",
    "Scene",
    "Split",
    "caption",
    "clean_words",
    "damage",
    "damage_words",
    "full_caption",
    "is_held_out",
    "make_scene",
    "render",
    "render_batch",
    "render_stream",
    "sample_scene",
    "sample_scene_in_world",
    "sample_world",
]
