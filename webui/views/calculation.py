"""The tutorial's calculator: small vectors and every number on the way to their cosines."""

from __future__ import annotations

from webui.clip.calculator import Calculation, CosineSteps
from webui.i18n import Translator
from webui.views.markup import element, text


def render_calculation(calculation: Calculation, say: Translator) -> str:
    """The picture's norm, then for each text products, dot product, norm, cosine and place, written out."""
    a = calculation.picture
    picture = [
        f"a = ({_listed(a.components)})",
        f"‖a‖ = √({' + '.join(f'{_n(x)}²' for x in a.components)}) = √{_n(sum(calculation.picture_squares))}"
        f" = {calculation.picture_norm:.4f}",
    ]
    blocks = [_block(a.name, picture, "")]
    blocks += [_text_block(calculation, steps, say) for steps in calculation.texts]
    ranked = sorted((s for s in calculation.texts if s.rank is not None), key=lambda s: s.rank or 0)
    order = " > ".join(f"{s.name} ({s.cosine:.2f})" for s in ranked)
    summary = element("p", text(say.text("score.calculator.order", order=order)), class_="order") if ranked else ""
    zeros = [
        element("p", text(say.text("score.calculator.zero", name=name)), class_="notice", role="status")
        for name in calculation.zero_vectors
    ]
    return element("div", *zeros, *blocks, summary, class_="calculation")


def _text_block(calculation: Calculation, steps: CosineSteps, say: Translator) -> str:
    a = calculation.picture.components
    pairs = " + ".join(f"{_n(x)} × {_n(y)}" for x, y in zip(a, steps.components, strict=True))
    lines = [
        f"b = ({_listed(steps.components)})",
        f"a · b = {pairs} = {' + '.join(_n(p) for p in steps.products)} = {_n(steps.dot)}",
        f"‖b‖ = √({' + '.join(f'{_n(y)}²' for y in steps.components)}) = √{_n(sum(steps.squares))} = {steps.norm:.4f}",
    ]
    if steps.cosine is not None:
        lines.append(
            f"cos = {_n(steps.dot)} / ({calculation.picture_norm:.4f} × {steps.norm:.4f})"
            f" = {_n(steps.dot)} / {steps.norm_product:.4f} = {steps.cosine:.4f} ≈ {steps.cosine:.2f}"
        )
    place = say.text("score.calculator.place", rank=steps.rank) if steps.rank is not None else ""
    return _block(steps.name, lines, place)


def _block(name: str, lines: list[str], place: str) -> str:
    heading = element("h4", text(name), " ", element("small", text(place)) if place else "", dir="auto")
    return element("section", heading, *(element("p", element("code", text(line))) for line in lines))


def _listed(components: tuple[float, ...]) -> str:
    return ", ".join(_n(component) for component in components)


def _n(value: float) -> str:
    """Up to four decimals, none that say nothing."""
    return f"{round(value, 4):g}"
