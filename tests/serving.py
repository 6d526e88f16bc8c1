"""A model of three colours as `make export` writes one, and the service on loopback, for tests."""

import http.client
import io
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from stages.onnx.classifier import INPUT, OUTPUT
from stages.onnx.description import KEY, MADE_OF, Description
from stages.onnx.sealed import seal
from tests.project import COLD, ROOT, user_environment

COLOURS = ["red", "green", "blue"]
COLOURED = Description(
    architecture="colours",
    classes=COLOURS,
    channels=3,
    image_size=8,
    stored_size=8,
    resize="crop",
    tta_flip=False,
    opset=18,
    versions={},
    sha256=dict.fromkeys(MADE_OF, "0" * 64),
    pretrained=None,
)


_PATIENCE_SECONDS = 60


def until(condition: Callable[[], object]) -> None:
    """Return when it holds, as it will soon."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end


class Running(NamedTuple):
    """The service: its port, and its process, whose messages after the first line are to be read from stderr."""

    port: int
    process: subprocess.Popen[str]

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """The status, the JSON and the headers of an answer; `content_type` is Content-Type."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            content = response.read()
            return response.status, json.loads(content), {name.lower(): text for name, text in response.getheaders()}
        finally:
            connection.close()

    def predict(self, *pictures: bytes, query: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
        """Of one picture as the body, or of several in a form."""
        if len(pictures) == 1:
            body, kind = pictures[0], "application/octet-stream"
        else:
            body, kind = form(*((f"{number}.png", data) for number, data in enumerate(pictures)))
        status, answer, _ = self.ask("POST", f"/predict{query}", body, **({"content_type": kind} | headers))
        return status, answer

    def wait_for_waiting(self, count: int) -> None:
        """Return when so many requests have begun and are not answered."""
        until(lambda: self.metrics()["classifier_waiting_requests"] == count)

    def metrics(self) -> dict[str, float]:
        """All that /metrics says, by name and labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@contextmanager
def serving(model: Path, *options: str | Path, **environment: str) -> Iterator[Running]:
    """`python -m serve` on a free port; killed at the end, unless it has ended."""
    command: list[str | Path] = [
        COLD / "bin/python",
        "-m",
        "serve",
        "--model",
        model,
        "--port",
        "0",
        "--decoders",
        "1",
        "--threads",
        "1",
    ]
    with subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        env=user_environment(**environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr
            first = process.stderr.readline()
            found = re.search(r"on http://127\.0\.0\.1:(\d+)/$", first)
            assert found, first + process.stderr.read()
            yield Running(int(found[1]), process)
        finally:
            process.kill()


def write_model(path: Path, factor: float = 0.1, **changes: Any) -> Path:
    """A network whose logits are the means of the channels, times `factor`: a red picture is red."""
    description = replace(COLOURED, **changes)
    side, channels = description.stored_size, description.channels
    constants = {"axes": np.array([1, 2]), "factor": np.array(factor, np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["means"], keepdims=0),
            helper.make_node("Mul", ["means", "factor"], [OUTPUT]),
        ],
        "colours",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", side, side, channels])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", len(description.classes)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", description.opset)], ir_version=10)
    proto.metadata_props.add(key=KEY, value=description.to_json())
    onnx.checker.check_model(proto)
    path.write_bytes(seal(proto.SerializeToString(deterministic=True)))
    return path


def picture(colour: tuple[int, int, int], width: int = 12, height: int = 10, kind: str = "PNG") -> bytes:
    """A picture of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, kind)
    return stream.getvalue()


def form(*files: tuple[str, bytes], field: str = "image") -> tuple[bytes, str]:
    """The body of a form with files, and its Content-Type."""
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in files
    ]
    return b"".join([*parts, b"--b--\r\n"]), "multipart/form-data; boundary=b"
