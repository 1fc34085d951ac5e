"""The samplers, under the names that people know from AUTOMATIC1111's web UI; the table needs no torch.

Left out: "LMS" (needs scipy), "DPM++ SDE" (needs torchsde), and those for TCD-distilled or EDM-preconditioned models,
which draw noise with a Stable Diffusion 1.x U-Net. Models trained by flow matching, and latent consistency models, have
tables of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from webui.errors import UserError
from webui.runtime.pipelines import Training

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

Space = Literal["alpha", "sigma", "flow"]
MakeScheduler = Callable[[Mapping[str, Any]], Any]
"""Makes a fresh scheduler from a model's own scheduler config; for samplers that extensions add."""

_TRAINED_WITH: Final = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)
_KARRAS_BY_DEFAULT: Final = frozenset({"DPM++ 2M", "DPM++ 2M SDE", "DPM++ 2S", "DPM2", "DPM2 a"})


@dataclass(frozen=True, slots=True)
class Sampler:
    """How one sampler is made from a model's own scheduler config.

    `scheduler` is a diffusers class name and `overrides` its options beside what the model was trained with; or it is
    what makes the scheduler, and then there are no options. `name` splits into A1111's two infotext fields, `method`
    ("DPM++ 2M") and `schedule` ("Karras", or None). `space` is the scaling of the latents it works on: "alpha" is
    x = sqrt(a) x0 + sqrt(1 - a) eps, "sigma" is x = x0 + sigma eps, "flow" is x = (1 - sigma) x0 + sigma eps.
    `calls_per_step` is the number of U-Net calls a step costs, but for the last. `training` is that of its models.
    """

    method: str
    schedule: str | None
    scheduler: str | MakeScheduler
    overrides: Mapping[str, Any]
    space: Space
    calls_per_step: int = 1
    training: Training = "noise"

    @property
    def name(self) -> str:
        """The name a person chooses: "DPM++ 2M Karras"."""
        return self.method if self.schedule is None else f"{self.method} {self.schedule}"


def _sampler(
    name: str, scheduler: str, space: Space, calls_per_step: int = 1, karras: bool = False, **overrides: Any
) -> tuple[Sampler, ...]:
    """One sampler and, where its scheduler knows them, its Karras variant (Karras et al. 2022, equation 5)."""
    plain = MappingProxyType(overrides | ({"use_karras_sigmas": False} if karras else {}))
    samplers = (Sampler(name, None, scheduler, plain, space, calls_per_step),)
    if not karras:
        return samplers
    with_karras = MappingProxyType(overrides | {"use_karras_sigmas": True})
    return (*samplers, Sampler(name, "Karras", scheduler, with_karras, space, calls_per_step))


def _table() -> Mapping[str, Sampler]:
    multistep, singlestep = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
    # The k-diffusion family walks the whole range of noise, as in A1111; DDIM, PLMS and DDPM keep Stable Diffusion's
    # own "leading" steps. `clip_sample` belongs to pixel models and would ruin latents.
    whole: dict[str, Any] = {"timestep_spacing": "linspace"}
    own: dict[str, Any] = {"timestep_spacing": "leading", "steps_offset": 1}
    ode: dict[str, Any] = {"algorithm_type": "dpmsolver++", "final_sigmas_type": "zero", "lower_order_final": True}
    sde: dict[str, Any] = ode | {"algorithm_type": "sde-dpmsolver++"}
    samplers = (
        *_sampler("DPM++ 2M", multistep, "alpha", karras=True, solver_order=2, **ode, **whole),
        *_sampler("DPM++ 2M SDE", multistep, "alpha", karras=True, solver_order=2, **sde, **whole),
        *_sampler("DPM++ 3M SDE", multistep, "alpha", karras=True, solver_order=3, **sde, **whole),
        *_sampler("DPM++ 2S", singlestep, "alpha", karras=True, solver_order=2, **ode),
        *_sampler("Euler a", "EulerAncestralDiscreteScheduler", "sigma", **whole),
        *_sampler("Euler", "EulerDiscreteScheduler", "sigma", karras=True, **whole),
        *_sampler("Heun", "HeunDiscreteScheduler", "sigma", 2, karras=True, **whole),
        *_sampler("DPM2", "KDPM2DiscreteScheduler", "sigma", 2, karras=True, **whole),
        *_sampler("DPM2 a", "KDPM2AncestralDiscreteScheduler", "sigma", 2, karras=True, **whole),
        *_sampler("DDIM", "DDIMScheduler", "alpha", clip_sample=False, set_alpha_to_one=False, **own),
        *_sampler("DDPM", "DDPMScheduler", "alpha", clip_sample=False, **own),
        *_sampler("PLMS", "PNDMScheduler", "alpha", skip_prk_steps=True, set_alpha_to_one=False, **own),
        *_sampler("UniPC", "UniPCMultistepScheduler", "alpha", final_sigmas_type="zero", **whole),
        *_sampler("DEIS", "DEISMultistepScheduler", "alpha", **whole),
    )
    return MappingProxyType({sampler.name: sampler for sampler in samplers})


SAMPLERS: Final[Mapping[str, Sampler]] = _table()
"""Those of models that predict noise, by name, in the order in which a menu shows them."""

FLOW_SAMPLERS: Final[Mapping[str, Sampler]] = MappingProxyType(
    {
        "Flow Euler": Sampler(
            "Flow Euler", None, "FlowMatchEulerDiscreteScheduler", MappingProxyType({}), "flow", training="flow"
        )
    }
)
"""The samplers of models that were trained by flow matching (Stable Diffusion 3, FLUX): the models' own."""

LCM_SAMPLERS: Final[Mapping[str, Sampler]] = MappingProxyType(
    {"LCM": Sampler("LCM", None, "LCMScheduler", MappingProxyType({}), "alpha", training="consistency")}
)
"""The sampler of latent consistency models (Luo et al. 2023): x0, and new noise for the next, lower noise level."""


@dataclass(frozen=True, slots=True)
class Samplers:
    """The samplers that one program has, by name: the shipped ones, then those of its extensions."""

    table: Mapping[str, Sampler]

    def names(self) -> list[str]:
        """All of them, in the order of a menu."""
        return list(self.table)

    def names_for(self, training: Training) -> list[str]:
        """Those that draw with a model, by how it was trained."""
        return [name for name, sampler in self.table.items() if sampler.training == training]

    def find(self, name: str) -> Sampler:
        """The sampler of that name; raises UserError that names those there are."""
        try:
            return self.table[name]
        except KeyError:
            raise UserError("error.unknown_sampler", name=name, known=", ".join(self.table)) from None

    def check(self, name: str, model: str, training: Training) -> None:
        """Raise UserError unless the sampler is there and is one of this model's."""
        sampler = self.find(name)
        if sampler.training == training:
            return
        if training == "flow":
            key = "error.sampler_not_for_flow"
        elif training == "consistency":
            key = "error.sampler_not_for_consistency"
        else:
            flow = sampler.training == "flow"
            key = "error.sampler_for_flow_only" if flow else "error.sampler_for_consistency_only"
        raise UserError(key, name=name, model=model, known=", ".join(self.names_for(training)))

    def from_infotext(self, method: str, schedule: str | None = None) -> str | None:
        """Our name for A1111's "Sampler" and "Schedule type", or None when we do not have that one.

        Up to version 1.8 A1111 wrote one field, "DPM++ 2M Karras"; since then two. "Automatic" is the method's own
        schedule, which for A1111 is Karras for the names in `_KARRAS_BY_DEFAULT`; "Uniform" is the plain one.
        """
        wanted = (schedule or "").strip().casefold()
        if wanted == "automatic":
            wanted = "karras" if method.strip() in _KARRAS_BY_DEFAULT else ""
        elif wanted in ("uniform", "normal"):
            wanted = ""
        return self.named(f"{method.strip()} {wanted}".strip())

    def named(self, name: str) -> str | None:
        """The name as it is written here, whichever letters of it are capitals; None when there is none."""
        return next((known for known in self.table if known.casefold() == name.casefold()), None)

    def build(self, name: str, config: Mapping[str, Any]) -> SchedulerMixin:
        """A fresh scheduler of that sampler (see `build_scheduler`); raises UserError as `find` does."""
        return build_scheduler(self.find(name), config)

    def and_also(self, sampler: Sampler) -> Samplers:
        """These and one more; raises ValueError where the name is taken."""
        if self.named(sampler.name) is not None:
            raise ValueError(f"there is a sampler {sampler.name!r} already")
        return Samplers(MappingProxyType({**self.table, sampler.name: sampler}))


SHIPPED_SAMPLERS: Final = Samplers(MappingProxyType({**SAMPLERS, **FLOW_SAMPLERS, **LCM_SAMPLERS}))
"""What every program has; one that runs has its extensions' too (`Studio.samplers`)."""


def build_scheduler(sampler: Sampler, config: Mapping[str, Any]) -> SchedulerMixin:
    """A fresh scheduler, to be used for one run only: it holds the run's state.

    `config` is the model's own (`pipe.scheduler.config`). Only what the model was trained with is taken from there:
    `from_config` would hand on all options that two classes share, so that the sampler a model happened to be saved
    with would change, or break, the others.
    """
    import diffusers

    scheduler: SchedulerMixin
    if not isinstance(sampler.scheduler, str):
        scheduler = sampler.scheduler(config)
        return scheduler
    scheduler_class = getattr(diffusers, sampler.scheduler)
    if sampler.training != "noise":  # the model's own: the shift of noise levels, or the steps it was distilled at
        scheduler = scheduler_class.from_config(config, **sampler.overrides)
        return scheduler
    known = inspect.signature(scheduler_class.__init__).parameters
    trained = {option: config[option] for option in _TRAINED_WITH if option in config and option in known}
    # Only "leading" steps use the offset, but the pipeline warns of any other than Stable Diffusion's.
    offset = {"steps_offset": 1} if "steps_offset" in known else {}
    scheduler = scheduler_class(**trained, **(offset | dict(sampler.overrides)))
    return scheduler
