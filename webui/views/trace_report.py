"""A recorded run in words and figures, for the command line and programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from webui.diffusion.guidance import guidance_meter
from webui.diffusion.trace import Trace
from webui.diffusion.wordmaps import peak, word_map
from webui.i18n import Translator


def trace_as_dict(trace: Trace) -> dict[str, Any]:
    """The header, the guidance figures of every call and each word's peak, as JSON-ready values."""
    header, meter = trace.header, guidance_meter(trace)
    guidance = None
    if meter is not None:
        guidance = {name: getattr(meter, name).round(6).tolist() for name in ("ratio", "cosine", "stretch")}
    words = []
    for word, text in enumerate(header.words):
        found = word_map(trace, header.rows_of_word(word))
        x, y = peak(found)
        words.append({"word": text, "peak": round(float(found.max()), 6), "x": round(x, 4), "y": round(y, 4)})
    return {
        **asdict(header),
        "guidance": guidance,
        "word_peaks": words,
        "has_heads": bool(trace.head_maps),
        "has_picture": trace.picture is not None,
    }


def describe_trace(trace: Trace, say: Translator) -> str:
    """What was drawn, what is recorded, every call's figures and every word's peak; for a terminal."""
    header, told = trace.header, trace_as_dict(trace)
    request, shapes = header.request, header.shapes
    lines = [
        request.prompt,
        say.text(
            "trace.report.run",
            title=header.model_title,
            width=shapes.width,
            height=shapes.height,
            sampler=request.sampler,
            steps=request.steps,
            guidance=request.guidance_scale,
            seed=header.seed,
        ),
        say.text(
            "trace.report.calls.flow" if header.space == "flow" else "trace.report.calls",
            calls=len(header.steps),
            planned=header.planned_calls,
            prediction=header.prediction_type,
        ),
        say.text(
            "trace.report.shapes",
            positions=shapes.positions,
            embedding=shapes.embedding,
            channels=shapes.channels,
            height=shapes.latent_height,
            width=shapes.latent_width,
            layers=len(header.layers),
        ),
    ]
    if header.cut_text:
        lines.append(say.text("trace.report.cut", text=header.cut_text.strip()))
    lines += ["", say.text("trace.report.steps"), *_calls(trace, told), ""]
    if not header.layers:
        return "\n".join([*lines, say.text("trace.report.no_words")])
    lines += [say.text("trace.report.words")]
    lines += [
        f"  {entry['word']}: {entry['peak']:.4f} ({entry['x']:.2f}, {entry['y']:.2f})" for entry in told["word_peaks"]
    ]
    return "\n".join(lines)


def _calls(trace: Trace, told: dict[str, Any]) -> list[str]:
    lines = []
    for call, step in enumerate(trace.header.steps):
        which = f"{step.step}{'b' if step.order == 2 else ''}"
        line = f"{call + 1:4d}  {which:>4}  {step.timestep:8.1f}  {step.sigma:6.2f}"
        if told["guidance"] is not None:
            line += f"  {told['guidance']['ratio'][call]:22.4f}  {told['guidance']['cosine'][call]:6.4f}"
        lines.append(line)
    return lines
