"""The smallest networks that have every part, and the shortest training."""

from pathlib import Path

from models.recipes import train_clip, train_unet, train_vae, train_vit
from models.recipes.seq2seq import TextTraining
from models.recipes.shapes import ClipShape, TextShape, UnetShape, VaeShape, VitShape
from models.recipes.training import Run

TINY_CLIP = train_clip.ClipTraining(
    shape=ClipShape(text_width=32, text_layers=1, vision_width=32, vision_layers=1, heads=2, embedding=16)
)
TINY_VAE = train_vae.VaeTraining(shape=VaeShape(channels=(8, 8, 8, 8), groups=4))
TINY_UNET = train_unet.UnetTraining(shape=UnetShape(channels=(16, 16), heads=2, groups=8, text_width=32))

TINY_VIT = train_vit.VitTraining(shape=VitShape(width=32, layers=1, heads=2))
TINY_TEXT = TextTraining(shape=TextShape(width=32, layers=1, heads=2, inner_width=32))


def tiny_run(folder: Path, steps: int) -> Run:
    return Run(work_dir=folder, minutes=10, batch=4, max_steps=steps, threads=1)
