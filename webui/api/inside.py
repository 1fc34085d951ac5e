"""POST /api/v1/trace and the file that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from webui.diffusion.request_values import request_from_values
from webui.diffusion.trace import trace_bytes
from webui.errors import UserError
from webui.runtime.jobs import Job, JobState
from webui.tasks.inside import TRACE, TraceRequest


def read_trace_request(values: Mapping[str, object]) -> TraceRequest:
    """The request in a JSON object: a GenerateRequest's fields and, if wanted, "all_heads". Raises UserError."""
    all_heads = values.get("all_heads", False)
    if not isinstance(all_heads, bool):
        raise UserError("error.not_true_or_false", field="all_heads")
    return TraceRequest(
        request_from_values({name: value for name, value in values.items() if name != "all_heads"}), all_heads
    )


def recording_of(job: Job[Any]) -> Response:
    """The trace file of a job that has recorded; raises UserError for any other."""
    if job.kind != TRACE or job.state is not JobState.DONE:
        raise UserError("error.no_recording")
    trace = job.result().trace
    name = f"run-{trace.header.seed}.safetensors"
    return Response(
        trace_bytes(trace, name),
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
