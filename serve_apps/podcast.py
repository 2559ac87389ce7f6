"""The podcast service on Ray Serve: ingress, diarizer, emotion model and, if one is named, transcriber as deployments.

Only bindings; the work is in moodcast.

    serve run serve_apps.podcast:app        or        moodcast serve

Settings come from the environment (moodcast.service.settings: MOODCAST_BUNDLE, MOODCAST_MAX_MB, ...), or by name to `build`:
`serve run serve_apps.podcast:build bundle=my/bundle max_mb=50`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import ray
import torch
from fastapi import FastAPI
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from moodcast.answer import Answer
from moodcast.cluster.serve import set_up_replica, stay_on_loopback
from moodcast.diarize import Diarizer as AnyDiarizer
from moodcast.diarize import Turn
from moodcast.pipelines import checked, open_diarizer
from moodcast.podcast import load_listener
from moodcast.service.api import About, build_app
from moodcast.service.errors import ServiceError
from moodcast.service.settings import Settings, from_environment
from moodcast.transcribe import open_transcriber

Wave = NDArray[np.float32]
Said = tuple[Wave, str | None]
T = TypeVar("T")

TRIES = 3  # a call whose replica died is made again: the models hold no state


@serve.deployment(name="Emotion", ray_actor_options={"num_cpus": 0.4})
class Emotion:
    """The emotion model. Calls of all requests that come close in time are answered as one batch of at most `batch_s` seconds."""

    def __init__(self, settings: Settings) -> None:
        set_up_replica()
        torch.set_num_threads(settings.torch_threads)
        bundle = load_listener(settings.bundle)
        self.cooled, self.bundle = bundle.calibration.cooled, bundle.in_conversations
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="emotion")
        self.batches = self.calls = self.stretches = self.largest = 0

        def size(calls: list[list[Said]]) -> int:
            return sum(min(settings.batch_s, math.ceil(sum(len(wave) for wave, _ in call) / self.bundle.rate)) for call in calls)

        batched = serve.batch(max_batch_size=settings.batch_s, batch_wait_timeout_s=settings.batch_wait_s, batch_size_fn=size)
        self.batched = batched(self.answer_all)

    async def answer(self, waves: list[Wave], texts: list[str | None] | None = None) -> list[Answer]:
        """The emotion of each stretch [N]; texts: what is said in them, for a bundle that reads."""
        return await self.batched(list(zip(waves, texts or [None] * len(waves), strict=True)))

    async def answer_all(self, calls: list[list[Said]]) -> list[list[Answer]]:
        """Several calls as one batch, off the event loop, so that the next one fills meanwhile."""
        waves = [wave for call in calls for wave, _ in call]
        texts = [text for call in calls for _, text in call]
        self.batches += 1
        self.calls += len(calls)
        self.stretches += len(waves)
        self.largest = max(self.largest, len(calls))
        answers = iter(await asyncio.get_running_loop().run_in_executor(self.worker, self.bundle.answer, waves, texts))
        return [list(itertools.islice(answers, len(call))) for call in calls]

    async def about(self) -> dict[str, Any]:
        """What the bundle is."""
        names = {"bundle": self.bundle.name, "bundle_sha256": self.bundle.sha256, "rate": self.bundle.rate}
        bound = self.bundle.calibration.min_confidence
        answers = {"classes": self.bundle.classes, "attributes": self.bundle.run.labels.attributes, "reads": self.bundle.reads}
        return {**names, **answers, "min_confidence": bound, "cooled": self.cooled}

    async def counters(self) -> dict[str, float]:
        """How well batching works, in this replica; largest_batch counts calls."""
        return {"batches": self.batches, "calls": self.calls, "stretches": self.stretches, "largest_batch": self.largest}


@serve.deployment(name="Diarizer", ray_actor_options={"num_cpus": 0.4}, max_ongoing_requests=16)
class Diarizer:
    """Who speaks when. One recording at a time; those whose client left while they waited are dropped."""

    def __init__(self, settings: Settings) -> None:
        set_up_replica()
        torch.set_num_threads(settings.torch_threads)
        self.diarizer = diarizer_of(settings)
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="diarizer")

    async def turns(self, wave: Wave, rate: int, hints: dict[str, int]) -> list[Turn]:
        """The turns of a recording [N] at `rate` Hz."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, lambda: self.diarizer.diarize(wave, rate, **hints))

    async def about(self) -> dict[str, Any]:
        """Its name, as in a timeline's provenance."""
        return {"diarizer": self.diarizer.name}


def diarizer_of(settings: Settings) -> AnyDiarizer:
    """The diarizer that the settings name, else the embedded one; voices by their voiceprint, unless a pipeline brings its own."""
    return checked(open_diarizer(settings.diarizer, trust_checkpoint=settings.trust_checkpoint, voiceprint=settings.voiceprint))


@serve.deployment(name="Transcriber", ray_actor_options={"num_cpus": 0.4})
class Transcriber:
    """What was said. Only there where the settings name a recogniser."""

    def __init__(self, settings: Settings) -> None:
        set_up_replica()
        torch.set_num_threads(settings.torch_threads)
        self.transcriber = open_transcriber(settings.transcriber, settings.language or None)
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="transcriber")

    async def texts(self, waves: list[Wave], rate: int) -> list[str]:
        """The words of each stretch [N] at `rate` Hz."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, self.transcriber.transcribe, waves, rate)

    async def about(self) -> dict[str, Any]:
        """Its name, as in a timeline's provenance."""
        return {"transcriber": self.transcriber.name}


class Remote:
    """The models behind their handles: a moodcast.service.api.Backend."""

    def __init__(self, diarizer: DeploymentHandle, emotion: DeploymentHandle, transcriber: DeploymentHandle | None = None) -> None:
        self.diarizer = diarizer
        self.emotion = emotion
        self.transcriber = transcriber
        self.known: About | None = None

    async def about(self) -> About:
        """What the models are, asked once."""
        if self.known is None:
            models = [model for model in (self.emotion, self.diarizer, self.transcriber) if model is not None]
            told = await asyncio.gather(*(again(model.about.remote) for model in models))
            self.known = About(**{name: value for part in told for name, value in part.items()})
        return self.known

    async def diarize(self, wave: Wave, rate: int, hints: dict[str, int]) -> list[Turn]:
        """The recording goes through the object store once, without a copy at the other end."""
        reference = await asyncio.to_thread(ray.put, np.asarray(wave))
        return await again(lambda: self.diarizer.turns.remote(reference, rate, hints))

    async def feel(self, waves: list[Wave], texts: list[str | None] | None = None) -> list[Answer]:
        """Batching across requests happens where the model is."""
        arrays = [np.asarray(wave) for wave in waves]
        return await again(lambda: self.emotion.answer.remote(arrays, texts))

    async def transcribe(self, waves: list[Wave]) -> list[str]:
        """What is said in each stretch."""
        if self.transcriber is None:
            return [""] * len(waves)
        about, arrays, model = await self.about(), [np.asarray(wave) for wave in waves], self.transcriber
        return await again(lambda: model.texts.remote(arrays, about.rate))

    async def counters(self) -> dict[str, float]:
        """The emotion model's counters."""
        return await again(self.emotion.counters.remote)


async def again(call: Callable[[], Awaitable[T]]) -> T:
    """Await a call, and make it again where its replica died under it. Raises ServiceError 503 where that does not help."""
    for _ in range(TRIES):
        try:
            return await call()
        except RayActorError as error:
            died = error
    raise ServiceError(503, "unavailable", "a model's process died and did not come back", "try again later", retry_after_s=10) from died


@serve.deployment(name="Api", ray_actor_options={"num_cpus": 0.2})
@serve.ingress()
class Api:
    """The HTTP ingress."""

    def __init__(
        self, settings: Settings, diarizer: DeploymentHandle, emotion: DeploymentHandle, transcriber: DeploymentHandle | None = None
    ) -> None:
        set_up_replica()
        self.settings = settings
        self.backend = Remote(diarizer, emotion, transcriber)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica, where handles and event loop are."""
        return build_app(self.backend, self.settings)


def build(args: dict[str, str]) -> Application:
    """The application with settings by name, over those of the environment."""
    stay_on_loopback()
    settings = from_environment(args)
    emotion = Emotion.options(num_replicas=settings.emotion_replicas, max_ongoing_requests=2 * settings.batch_s)
    api = Api.options(max_ongoing_requests=settings.max_running + settings.max_waiting + 20)  # room for /v1/health and refusals
    writers = [Transcriber.bind(settings)] if settings.transcriber else []
    return api.bind(settings, Diarizer.bind(settings), emotion.bind(settings), *writers)


app = build({})
