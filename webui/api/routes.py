"""The REST API under /api/v1: the same requests and jobs as the page, for programs.

Errors are {"error": {"key", "message"}} with a 4xx status, the message in the language of `Accept-Language`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from webui.api.files import list_files
from webui.api.inside import read_trace_request, recording_of
from webui.api.latents import (
    DECODE,
    ENCODE,
    decoded_as_dict,
    encoded_as_dict,
    read_decode_request,
    read_encode_request,
)
from webui.api.score import read_body, read_score_request
from webui.api.search import read_search_request
from webui.api.vision import CHECK, read_check_request, read_classify_request
from webui.diffusion.request_values import request_from_values
from webui.errors import UserError
from webui.i18n import accepted_language
from webui.prompts.request import prompt_request_from_values
from webui.runtime.entries import CLIP, TXT2IMG, VIT, CatalogEntry
from webui.runtime.jobs import Job, JobContext, JobState, Published
from webui.security.gate import VISITOR
from webui.security.payload import read_json_object
from webui.security.rules import Deed, may
from webui.store.gallery import SavedPicture
from webui.studio import Studio
from webui.tasks.clip import check_score, score_pictures
from webui.tasks.inside import TRACE, prepare_trace, record_run
from webui.tasks.latents import check_decode, check_encode, decode, encode
from webui.tasks.prompt import PROMPT, answer_as_dict, check_prompt, rewrite_prompt
from webui.tasks.search import check_search, found_as_dict, search_pictures
from webui.tasks.txt2img import draw_pictures, prepare_request
from webui.tasks.vision import check_before_checking, check_classify, check_pictures, classify_pictures

if TYPE_CHECKING:
    import numpy as np

    from webui.tasks.latents import DecodeRequest
    from webui.vision.request import ClassifyRequest
    from webui.vision.vit import Classification

T = TypeVar("T")
Asked = TypeVar("Asked")

PREFIX: Final = "/api/v1"
MAX_BODY_BYTES: Final = 256 * 1024
_STATUS: Final[Mapping[str, int]] = {
    "error.unknown_job": 404,
    "error.unknown_picture": 404,
    "error.no_recording": 404,
    "error.body_too_large": 413,
    "error.queue_full": 429,
    "error.queue_full_for_more": 429,
    "error.queue_full_for_owner": 429,
}
_RETRY_SECONDS: Final = "5"
"""Well within the time that the queue keeps a place."""
Endpoint = Callable[[Request], Awaitable[Response]]


def api_routes(studio: Studio) -> list[Route]:
    """The routes, to be put before Gradio's own; the gate before them knows who asks (`security.gate`)."""
    api = RestApi(studio)
    table: tuple[tuple[str, str, Endpoint], ...] = (
        ("GET", "/models", api.models),
        ("GET", "/samplers", api.samplers),
        ("GET", "/files", api.files),
        ("POST", "/generate", api.generate),
        ("POST", "/score", api.score),
        ("POST", "/search", api.search),
        ("POST", "/classify", api.classify),
        ("POST", "/check", api.check),
        ("POST", "/trace", api.trace),
        ("POST", "/encode", api.encode),
        ("POST", "/decode", api.decode),
        ("POST", "/prompt/{task}", api.prompt),
        ("GET", "/jobs/{job_id}", api.job),
        ("GET", "/jobs/{job_id}/trace", api.recording),
        ("POST", "/jobs/{job_id}/cancel", api.cancel),
        ("GET", "/jobs/{job_id}/pictures/{index:int}", api.picture),
    )
    return [Route(PREFIX + path, api.guarded(endpoint), methods=[method]) for method, path, endpoint in table]


@dataclass(frozen=True, slots=True)
class RestApi:
    """The endpoints over one studio."""

    studio: Studio

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """`endpoint` with UserError turned into an answer behind it."""

        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except UserError as error:
                return self._refusal(request, error)

        return answer

    async def models(self, request: Request) -> Response:
        """GET /models: what can draw; with ?task=clip what can score."""
        entries = await run_in_threadpool(self.studio.catalog.entries, request.query_params.get("task", TXT2IMG))
        return JSONResponse({"models": [_model(entry) for entry in entries]})

    async def samplers(self, _request: Request) -> Response:
        """GET /samplers: their names."""
        return JSONResponse({"samplers": self.studio.samplers.names()})

    async def files(self, request: Request) -> Response:
        """GET /files: LoRA, textual inversions and VAE files; with ?kind=lora, inversion or vae those alone."""
        return JSONResponse(await run_in_threadpool(list_files, self.studio, request.query_params.get("kind")))

    async def generate(self, request: Request) -> Response:
        """POST /generate: the fields of GenerateRequest as JSON; 202 with the job, to be asked about under /jobs."""
        values = await _json_object(request)
        asked = await run_in_threadpool(lambda: prepare_request(self.studio, request_from_values(values)))
        return _accepted(self._queued(request, TXT2IMG, draw_pictures, asked), parameters=asdict(asked))

    async def score(self, request: Request) -> Response:
        """POST /score: a ScoreRequest as JSON or a form; 202 with the job, whose answer has the matrices when done."""
        asked = await read_score_request(request, self.studio.settings)
        await run_in_threadpool(check_score, self.studio, asked)
        return _accepted(self._queued(request, CLIP, score_pictures, asked))

    async def search(self, request: Request) -> Response:
        """POST /search: a SearchRequest as JSON; 202 with the job, whose answer has `search` with the results."""
        body = await read_body(request, self.studio.settings.max_upload_mb << 20)
        asked = read_search_request(read_json_object(body))
        await run_in_threadpool(check_search, self.studio, asked, owner=self._for_owner)
        return _accepted(self._queued(request, "search", partial(search_pictures, owner=self._for_owner), asked))

    @property
    def _for_owner(self) -> bool:
        """Whether callers may see all folders and paths: where only this machine can reach us."""
        return may(self.studio.settings, Deed.SEE_SERVER_PATHS)

    async def classify(self, request: Request) -> Response:
        """POST /classify: a ClassifyRequest as JSON or a form; 202 with the job, whose answer has `classes`."""
        asked = await read_classify_request(request, self.studio.settings)
        await run_in_threadpool(check_classify, self.studio, asked)
        return _accepted(self._queued(request, VIT, _classify, asked))

    async def check(self, request: Request) -> Response:
        """POST /check: pictures and the prompt they were drawn from; 202 with the job, whose answer has `check`."""
        asked = await read_check_request(request, self.studio.settings)
        await run_in_threadpool(check_before_checking, self.studio, asked)
        return _accepted(self._queued(request, CHECK, check_pictures, asked))

    async def trace(self, request: Request) -> Response:
        """POST /trace: the fields of GenerateRequest and "all_heads"; 202 with the job that records the run."""
        read = read_trace_request(await _json_object(request))
        asked = await run_in_threadpool(prepare_trace, self.studio, read)
        job = self._queued(request, TRACE, record_run, asked)
        return _accepted(job, trace=f"{_location(job)}/trace", parameters=asdict(asked.generate))

    async def encode(self, request: Request) -> Response:
        """POST /encode: a picture for the VAE, JSON or form; 202 with the job, whose answer has `latent` when done."""
        asked = await read_encode_request(request, self.studio.settings)
        await run_in_threadpool(check_encode, self.studio, asked)
        return _accepted(self._queued(request, ENCODE, encode, asked))

    async def decode(self, request: Request) -> Response:
        """POST /decode: a latent as JSON; 202 with the job, whose answer has `picture` when done."""
        body = await read_body(request, self.studio.settings.max_upload_mb << 20)
        asked = await run_in_threadpool(lambda: read_decode_request(read_json_object(body)))
        await run_in_threadpool(check_decode, self.studio, asked)
        return _accepted(self._queued(request, DECODE, _decode, asked))

    async def recording(self, request: Request) -> Response:
        """GET /jobs/{id}/trace: the file that `diffuscope inspect` reads, of a job that has recorded."""
        return await run_in_threadpool(recording_of, self._job(request))

    async def prompt(self, request: Request) -> Response:
        """POST /prompt/{task}: a PromptRequest as JSON; 202 with the job, whose answer has the candidates when done."""
        values = await _json_object(request)
        asked = prompt_request_from_values(request.path_params["task"], values)
        await run_in_threadpool(check_prompt, self.studio, asked)
        return _accepted(self._queued(request, PROMPT, rewrite_prompt, asked))

    async def job(self, request: Request) -> Response:
        """GET /jobs/{id}: state, progress and, when there are any, pictures."""
        job = self._job(request)
        return JSONResponse(self._described(request, job))

    async def cancel(self, request: Request) -> Response:
        """POST /jobs/{id}/cancel: stop it; what is finished stays."""
        job = self._job(request)
        self.studio.jobs.cancel(job.id, _owner(request))
        return JSONResponse(self._described(request, job), 202)

    async def picture(self, request: Request) -> Response:
        """GET /jobs/{id}/pictures/{n}: the PNG file as it was saved, infotext included."""
        pictures = _pictures(self._job(request))
        index = int(request.path_params["index"])
        if index >= len(pictures):
            raise UserError("error.unknown_picture", index=index, count=len(pictures))
        return FileResponse(pictures[index].path, media_type="image/png")

    def _queued(
        self, request: Request, kind: str, work: Callable[[Studio, Asked, JobContext], T], asked: Asked
    ) -> Job[T]:
        """The job that does `work` for whoever asks; raises UserError when there is no room for it."""
        return self.studio.jobs.submit(partial(work, self.studio, asked), owner=_owner(request), kind=kind)

    def _job(self, request: Request) -> Job[Any]:
        return self.studio.jobs.get(request.path_params["job_id"], _owner(request))

    def _described(self, request: Request, job: Job[Any]) -> dict[str, Any]:
        pictures = _pictures(job)
        return {
            "job": job.id,
            "state": str(job.state),
            "position": job.position,
            "progress": asdict(job.progress) if job.progress is not None else None,
            "pictures": [
                {
                    "url": f"{PREFIX}/jobs/{job.id}/pictures/{index}",
                    "seed": picture.seed,
                    "width": picture.width,
                    "height": picture.height,
                    "infotext": picture.infotext,
                }
                for index, picture in enumerate(pictures)
            ],
            "error": self._error_of(request, job),
            **_answer(job),
            **self._found(job),
        }

    def _found(self, job: Job[Any]) -> dict[str, Any]:
        """What a search job has found; None until it has ended well."""
        if job.kind != "search":
            return {}
        done = job.state is JobState.DONE
        return {"search": found_as_dict(self.studio, job.result(), owner=self._for_owner) if done else None}

    def _error_of(self, request: Request, job: Job[Any]) -> dict[str, str] | None:
        """Why the job failed: a sentence for what the user can put right, a general one for a defect of ours."""
        if job.state is not JobState.FAILED:
            return None
        try:
            job.result()
        except UserError as error:
            return self._sentence(request, error)
        except Exception:  # noqa: BLE001 - the job has logged it
            return self._sentence(request, UserError("create.unexpected"))
        return None

    def _refusal(self, request: Request, error: UserError) -> Response:
        status = _STATUS.get(error.key, 400)
        headers = {"Retry-After": _RETRY_SECONDS} if status == 429 else None
        return JSONResponse({"error": self._sentence(request, error)}, status, headers)

    def _sentence(self, request: Request, error: UserError) -> dict[str, str]:
        language = accepted_language(request.headers.get("accept-language", ""), self.studio.settings.language or "en")
        return {"key": error.key, "message": self.studio.messages.error(language, error)}


def _owner(request: Request) -> str:
    """Whose jobs these are: the visitor's who has logged in; on this machine alone there is one owner of them all."""
    visitor = request.scope.get(VISITOR)
    return "api" if visitor is None else f"{visitor.id}/api"


async def _json_object(request: Request) -> dict[str, object]:
    """The body as a JSON object; raises UserError for anything else and for a body without measure."""
    return read_json_object(await read_body(request, MAX_BODY_BYTES))


def _model(entry: CatalogEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "title": entry.title,
        "licence": entry.licence,
        "size_bytes": entry.size_bytes,
        "default_width": entry.default_width,
        "default_height": entry.default_height,
        "size_multiple": entry.size_multiple,
        "languages": list(entry.languages),
        "usable": entry.problem is None,
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Classes:
    """What a classify job leaves, and how many labels of it were asked for."""

    count: int
    found: Classification


def _classify(studio: Studio, asked: ClassifyRequest, context: JobContext) -> _Classes:
    return _Classes(asked.count, classify_pictures(studio, asked, context))


def _decode(studio: Studio, asked: DecodeRequest, context: JobContext) -> np.ndarray:
    return decode(studio, asked.model, asked.latent, context)


def _location(job: Job[Any]) -> str:
    return f"{PREFIX}/jobs/{job.id}"


def _accepted(job: Job[Any], **more: object) -> Response:
    location = _location(job)
    return JSONResponse({"job": job.id, "url": location, **more}, 202, headers={"Location": location})


def _answer(job: Job[Any]) -> dict[str, Any]:
    """What a job of a kind that answers with figures has found; None until it has ended well."""
    described: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
        CLIP: ("scores", _scores), VIT: ("classes", _classes), CHECK: ("check", _check),
        PROMPT: ("answer", answer_as_dict), ENCODE: ("latent", encoded_as_dict), DECODE: ("picture", decoded_as_dict),
    }  # fmt: skip
    if job.kind not in described:
        return {}
    name, describe = described[job.kind]
    return {name: describe(job.result()) if job.state is JobState.DONE else None}


def _scores(result: Any) -> dict[str, Any]:
    from webui.clip.score import score_as_dict

    return score_as_dict(result)


def _classes(result: _Classes) -> dict[str, Any]:
    from webui.vision.vit import classification_as_dict

    return classification_as_dict(result.found, result.count)


def _check(result: Any) -> dict[str, Any]:
    from webui.vision.check import check_as_dict

    return check_as_dict(result)


def _pictures(job: Job[Any]) -> tuple[SavedPicture, ...]:
    """The pictures that are finished so far, of a job that runs or has ended."""
    pictures: list[SavedPicture] = []
    try:
        for event in job.events(timeout=0):
            match event:
                case Published(value=SavedPicture() as picture):
                    pictures.append(picture)
    except TimeoutError:  # the job goes on; what there is has been seen
        pass
    return tuple(pictures)
