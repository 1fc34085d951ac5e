"""What watches a server: `/healthz` (it answers), `/readyz` (it can draw) and `/metrics` (Prometheus)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from webui.runtime.entries import TXT2IMG
from webui.studio import Studio


def health_routes(studio: Studio) -> list[Route]:
    """The routes; `/metrics` only where the settings want it."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        missing = await run_in_threadpool(what_is_missing, studio)
        return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)

    async def metrics(_request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(StudioCollector(studio))
        return Response(await run_in_threadpool(generate_latest, registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    routes = [Route("/healthz", healthz, methods=["GET"]), Route("/readyz", readyz, methods=["GET"])]
    return [*routes, Route("/metrics", metrics, methods=["GET"])] if studio.settings.metrics else routes


def what_is_missing(studio: Studio) -> list[str]:
    """Why a picture could not be drawn and saved now: "workers", "models", "outputs"; empty when it could.

    It names no folder and no model, since it is told without a login.
    """
    folder = studio.settings.outputs_dir
    while not folder.exists() and folder != folder.parent:  # the outputs folder is made with the first picture
        folder = folder.parent
    checks = {
        "workers": studio.jobs.working,
        "models": any(entry.problem is None for entry in studio.catalog.entries(TXT2IMG)),
        "outputs": os.access(folder, os.W_OK | os.X_OK),
    }
    return [name for name, passed in checks.items() if not passed]


class StudioCollector(Collector):
    """Reads the services when it is asked, so that nothing is counted in a second place."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The jobs by kind and state, the room in the queue, and the loaded models."""
        studio = self._studio
        jobs = GaugeMetricFamily("diffuscope_jobs", "Jobs that are remembered.", labels=("kind", "state"))
        for (kind, state), count in studio.jobs.counts().items():
            jobs.add_metric((kind, state), count)
        yield jobs
        yield GaugeMetricFamily(
            "diffuscope_waiting_jobs_limit",
            "Waiting jobs at which nobody may add a second.",
            studio.settings.max_waiting_jobs,
        )
        models = studio.manager.status()
        yield GaugeMetricFamily("diffuscope_loaded_models", "Models in memory.", len(models))
        taken = sum(model.size_bytes for model in models)
        yield GaugeMetricFamily("diffuscope_loaded_models_bytes", "What they take together.", taken)
