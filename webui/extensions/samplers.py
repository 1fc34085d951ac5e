"""Samplers that extensions add: what one must be, and whose fault it is when its scheduler fails."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, get_args

from webui.diffusion.samplers import Sampler, Space, build_scheduler
from webui.errors import UserError
from webui.hooks import Hooks
from webui.runtime.memory import is_out_of_memory

T = TypeVar("T")

_MAX_NAME: Final = 60
_CALLED: Final = ("set_timesteps", "scale_model_input", "step")
_READ: Final = ("config", "order", "init_noise_sigma")


def check_new_sampler(sampler: Sampler) -> None:
    """Raise ValueError for a sampler that could not be shown, or read back from a picture."""
    name = sampler.name
    if not 0 < len(name) <= _MAX_NAME or not name.isprintable() or name != " ".join(name.split()):
        raise ValueError(f"a sampler's name is 1 to {_MAX_NAME} printable characters in one line, not {name!r:.100}")
    if sampler.space not in get_args(Space):
        raise ValueError(f"space is one of {', '.join(get_args(Space))}, not {sampler.space!r:.100}")
    if sampler.calls_per_step < 1:
        raise ValueError(f"a step calls the model at least once, not {sampler.calls_per_step} times")
    if not isinstance(sampler.scheduler, str) and sampler.overrides:
        raise ValueError("options are for a class of diffusers; a function that makes a scheduler knows its own")


def charged_sampler(hooks: Hooks, extension: str, sampler: Sampler) -> Sampler:
    """The same sampler; what its scheduler raises is charged to the extension and becomes a UserError that names it."""

    def guarded(work: Callable[[], T]) -> T:
        try:
            return work()
        except UserError:
            raise
        # Code of others: whatever it raises, an exit included, must not end what runs it.
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error):  # whoever lends the model makes room and has it drawn again
                raise
            hooks.charge(extension, f"sampler {sampler.name}", traceback.format_exc())
            reason = f"{type(error).__name__}: {error}"[:300]
            raise UserError("error.extension_sampler", sampler=sampler.name, id=extension, reason=reason) from error

    def make(config: Mapping[str, Any]) -> Any:
        scheduler = guarded(lambda: _checked(build_scheduler(sampler, config), sampler.space))
        for name in _CALLED:
            setattr(scheduler, name, _guarded_call(getattr(scheduler, name), guarded))
        return scheduler

    return Sampler(sampler.name, None, make, {}, sampler.space, sampler.calls_per_step, sampler.training)


def _guarded_call(call: Callable[..., Any], guarded: Callable[[Callable[[], Any]], Any]) -> Callable[..., Any]:
    """`functools.wraps` keeps the signature, by which a pipeline decides what to pass."""

    @functools.wraps(call)
    def called(*values: Any, **options: Any) -> Any:
        return guarded(lambda: call(*values, **options))

    return called


def _checked(scheduler: Any, space: Space) -> Any:
    """The scheduler, if it has what a run asks of one; else TypeError."""
    noise = "sigmas" if space == "flow" else "alphas_cumprod"
    absent = [name for name in (*_CALLED, *_READ, noise) if not hasattr(scheduler, name)]
    if absent:
        raise TypeError(f"{type(scheduler).__name__} is no scheduler of diffusers: it has no {', '.join(absent)}")
    return scheduler
