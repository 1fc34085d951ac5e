from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from models.recipes.checkpoints import load_checkpoint
from models.recipes.optimizers import Muon, MuonAdamW
from models.recipes.shapes import VaeShape, build_vae
from models.recipes.train_unet import curriculum
from models.recipes.train_vae import normalise_latents, reconstruct
from models.recipes.training import LearningRate, MovingAverage, Progress, Run, fit


class CountingTask:
    """Learns y = 2x; remembers what it was given."""

    name = "counting"
    batch_size = 1

    def __init__(self, phase: str = "one") -> None:
        torch.manual_seed(0)
        self.phase = phase
        self.model = nn.Linear(1, 1)
        self.optimizer = MuonAdamW(self.model, 0.01)
        self.same_phase: bool | None = None

    def step(self, progress: float) -> dict[str, float]:
        x = torch.tensor([[1.0]])
        loss = (self.model(x) - 2 * x).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": loss.item()}

    def probe(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any], same_phase: bool) -> None:
        self.same_phase = same_phase
        self.model.load_state_dict(state["model"])
        if same_phase:
            self.optimizer.load_state_dict(state["optimizer"])


def run(folder: Path, steps: int) -> Run:
    return Run(work_dir=folder, minutes=5, max_steps=steps)


def test_a_resumed_training_equals_an_unbroken_one(tmp_path: Path) -> None:
    rate = LearningRate(0.01, warmup=4, floor=1)
    whole, first, second = CountingTask(), CountingTask(), CountingTask()
    fit(whole, run(tmp_path / "whole", 6), rate, Accelerator())
    fit(first, run(tmp_path / "broken", 3), rate, Accelerator())
    progress = fit(second, run(tmp_path / "broken", 3), rate, Accelerator())
    assert progress.step == 6
    assert second.same_phase is True
    assert torch.allclose(whole.model.weight, second.model.weight, atol=1e-6)


def test_a_new_phase_counts_anew_and_remembers_the_old_one(tmp_path: Path) -> None:
    fit(CountingTask("one"), run(tmp_path, 3), LearningRate(0.01), Accelerator())
    task = CountingTask("two")
    progress = fit(task, run(tmp_path, 2), LearningRate(0.01), Accelerator())
    assert task.same_phase is False
    assert (progress.step, progress.total_steps) == (2, 5)


def test_the_time_budget_ends_training(tmp_path: Path) -> None:
    progress = fit(CountingTask(), Run(work_dir=tmp_path, minutes=0.005), LearningRate(0.01), Accelerator())
    assert progress.seconds >= 0.3
    assert load_checkpoint(tmp_path / "counting.pt")["progress"]["step"] == progress.step


def test_the_learning_rate_warms_up_and_falls() -> None:
    rate = LearningRate(1.0, warmup=10, floor=0.1)
    assert rate.at(0, 0) == pytest.approx(0.1)
    assert rate.at(10, 0) == pytest.approx(1)
    assert rate.at(10, 1) == pytest.approx(0.1)


def test_progress_starts_at_nothing() -> None:
    assert Progress.after(None, "one") == Progress("one")


def test_muon_steps_convolutions_in_place_and_leaves_edges_to_adamw() -> None:
    model = nn.Sequential()
    model.add_module("conv_in", nn.Conv2d(3, 4, 3))
    model.add_module("middle", nn.Conv2d(4, 4, 3))
    optimizer = MuonAdamW(model, 0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model(torch.randn(1, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert len(optimizer.state_dict()["muon"]["state"]) == 1


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (4, 3, 3, 3)])
def test_muon_makes_the_steps_of_torchs_muon(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    muon = Muon([ours], lr=0.01, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = ours.grad.flatten(1).clone()
        muon.step()
        reference.step()
    assert torch.allclose(ours.flatten(1), theirs, atol=1e-3)  # theirs orthogonalises in bfloat16
    assert (ours - start).abs().max() > 0.01


def test_a_moving_average_is_swapped_in_and_out() -> None:
    model = nn.Linear(2, 2)
    average = MovingAverage(model)
    own = model.weight.detach().clone() + 1
    with torch.no_grad():
        model.weight.copy_(own)
    with average.swapped_into(model):
        assert not torch.equal(model.weight, own)
    assert torch.equal(model.weight, own)


def test_the_curriculum_ends_with_more_pairs_than_it_began() -> None:
    assert curriculum(1)[2] > curriculum(0)[2]
    assert sum(curriculum(0.5)) == pytest.approx(1)


def test_normalising_latents_does_not_change_what_is_drawn() -> None:
    torch.manual_seed(0)
    vae = build_vae(VaeShape(channels=(8, 8, 8, 8), groups=4)).eval()
    pixels = torch.rand(4, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = reconstruct(vae, pixels)
        normalise_latents(vae, pixels)
        after = reconstruct(vae, pixels)
        latents = vae.encode(pixels).latent_dist.mean
    assert torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3)
