"""Pictures of a request → answers, by one model or by two: decoded, computed in batches, logged and counted."""

import asyncio
import hashlib
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serve.batcher import Batcher, Computed
from serve.decoders import Decoded, Decoders
from serve.log import LINES, PICTURES, AnswerLog, Entry
from serve.metrics import Metrics
from serve.refused import Refused, Undecodable
from serve.settings import Settings
from serve.uploads import Held, Upload
from stages.common import escape
from stages.common.errors import UserError
from stages.common.softmax import softmax
from stages.onnx.classifier import OnnxClassifier, load

_DIGITS = 6
_VERSION_DIGITS = 12


class Version(NamedTuple):
    """A model in use: its name in answers and in the log, and what it computes with."""

    name: str
    classifier: OnnxClassifier
    batcher: Batcher


class Answer(NamedTuple):
    """Of one picture: what the network made of it, and what decoding said."""

    computed: Computed
    decoded: Decoded


def picture_id(request_id: str, number: int) -> str:
    """What a picture of a request is called in its answer, in the log and where it is kept."""
    return f"{request_id}-{number}"


def probability(answer: Answer, index: int) -> float:
    """Of the class `index`, as answers and log have it."""
    return round(float(answer.computed.probabilities[index]), _DIGITS)


class Service:
    """All that requests share."""

    def __init__(self, settings: Settings) -> None:
        """UserError where the model, the log or the folder for pictures cannot be used."""
        self.settings = settings
        self.metrics = Metrics()
        self.versions = [self._version(settings.model, settings.version)]
        if settings.second:
            self.versions.append(self._version(settings.second, settings.second_version))
        infos = [version.classifier.info for version in self.versions]
        # Of one picture, what the largest of the models sees.
        self.square_bytes = max(info.stored_size**2 * info.channels for info in infos)
        limits = settings.limits
        if (needed := limits.body_bytes + limits.pictures * self.square_bytes) > limits.held_bytes:
            raise UserError(
                f"--held-mib: expected {needed / 2**20:.1f} or more, for one request of {limits.pictures} pictures as "
                f"this model sees them; got {limits.held_bytes / 2**20:.1f}. Raise it, or lower --pictures."
            )
        self._decoders = Decoders(infos, settings.decoders, limits)
        self.log = AnswerLog(settings.log, settings.keep)
        self.stopping = False
        self.waiting = 0
        self._shadows: set[asyncio.Task[None]] = set()
        self._shadow_held = Held(settings.limits.held_bytes)
        self._watch()

    def _version(self, path: Path, name: str) -> Version:
        classifier = load(path, self.settings.threads)

        def compute(rows: np.ndarray) -> np.ndarray:
            return softmax(classifier.logits(rows))

        batcher = Batcher(compute, self.settings.batch, self.metrics.batch.observe)
        return Version(name or classifier.sha256[:_VERSION_DIGITS], classifier, batcher)

    def _watch(self) -> None:
        for version in self.versions:
            self.metrics.information.labels(version.name).set(1)
        watched = {
            "waiting_requests": ("Requests that arrive or wait for their answer.", lambda: self.waiting),
            "ready": ("1 while new requests are welcome.", lambda: not self.why_not_ready()),
            "decoders": ("Processes that decode pictures.", lambda: self._decoders.alive),
            "decoder_restarts": ("Processes that crashed or hung.", lambda: self._decoders.restarts),
            "log_lost_lines": ("Lines of the log that were not written.", lambda: self.log.lost[LINES]),
            "log_lost_pictures": ("Pictures that were not kept.", lambda: self.log.lost[PICTURES]),
        }
        for name, (text, value) in watched.items():
            self.metrics.watch(f"classifier_{name}", text, value)

    async def start(self) -> None:
        """Start to decode and to compute. Raises OSError and RuntimeError where a process cannot start."""
        await self._decoders.start()
        for version in self.versions:
            version.batcher.start()
            info = version.classifier.info
            # The first run of a network takes longer than those after it.
            await version.batcher.computed(np.zeros((info.stored_size, info.stored_size, info.channels), np.uint8))

    async def stop(self) -> None:
        """End everything; the log has all lines then."""
        for task in self._shadows:
            task.cancel()
        await self._decoders.stop()
        for version in self.versions:
            await version.batcher.stop()
        await asyncio.to_thread(self.log.close)

    def why_not_ready(self) -> str:
        """Why no new request should come; empty where they may."""
        if self.stopping:
            return "stopping"
        return "" if self._decoders.alive else "no process decodes pictures at present"

    def problems(self) -> list[str]:
        """What a person should see to, though requests are answered."""
        named = {LINES: "log", PICTURES: "kept pictures"}
        return [f"{named[what]}: not written: {reason}" for what, reason in self.log.problems.items() if reason]

    def chosen(self, request_id: str) -> int:
        """Which version answers a request: a function of its id, so that the same id gets the same one."""
        if not self.settings.share:
            return 0
        digest = hashlib.sha256(request_id.encode()).digest()
        return int(int.from_bytes(digest[:8], "big") < self.settings.share * 2**64)

    async def answer(self, request_id: str, uploads: list[Upload], started: float) -> tuple[Version, list[Answer]]:
        """All pictures of a request. Raises Refused, which names each picture that is none."""
        index = self.chosen(request_id)
        answers = await self._answers(index, uploads)
        version = self.versions[index]
        self._record(request_id, version, answers, uploads, started)
        if self.settings.shadow:
            self._shadow(request_id, uploads, started)
        return version, answers

    async def _answers(self, index: int, uploads: list[Upload]) -> list[Answer]:
        decoded = await asyncio.gather(
            *(self._decoders.decode(upload.data, index) for upload in uploads), return_exceptions=True
        )
        pictures: list[Decoded] = []
        wrong = []
        for upload, result in zip(uploads, decoded, strict=True):
            if isinstance(result, Undecodable):
                wrong.append(f"{escape.terminal(upload.name)}: {result}" if upload.name else str(result))
            elif isinstance(result, BaseException):
                raise result
            else:
                pictures.append(result)
        if wrong:
            text = f"{len(wrong)} of {len(uploads)} cannot be read as a picture: {'; '.join(wrong)}."
            raise Refused(422, "picture", text)
        batcher = self.versions[index].batcher
        computed = await asyncio.gather(*(batcher.computed(picture.row) for picture in pictures))
        return list(map(Answer, computed, pictures))

    def _record(
        self, request_id: str, version: Version, answers: list[Answer], uploads: Iterable[Upload], started: float
    ) -> None:
        seconds = round(time.monotonic() - started, 4)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines: list[Mapping[str, Any]] = []
        for number, answer in enumerate(answers):
            best = answer.computed.order[0]
            label = version.classifier.info.classes[best]
            self.metrics.answers.labels(version.name, label).inc()
            lines.append(
                {
                    "time": now,
                    "id": picture_id(request_id, number),
                    "class": label,
                    "confidence": probability(answer, best),
                    "width": answer.decoded.width,
                    "height": answer.decoded.height,
                    "version": version.name,
                    "seconds": seconds,
                    "note": answer.decoded.note,
                }
            )
        pictures: dict[str, bytes] = {}
        if self.log.keeps:
            pictures = {picture_id(request_id, number): upload.data for number, upload in enumerate(uploads)}
        self.log.put(Entry(lines, pictures))

    def _shadow(self, request_id: str, uploads: list[Upload], started: float) -> None:
        """Have the second model answer, too, for the log alone; or not, where it is behind already."""
        if len(self._shadows) >= self.settings.limits.waiting or self.stopping:
            self.metrics.shadow_dropped.inc()
            return
        task = asyncio.create_task(self._answer_unseen(request_id, uploads, started))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _answer_unseen(self, request_id: str, uploads: list[Upload], started: float) -> None:
        try:
            with self._shadow_held.share() as share:
                share.take(sum(len(upload.data) + self.square_bytes for upload in uploads))
                async with asyncio.timeout(self.settings.limits.answer_seconds):
                    answers = await self._answers(1, uploads)
        except (Refused, TimeoutError) as error:
            self.metrics.shadow_dropped.inc()
            print(f"serve: shadow: {request_id}: {str(error) or 'too late'}", file=sys.stderr)
        else:
            self._record(request_id, self.versions[1], answers, [], started)
