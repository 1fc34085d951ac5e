from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from webui.diffusion.samplers import SAMPLERS, SHIPPED_SAMPLERS
from webui.errors import UserError


@pytest.fixture(scope="module")
def config(tiny_pipe: StableDiffusionPipeline) -> Any:
    return tiny_pipe.scheduler.config


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_gives_a_fresh_scheduler_with_the_models_betas(name: str, config: Any) -> None:
    first, second = SHIPPED_SAMPLERS.build(name, config), SHIPPED_SAMPLERS.build(name, config)
    assert type(first).__name__ == SAMPLERS[name].scheduler
    assert first is not second
    assert (first.config.beta_start, first.config.beta_end) == (0.00085, 0.012)
    for key, value in SAMPLERS[name].overrides.items():
        assert first.config[key] == value, f"{key} is not an option of this scheduler"


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_prediction_type_is_the_models(prediction_type: str, config: Any) -> None:
    for name in SAMPLERS:
        scheduler = SHIPPED_SAMPLERS.build(name, {**config, "prediction_type": prediction_type})
        assert scheduler.config.prediction_type == prediction_type


def test_which_scheduler_the_model_was_saved_with_makes_no_difference(config: Any) -> None:
    """`from_config` hands options on from one class to the next: "leading" from DDIM, "sde" from DPM++ SDE to DEIS."""
    others = {name: SHIPPED_SAMPLERS.build(name, config).config for name in ("Euler", "DPM++ 2M SDE Karras", "DPM2")}
    for name in SAMPLERS:
        expected = SHIPPED_SAMPLERS.build(name, config)
        expected.set_timesteps(7)
        for other, saved in others.items():
            scheduler = SHIPPED_SAMPLERS.build(name, saved)
            scheduler.set_timesteps(7)
            assert torch.equal(scheduler.timesteps, expected.timesteps), f"{name} after {other}"
            if hasattr(expected, "sigmas"):
                assert torch.equal(scheduler.sigmas, expected.sigmas), f"{name} after {other}"


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_calls_per_step(config: Any, steps: int) -> None:
    for name, sampler in SAMPLERS.items():
        scheduler = SHIPPED_SAMPLERS.build(name, config)
        scheduler.set_timesteps(steps)
        # PLMS warms up with one call more; the last step of a second-order sampler needs but one.
        extra = 1 if name == "PLMS" and steps > 1 else 1 - sampler.calls_per_step
        assert len(scheduler.timesteps) == steps * sampler.calls_per_step + extra, name


def test_an_unknown_sampler_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError) as refusal:
        SHIPPED_SAMPLERS.find("Euler b")
    assert refusal.value.key == "error.unknown_sampler"
    assert "Euler a" in str(refusal.value.values["known"])


@pytest.mark.parametrize(
    ("method", "schedule", "name"),
    [
        ("DPM++ 2M Karras", None, "DPM++ 2M Karras"),
        ("DPM++ 2M", "Karras", "DPM++ 2M Karras"),
        ("DPM++ 2M", "karras", "DPM++ 2M Karras"),
        ("DPM++ 2M", None, "DPM++ 2M"),
        ("DPM++ 2M", "Uniform", "DPM++ 2M"),
        ("DPM++ 2M", "Automatic", "DPM++ 2M Karras"),
        ("Euler a", "Automatic", "Euler a"),
        ("euler A", None, "Euler a"),
        ("DPM++ 2M", "Exponential", None),
        ("Restart", None, None),
        ("", None, None),
    ],
)
def test_a1111s_names_are_found(method: str, schedule: str | None, name: str | None) -> None:
    assert SHIPPED_SAMPLERS.from_infotext(method, schedule) == name


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_name_is_found_from_its_own_infotext_fields(name: str) -> None:
    assert SHIPPED_SAMPLERS.from_infotext(SAMPLERS[name].method, SAMPLERS[name].schedule) == name


def test_the_table_needs_no_torch() -> None:
    code = "import sys, webui.diffusion.samplers; print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
