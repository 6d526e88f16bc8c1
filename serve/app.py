"""The routes: HTTP to the service and back. Every answer but that of /metrics is a JSON object; a request that is
refused gets one with the one key `error`."""

import asyncio
import re
import secrets
import time
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.refused import Refused
from serve.service import Answer, Service, Version, picture_id, probability
from serve.uploads import Held, Upload, read

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RETRY_SECONDS = "1"
_TOP = 3
_PATHS = "POST /predict or GET /health, /ready, /version, /metrics"


def make_app(service: Service) -> ASGIApp:
    """The ASGI application."""
    limits = service.settings.limits
    held = Held(limits.held_bytes)
    metrics = service.metrics

    async def predict(request: Request) -> Response:
        started = time.monotonic()
        response: Response
        try:
            response = await answered(request, started)
        except Refused as refused:
            metrics.refused.labels(refused.kind).inc()
            response = error(refused.status, str(refused))
        except ClientDisconnect:
            # Nobody reads it; 499 as nginx counts it.
            metrics.refused.labels("gone").inc()
            response = error(499, "The client has gone.")
        except Exception:
            metrics.requests.labels(500).inc()
            raise
        metrics.requests.labels(response.status_code).inc()
        metrics.seconds.observe(time.monotonic() - started)
        return response

    async def answered(request: Request, started: float) -> Response:
        request_id = request.headers.get("x-request-id") or secrets.token_hex(8)
        if not _ID.fullmatch(request_id):
            raise Refused(422, "id", "X-Request-ID: expected 1 to 64 letters, digits, and ._- after the first.")
        top = top_of(request, min(len(version.classifier.info.classes) for version in service.versions))
        if service.waiting >= limits.waiting:
            raise Refused(503, "waiting", f"{limits.waiting} requests wait for their answer, as many as may.")
        service.waiting += 1
        try:
            with held.share() as share:
                uploads = await read(request, limits, share)
                share.take(len(uploads) * service.square_bytes)
                try:
                    async with asyncio.timeout(limits.answer_seconds):
                        version, answers = await service.answer(request_id, uploads, started)
                except TimeoutError:
                    text = f"Not answered within {limits.answer_seconds:g} s, as there is too much to do."
                    raise Refused(503, "late", text) from None
        finally:
            service.waiting -= 1
        return as_json(request_id, version, uploads, answers, top)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        reason = service.why_not_ready()
        return JSONResponse(
            {"ready": not reason, "reason": reason, "problems": service.problems()}, 503 if reason else 200
        )

    async def version(request: Request) -> Response:
        return JSONResponse({"models": [described(service, version) for version in service.versions]})

    async def metrics_text(request: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app = Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/health", health),
            Route("/ready", ready),
            Route("/version", version),
            Route("/metrics", metrics_text),
        ],
        exception_handlers={HTTPException: not_here, Exception: broken},
    )
    # One path, one meaning: no redirects of paths with a slash at their end.
    app.router.redirect_slashes = False
    return Closing(app, service)


def top_of(request: Request, classes: int) -> int:
    """How many classes the answer names. Raises Refused."""
    text = request.query_params.get("top", str(min(_TOP, classes)))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= classes:
        raise Refused(422, "top", f"top: expected an integer from 1 to {classes}, the number of classes.")
    return int(text)


def as_json(request_id: str, version: Version, uploads: list[Upload], answers: list[Answer], top: int) -> Response:
    """The answer to a request."""
    classes = version.classifier.info.classes
    predictions = [
        {
            "id": picture_id(request_id, number),
            "name": upload.name,
            "class": classes[answer.computed.order[0]],
            "confidence": probability(answer, answer.computed.order[0]),
            "top": {classes[index]: probability(answer, index) for index in answer.computed.order[:top]},
            "note": answer.decoded.note,
        }
        for number, (upload, answer) in enumerate(zip(uploads, answers, strict=True))
    ]
    model = {"version": version.name, "sha256": version.classifier.sha256}
    return JSONResponse({"model": model, "predictions": predictions}, headers={"x-request-id": request_id})


def described(service: Service, version: Version) -> dict[str, Any]:
    """What /version says of a model."""
    info = version.classifier.info
    is_first = version is service.versions[0]
    return {
        "version": version.name,
        "commit": service.settings.commit if is_first else "",
        "sha256": {"model.onnx": version.classifier.sha256} | info.sha256,
        "architecture": info.architecture,
        "classes": info.classes,
        "image_size": info.image_size,
        "pretrained": info.pretrained,
        "versions": info.versions,
    }


def error(status: int, text: str) -> Response:
    """What a request gets that is not answered."""
    headers = {"retry-after": _RETRY_SECONDS} if status == 503 else {}
    return JSONResponse({"error": text}, status, headers)


async def not_here(request: Request, exception: Exception) -> Response:
    """Of a path or a method that there is not."""
    assert isinstance(exception, HTTPException)
    response = error(exception.status_code, f"{exception.detail}: expected {_PATHS}.")
    response.headers.update(exception.headers or {})
    return response


async def broken(request: Request, exception: Exception) -> Response:
    """A mistake of the program: said to its operator, not to the client."""
    return error(500, "The service could not answer; its operator finds the reason on its standard error.")


class Closing:
    """Asks clients to open new connections while the service stops: a load balancer sends those elsewhere."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._service.stopping:
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_closing)
