"""Does relevance find what the score rests on? 50 held-out drawings of two things, scored against one of them.

Two claims are counted: the area under the deletion curve is smaller than in random order, and more than half of the
relevance lies on the half where the thing is. Draws with the recipe, so it needs the emoji font.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from models.recipes.concepts import load_concepts
from models.recipes.draw import SpriteSheet, draw, require_font
from models.recipes.scenes import random_scene
from tests.bench._clip import fresh_encoder, load_emoji_clip
from webui.clip.relevance import deletion_curve, explain
from webui.vision.pictures import picture_from_image

DRAWINGS = 50
SEED = 20_240_501


def run() -> dict[str, object]:
    """Shares of the drawings for which each claim holds, English names, left and right object by turns."""
    encoder = fresh_encoder(load_emoji_clip())
    concepts = load_concepts()
    sheet = SpriteSheet(concepts, require_font(None))
    rng = np.random.default_rng(SEED)
    beats, right_half, areas = [], [], []
    for number in range(DRAWINGS):
        scene = random_scene(rng, len(concepts), pair_share=1.0, held_out=True)
        picture = picture_from_image(f"pair-{number}", Image.fromarray(draw(scene, sheet, rng)))
        wanted = scene.objects[number % 2]
        text = concepts[wanted.concept].english_phrase(concepts[wanted.concept].name("en"))
        relevance = explain(encoder, picture, text)
        curve = deletion_curve(encoder, picture, text, relevance.patches, seed=number)
        beats.append(curve.holds)
        right_half.append((relevance.left_share > 0.5) == (wanted.place == "left"))
        areas.append((curve.relevant_area, curve.random_area))
    relevant, at_random = np.mean(areas, axis=0)
    return {
        "drawings": DRAWINGS,
        "beats_random_order": round(float(np.mean(beats)), 3),
        "mass_on_the_right_half": round(float(np.mean(right_half)), 3),
        "mean_area_relevant_first": round(float(relevant), 4),
        "mean_area_random_order": round(float(at_random), 4),
    }
