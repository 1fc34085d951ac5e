"""What the page on latents shows: a picture's way through the VAE, its channels, edits, strips, noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from webui.diffusion.forward_diffusion import NoisePoint
from webui.diffusion.latent_colours import LinearColours, channel_facts
from webui.diffusion.latent_edits import (
    LatentEdit,
    NoiseRegion,
    PasteRegion,
    Region,
    RoundToBits,
    ScaleChannel,
    SwapChannels,
    ZeroChannel,
    ZeroRegion,
)
from webui.diffusion.picture_error import PictureError, compare_pictures
from webui.i18n import Translator
from webui.views.colours import sequential_stops
from webui.views.markup import element, text
from webui.views.pixels import colour_png, signed_png, signed_stops, size_png

if TYPE_CHECKING:
    from webui.tasks.latent_walks import Interpolation
    from webui.tasks.latents import EncodedPicture, Guess


def render_empty(say: Translator) -> str:
    """What stands there before the first picture."""
    lines = (
        element("p", text(say.text("latents.empty.title")), class_="stage-title"),
        element("p", text(say.text("latents.empty.hint")), class_="stage-hint"),
    )
    return element("div", *lines, class_="stage-empty latents-empty")


def render_encoding(encoded: EncodedPicture, say: Translator) -> str:
    """The picture, what comes back, where they differ; the numbers of the compression; what was done to the file."""
    return element("div", _shapes(encoded, say), _there_and_back(encoded, say), _notes(encoded, say))


def render_channels(latent: np.ndarray, say: Translator) -> str:
    """The four channels as signed maps on one scale, and their numbers as a table."""
    facts = channel_facts(latent)
    reach = max(max(abs(fact.minimum), abs(fact.maximum)) for fact in facts)
    maps = []
    for number, (channel, fact) in enumerate(zip(latent, facts, strict=True), start=1):
        words = say.text(
            "latents.channel.alt", number=number, low=_n(fact.minimum), high=_n(fact.maximum), x=fact.peak[0],
            y=fact.peak[1],
        )  # fmt: skip
        caption = f"{say.text('latents.channel', number=number)}: {_n(fact.minimum)} … {_n(fact.maximum)}"
        maps.append(_picture(signed_png(channel, reach), words, caption, cells=True))
    legend = _legend(signed_stops(), _n(-reach), _n(reach), "0")
    head = [element("th", text(say.text(key)), scope="col") for key in _FACT_NAMES]
    rows = [
        element(
            "tr",
            element("th", text(str(number)), scope="row"),
            *(element("td", text(_n(value))) for value in (fact.minimum, fact.maximum, fact.mean, fact.deviation)),
        )
        for number, fact in enumerate(facts, start=1)
    ]
    table = element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_="latent-table")
    return element("div", element("div", *maps, class_="latent-row"), legend, element("div", table, class_="scroll"))


_FACT_NAMES = ("latents.fact.channel", "latents.fact.least", "latents.fact.greatest", "latents.fact.mean",
               "latents.fact.deviation")  # fmt: skip


def render_colours(encoded: EncodedPicture, say: Translator) -> str:
    """The linear map: its factors, its picture, and how much it explains here and on the chart."""
    columns = ("latents.fact.channel", "latents.colour.red", "latents.colour.green", "latents.colour.blue")
    head = [element("th", text(say.text(key)), scope="col") for key in columns]
    names = [*(str(number) for number in range(1, len(encoded.latent) + 1)), say.text("latents.colour.constant")]
    rows = [
        element("tr", element("th", text(name), scope="row"), *(element("td", text(_n(f))) for f in factors))
        for name, factors in zip(names, encoded.colours.factors.tolist(), strict=True)
    ]
    table = element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_="latent-table")
    approximate = say.text("latents.colour.caption")
    picture = _picture(colour_png(encoded.colours.picture(encoded.latent)), approximate, approximate, cells=True)
    words = say.text(
        "latents.colour.explained",
        here=_n(encoded.colours.r_squared),
        chart=_n(encoded.chart_r_squared),
        chart_here=_n(encoded.chart_explains),
    )
    return element(
        "div",
        element("p", text(words)),
        element("div", picture, element("div", table, class_="scroll"), class_="latent-beside"),
    )


def render_canvas(latent: np.ndarray, colours: LinearColours, view: str, region: Region, say: Translator) -> str:
    """The latent as a picture to mark cells on, with pointer or arrow keys; `view` is "colours" or "0" to "3"."""
    _, height, width = latent.shape
    if view == "colours":
        source = colour_png(colours.picture(latent))
    else:
        channel = latent[int(view)]
        source = signed_png(channel, float(np.abs(channel).max()))
    place = f"left:{_share(region.x, width)};top:{_share(region.y, height)};" + (
        f"width:{_share(region.width, width)};height:{_share(region.height, height)}"
    )
    words = say.text(
        "latents.canvas.alt", x=region.x, y=region.y, region_width=region.width, region_height=region.height,
        width=width, height=height,
    )  # fmt: skip
    numbers = {"x": region.x, "y": region.y, "w": region.width, "h": region.height, "columns": width, "rows": height}
    return element(
        "div",
        f'<img src="{source}" alt="" draggable="false">',
        element("div", class_="marked", style=place),
        class_="latent-canvas",
        tabindex="0",
        role="application",
        aria_label=words,
        style=f"aspect-ratio:{width}/{height}",
        **{f"data_{name}": str(number) for name, number in numbers.items()},
    )


def render_edits(edits: Sequence[LatentEdit], undone: int, say: Translator) -> str:
    """The list of what was done."""
    if not edits:
        words = say.text("latents.edits.none")
        return element("p", text(words), class_="score-hint")
    items = [element("li", text(edit_words(edit, say))) for edit in edits]
    more = element("p", text(say.text("latents.edits.undone", count=undone)), class_="score-hint") if undone else ""
    return element("div", element("ol", *items, class_="edit-list"), more)


def edit_words(edit: LatentEdit, say: Translator) -> str:  # noqa: PLR0911 - one a kind of edit
    """One edit in words."""
    match edit:
        case ScaleChannel(channel, gain, offset):
            return say.text("latents.edit.scale", channel=channel + 1, gain=f"{gain:g}", offset=f"{offset:g}")
        case ZeroChannel(channel):
            return say.text("latents.edit.zero_channel", channel=channel + 1)
        case SwapChannels(first, second):
            return say.text("latents.edit.swap", first=first + 1, second=second + 1)
        case ZeroRegion(region):
            return say.text("latents.edit.zero_region", region=_region(region, say))
        case NoiseRegion(region, seed, strength):
            return say.text(
                "latents.edit.noise_region", region=_region(region, say), seed=seed, strength=f"{strength:g}"
            )
        case PasteRegion(region, from_x, from_y):
            return say.text("latents.edit.paste", region=_region(region, say), x=from_x, y=from_y)
        case RoundToBits(bits):
            return say.text("latents.edit.round", bits=bits, levels=2**bits)


def render_edited(before: np.ndarray, after: np.ndarray, say: Translator, captions: tuple[str, str]) -> str:
    """Two decoded pictures side by side, and how far they are apart. `captions` are message keys."""
    first, second = (say.text(key) for key in captions)
    error = compare_pictures(before, after)
    return element(
        "div",
        element(
            "div", _picture(colour_png(before), first, first), _picture(colour_png(after), second, second),
            _error_figure(error, say), class_="latent-row large",
        ),
        element("p", text(_distance(error, say)), role="status"),
    )  # fmt: skip


def render_strip(found: Interpolation, animation: str, ending: str, say: Translator) -> str:
    """Both ways as rows of pictures with the norm under each; the animation to play and to save."""
    ways = (
        ("latents.slerp", found.slerp, found.slerp_norms),
        ("latents.lerp", found.lerp, found.lerp_norms),
    )
    rows = []
    for key, pictures, norms in ways:
        name = say.text(key)
        figures = [
            _picture(colour_png(picture), f"{name}, t = {share:.2f}", f"t = {share:.2f} · ‖z‖ = {norm:.1f}")
            for share, picture, norm in zip(found.shares, pictures, norms, strict=True)
        ]
        strip = element("div", *figures, class_="strip", tabindex="0", role="region", aria_label=name)
        rows += [element("h4", text(name)), strip]
    degrees = say.text("latents.angle", degrees=f"{math.degrees(found.angle):.1f}")
    playing = f'<img src="{animation}" alt="{say.text("latents.animation.alt")}">'
    save = element("a", text(say.text("latents.animation.save")), href=animation, download=f"interpolation.{ending}")
    summary = element("summary", text(say.text("latents.animation.play")))
    played = element("details", summary, playing)
    return element("div", element("p", text(degrees)), *rows, played, element("p", save), class_="interpolation")


def render_noise(
    encoded: EncodedPicture, noise: np.ndarray, sample: np.ndarray, point: NoisePoint, say: Translator
) -> str:
    """The closed form with its numbers, worked for one cell, and its three parts through the linear map."""
    cell = (0, encoded.latent.shape[1] // 2, encoded.latent.shape[2] // 2)
    formula = (
        f"x_t = √ᾱ · x_0 + √(1 − ᾱ) · ε = {point.signal:.4f} · {encoded.latent[cell]:.3f} + "
        f"{point.noise:.4f} · {noise[cell]:.3f} = {sample[cell]:.3f}"
    )
    words = say.text(
        "latents.noise.point", t=point.timestep, alpha=f"{point.alpha_bar:.5f}", snr=f"{point.snr_db:.1f}",
        x=cell[2], y=cell[1],
    )  # fmt: skip
    parts = [
        _picture(colour_png(encoded.colours.picture(latent)), name, name, cells=True)
        for name, latent in (("x_0", encoded.latent), ("ε", noise), ("x_t", sample))
    ]
    hint = element("p", text(say.text("latents.noise.linear")), class_="score-hint")
    return element(
        "div", element("p", text(words)), element("p", text(formula), class_="formula"),
        element("div", *parts, class_="latent-row"), hint,
    )  # fmt: skip


def render_guess(guess: Guess, encoded: EncodedPicture, say: Translator) -> str:
    """x_0, x_t and the model's guess, decoded."""
    captions = ("latents.noise.x0", "latents.noise.xt", "latents.noise.guess")
    pictures = (encoded.decoded, guess.noisy, guess.picture)
    row = [_picture(colour_png(p), say.text(key), say.text(key)) for key, p in zip(captions, pictures, strict=True)]
    error = compare_pictures(encoded.decoded, guess.picture)
    words = say.text("latents.noise.error", mse=f"{guess.mean_squared_error:.4f}", psnr=_decibels(error.psnr))
    return element("div", element("div", *row, class_="latent-row large"), element("p", text(words)))


def render_run_strip(
    samples: np.ndarray, colours: LinearColours, steps: Sequence[int], chosen: int, say: Translator
) -> str:
    """x_t of each step that can be resumed from, at unit size through the linear map; the chosen one is marked."""
    figures = []
    for call in steps:
        sample = samples[call] / max(1.0, float(samples[call].std()))
        caption = say.text("latents.run.step", call=call + 1)
        source = colour_png(colours.picture(sample))
        figures.append(_picture(source, caption, caption, cells=True, marked=call == chosen))
    hint = element("p", text(say.text("latents.run.strip")), class_="score-hint")
    label = say.text("latents.run.strip")
    return element("div", hint, element("div", *figures, class_="strip", tabindex="0", role="region", aria_label=label))


def render_run_picture(picture: np.ndarray, seed: int, say: Translator) -> str:
    """The picture of a recorded run."""
    words = say.text("latents.run.picture", seed=seed)
    return element("div", _picture(colour_png(picture), words, words), class_="latent-row large")


def _shapes(encoded: EncodedPicture, say: Translator) -> str:
    height, width, _ = encoded.original.shape
    channels, rows, columns = encoded.latent.shape
    numbers = height * width * 3
    chain = say.text(
        "latents.shapes", height=height, width=width, rows=rows, columns=columns, channels=channels,
        factor=encoded.factor,
    )  # fmt: skip
    ratio = say.text(
        "latents.ratio", pixels=f"{numbers:,}", values=f"{encoded.latent.size:,}",
        ratio=f"{numbers / encoded.latent.size:.1f}", bytes=f"{numbers / (2 * encoded.latent.size):.1f}",
    )  # fmt: skip
    return element("div", element("p", text(chain), class_="formula"), element("p", text(ratio)))


def _there_and_back(encoded: EncodedPicture, say: Translator) -> str:
    first, second = say.text("latents.original"), say.text("latents.decoded")
    row = element(
        "div", _picture(colour_png(encoded.original), first, first),
        _picture(colour_png(encoded.decoded), second, second), _error_figure(encoded.error, say),
        class_="latent-row large",
    )  # fmt: skip
    return element("div", row, element("p", text(_distance(encoded.error, say)), class_="quality"))


def _error_figure(error: PictureError, say: Translator) -> str:
    largest = float(error.error_map.max())
    y, x = np.unravel_index(int(error.error_map.argmax()), error.error_map.shape)
    words = say.text("latents.error.alt", largest=f"{largest:.0f}", x=int(x), y=int(y))
    figure = _picture(size_png(error.error_map, largest), words, say.text("latents.error"))
    return element("div", figure, _legend(sequential_stops(), "0", f"{largest:.0f}"))


def _distance(error: PictureError, say: Translator) -> str:
    if math.isinf(error.psnr):
        return say.text("latents.equal")
    if error.ssim is None:
        return say.text("latents.distance_small", psnr=_decibels(error.psnr))
    return say.text("latents.distance", psnr=_decibels(error.psnr), ssim=f"{error.ssim:.3f}")


def _notes(encoded: EncodedPicture, say: Translator) -> str:
    fitted = encoded.fitted
    said = [say.text(note.key, **note.values) for note in encoded.notes]
    sizes = {"width": fitted.scaled_size[0], "height": fitted.scaled_size[1]}
    if fitted.scaled:
        source = {"source_width": fitted.source_size[0], "source_height": fitted.source_size[1]}
        said.append(say.text("latents.scaled", **source, **sizes))
    if fitted.cropped:
        cut = {"new_width": fitted.image.width, "new_height": fitted.image.height}
        said.append(say.text("latents.cropped", **sizes, **cut))
    return element("ul", *(element("li", text(words)) for words in said), class_="remarks") if said else ""


def _picture(source: str, alt: str, caption: str, *, cells: bool = False, marked: bool = False) -> str:
    classes = " ".join(name for name, there in (("cells", cells), ("chosen", marked)) if there)
    image = element("img", src=source, alt=alt, class_=classes or False).removesuffix("</img>")
    return element("figure", image, element("figcaption", text(caption)))


def _legend(stops: Sequence[str], low: str, high: str, middle: str = "") -> str:
    scale = element(
        "span", text(middle), class_="scale", style=f"background:linear-gradient(90deg, {', '.join(stops)})"
    )
    return element("div", element("span", text(low)), scale, element("span", text(high)), class_="legend")


def _region(region: Region, say: Translator) -> str:
    return say.text("latents.region", x=region.x, y=region.y, width=region.width, height=region.height)


def _decibels(psnr: float) -> str:
    return "∞" if math.isinf(psnr) else f"{psnr:.2f}"


def _n(value: float) -> str:
    return f"{value:.3f}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.4f}%"
