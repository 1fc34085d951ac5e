"""Trains the T5 of the emoji suite from scratch: Thai to English, shortening and expanding of prompts.

    python -m models.recipes.train_t5 --minutes 40 --work-dir models/recipes/work

A `T5ForConditionalGeneration` (Raffel et al. 2020, https://arxiv.org/abs/1910.10683) with relative position biases,
task prefixes and sentinels. What the tasks ask for is in `prompts.py`.
"""

from models.recipes.concepts import load_concepts
from models.recipes.prompts import PromptWriter, prompt_corpus
from models.recipes.seq2seq import Rewriter, Seq2SeqTask, TextTraining
from models.recipes.shapes import build_t5
from models.recipes.text_tokenizer import train_t5_tokenizer
from models.recipes.training import Progress, Run, run_arguments, run_from, run_task


def rewriter() -> Rewriter:
    """T5 with its tokenizer and its texts."""
    concepts = load_concepts()
    return Rewriter(
        name="t5",
        tokenizer=train_t5_tokenizer(prompt_corpus(concepts)),
        build=build_t5,
        texts=lambda rng, held_out: PromptWriter(concepts, rng, held_out).any,
    )


def train(config: TextTraining, run: Run) -> Progress:
    """Train, or go on training, until the time budget is used."""
    return run_task(lambda accelerator: Seq2SeqTask(rewriter(), config, run, accelerator), run, config.rate)


if __name__ == "__main__":
    train(TextTraining(), run_from(run_arguments(__doc__, minutes=40).parse_args()))
