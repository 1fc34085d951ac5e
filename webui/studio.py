"""The services of one running program, made once and passed to whatever needs them."""

from __future__ import annotations

from dataclasses import dataclass

from webui.clip.cache import EmbeddingCache
from webui.diffusion.previews import PreviewMaps
from webui.diffusion.prompt import PromptTokenizers
from webui.diffusion.samplers import SHIPPED_SAMPLERS, Samplers
from webui.hooks import Hooks, ModelLoaded
from webui.i18n import Messages, load_messages
from webui.runtime.catalog import Catalog, open_catalog
from webui.runtime.download import Downloader
from webui.runtime.downloads import DownloadBoard
from webui.runtime.entries import ModelKey
from webui.runtime.hub_cache import hub_cache_dir
from webui.runtime.jobs import JobQueue
from webui.runtime.known import KnownModel, known_models
from webui.runtime.manager import ModelManager
from webui.runtime.memory import GIB
from webui.search.service import PictureSearch
from webui.settings import Settings
from webui.store.album import Album
from webui.store.gallery import Gallery
from webui.store.links import PictureLinks
from webui.vision.pictures import PictureLimits


@dataclass(frozen=True, slots=True)
class Studio:
    """Everything a page, a REST route or a command works with; no model is loaded by making it."""

    settings: Settings
    messages: Messages
    catalog: Catalog
    manager: ModelManager
    jobs: JobQueue
    gallery: Gallery
    album: Album
    previews: PreviewMaps
    tokenizers: PromptTokenizers
    embeddings: EmbeddingCache
    search: PictureSearch
    links: PictureLinks
    hooks: Hooks
    downloads: DownloadBoard
    known: tuple[KnownModel, ...]
    """Models that people ask for by name, those of extensions too."""
    samplers: Samplers
    """What can be drawn with, those of extensions too."""

    def close(self) -> None:
        """Stop the downloads and the jobs, then let the models go."""
        self.downloads.close()
        self.jobs.close()
        self.manager.close()


def open_studio(settings: Settings) -> Studio:
    """Make the services for `settings`; close the studio when done."""
    catalog = open_catalog(settings)
    budget = settings.memory_budget_gb
    hooks = Hooks()
    gallery = Gallery(settings.outputs_dir)
    jobs = JobQueue(
        max_waiting=settings.max_waiting_jobs,
        max_waiting_per_user=settings.max_waiting_jobs_per_user,
        max_waiting_users=settings.max_waiting_users,
    )

    def loaded(key: ModelKey, seconds: float) -> None:
        jobs.serve_on(manager.accelerators())  # which are not known before a model library is there
        hooks.tell(ModelLoaded(key.task, key.name, seconds))

    manager = ModelManager(
        catalog.roots,
        None if budget is None else int(budget * GIB),
        on_loaded=loaded,
        device_here=jobs.accelerator_here,
    )
    if settings.idle_unload_minutes > 0:
        manager.start_idle_timer(settings.idle_unload_minutes * 60)
    return Studio(
        settings=settings,
        messages=load_messages(),
        catalog=catalog,
        manager=manager,
        jobs=jobs,
        gallery=gallery,
        album=Album(gallery, settings.data_dir / "favourites.json"),
        previews=PreviewMaps(),
        tokenizers=PromptTokenizers(),
        embeddings=EmbeddingCache(),
        search=PictureSearch(
            settings.data_dir,
            settings.outputs_dir,
            PictureLimits(max_pixels=settings.score_limits.max_picture_pixels),
        ),
        links=PictureLinks(),
        hooks=hooks,
        downloads=DownloadBoard(Downloader(hub_cache_dir())),
        known=known_models(),
        samplers=SHIPPED_SAMPLERS,
    )
