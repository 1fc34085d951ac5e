"""Record the runs that ship with the suite, so that the page can show the inside of one before anything is drawn.

python -m models.recipes.record_traces
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from webui.clip.concepts import read_concepts
from webui.diffusion.bundled import TRACES_FOLDER
from webui.diffusion.generate import generate
from webui.diffusion.latents import fit_latent_rgb
from webui.diffusion.recorder import Recorder
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import save_trace
from webui.settings import load_settings
from webui.studio import open_studio

STEPS = 12
RUNS = (
    ("cat-blue", "a cat on a blue background", 7),
    ("cat-and-car", "a cat and a car", 5),
    ("cat-blue-thai", "แมว พื้นหลังสีน้ำเงิน", 7),
)


def main() -> None:
    """Draw and record each run; the files' names are what the page lists."""
    with closing(open_studio(load_settings())) as studio:
        entry = studio.catalog.find("emoji", "txt2img")
        folder = Path(entry.source).parent / TRACES_FOLDER
        folder.mkdir(exist_ok=True)
        lexicon = [name for concept in read_concepts(Path(entry.source)) for name in concept.names["th"]]
        with studio.manager.use(entry.key()) as pipe:
            latent_rgb = fit_latent_rgb(pipe)
            for name, prompt, seed in RUNS:
                recorder = Recorder(all_heads=True, model_title=entry.title, latent_rgb=latent_rgb, lexicon=lexicon)
                request = GenerateRequest(prompt, seed=seed, steps=STEPS, guidance_scale=entry.guidance_scale)
                generate(pipe, request, recorder=recorder)
                save_trace(recorder.traces[0], folder / f"{name}.safetensors")


if __name__ == "__main__":
    main()
