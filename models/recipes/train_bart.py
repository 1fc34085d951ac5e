"""Trains the BART of the emoji suite from scratch: from noisy captions to clean ones, in English and Thai.

    python -m models.recipes.train_bart --minutes 40 --work-dir models/recipes/work

A `BartForConditionalGeneration` (Lewis et al. 2020, https://arxiv.org/abs/1910.13461). What the noise is, is in
`denoising.py`.
"""

from models.recipes.concepts import load_concepts
from models.recipes.denoising import Noise
from models.recipes.prompts import prompt_corpus
from models.recipes.seq2seq import Rewriter, Seq2SeqTask, TextTraining
from models.recipes.shapes import build_bart
from models.recipes.text_tokenizer import train_bart_tokenizer
from models.recipes.training import Progress, Run, run_arguments, run_from, run_task


def rewriter() -> Rewriter:
    """BART with its tokenizer and its texts."""
    concepts = load_concepts()
    return Rewriter(
        name="bart",
        tokenizer=train_bart_tokenizer(prompt_corpus(concepts)),
        build=build_bart,
        texts=lambda rng, held_out: Noise(concepts, rng, held_out).any,
    )


def train(config: TextTraining, run: Run) -> Progress:
    """Train, or go on training, until the time budget is used."""
    return run_task(lambda accelerator: Seq2SeqTask(rewriter(), config, run, accelerator), run, config.rate)


if __name__ == "__main__":
    train(TextTraining(), run_from(run_arguments(__doc__, minutes=40).parse_args()))
