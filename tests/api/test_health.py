from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient

from webui.api.health import health_routes
from webui.settings import Settings
from webui.studio import Studio


@pytest.fixture
def client(studio: Studio) -> TestClient:
    return TestClient(Starlette(routes=health_routes(studio)))


def test_a_server_that_answers_is_healthy(client: TestClient) -> None:
    assert client.get("/healthz").text == "ok\n"


def test_a_server_that_can_draw_is_ready(client: TestClient) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "missing": []})


def test_what_is_missing_is_said_without_folders(client: TestClient, studio: Studio) -> None:
    shutil.rmtree(studio.settings.models_dir)
    studio.settings.outputs_dir.mkdir()
    studio.jobs.close()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "workers" in answer.json()["missing"]
    assert str(studio.settings.data_dir) not in answer.text


def test_metrics_count_the_jobs_and_the_models(client: TestClient, studio: Studio) -> None:
    studio.jobs.submit(lambda _context: None, owner="ann", kind="txt2img").result(timeout=60)
    told = client.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain")
    found = {family.name: family for family in text_string_to_metric_families(told.text)}
    jobs = {(s.labels["kind"], s.labels["state"]): s.value for s in found["diffuscope_jobs"].samples}
    assert jobs == {("txt2img", "done"): 1}
    assert found["diffuscope_loaded_models"].samples[0].value == 0
    assert found["diffuscope_waiting_jobs_limit"].samples[0].value == studio.settings.max_waiting_jobs
    assert "ann" not in told.text


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        (Settings, True),
        (lambda: Settings(metrics=False), False),
        (lambda: Settings(share=True), False),
        (lambda: Settings(share=True, metrics=True), True),
    ],
)
def test_a_shared_page_has_metrics_only_when_asked(
    studio: Studio, settings: Callable[[], Settings], there: bool
) -> None:
    client = TestClient(Starlette(routes=health_routes(replace(studio, settings=settings()))))
    assert (client.get("/metrics").status_code == 200) is there
