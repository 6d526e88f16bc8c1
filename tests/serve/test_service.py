"""The service as its clients see it: a real server, and what it answers, refuses, and writes."""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serve import settings
from serve.server import listen
from serve.service import Service
from serve.uploads import Upload
from stages.common.errors import UserError
from stages.common.softmax import softmax
from stages.onnx.classifier import load
from stages.prepare.picture import decode
from stages.prepare.seen import as_seen
from tests.project import COLD, ROOT, refusal, run
from tests.serving import COLOURS, Running, form, picture, serving, until, write_model
from tests.test_dvc_yaml import PYPROJECT, import_closure

RED, GREEN, BLUE = (250, 10, 30), (0, 200, 100), (10, 20, 90)
LIMITS = (
    "--body-mib 0.1 --held-mib 0.15 --pictures 3 --megapixels 0.01 --receive-seconds 60 --waiting 3 --connections 6"
).split()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log.jsonl"


@pytest.fixture(scope="module")
def service(model: Path, log: Path) -> Iterator[Running]:
    """With limits that are soon reached."""
    with serving(model, "--version", "v1.0", "--commit", "c0ffee", "--log", log, *LIMITS) as running:
        yield running


def test_answers_are_those_of_the_model(model: Path, service: Running) -> None:
    """Of every kind of picture, one or many, the very probabilities that reading and computing give here."""
    pictures = [picture(RED), picture(GREEN, 30, 9, "JPEG"), picture(BLUE, 8, 8, "WEBP")]
    classifier = load(model, 1)
    rows = np.stack([as_seen(decode(data), 8, "crop", 3).pixels for data in pictures])
    expected = softmax(classifier.logits(rows)).round(6)
    status, answer = service.predict(*pictures, query="?top=3", X_Request_ID="mine")
    assert status == 200
    assert answer["model"]["version"] == "v1.0"
    found = answer["predictions"]
    assert [prediction["class"] for prediction in found] == COLOURS
    assert [prediction["id"] for prediction in found] == ["mine-0", "mine-1", "mine-2"]
    assert [prediction["name"] for prediction in found] == ["0.png", "1.png", "2.png"]
    for prediction, row in zip(found, expected, strict=True):
        assert list(prediction["top"].values()) == sorted(row.tolist(), reverse=True)
        assert prediction["confidence"] == max(row)
        assert {prediction["top"][colour] for colour in COLOURS} == set(row.tolist())
    alone = [service.predict(data)[1]["predictions"][0] for data in pictures]
    assert [prediction["top"] for prediction in alone] == [prediction["top"] for prediction in found]


def test_what_it_says_of_itself(service: Running) -> None:
    assert service.ask("GET", "/health")[:2] == (200, {"status": "ok"})
    assert service.ask("GET", "/ready")[:2] == (200, {"ready": True, "reason": "", "problems": []})
    (described,) = service.ask("GET", "/version")[1]["models"]
    assert (described["version"], described["commit"], described["classes"]) == ("v1.0", "c0ffee", COLOURS)
    before = service.metrics()
    service.predict(picture(RED))
    after = service.metrics()
    name = 'classifier_answers_total{class="red",version="v1.0"}'
    assert after[name] == before.get(name, 0) + 1
    assert after["classifier_seconds_count"] == before["classifier_seconds_count"] + 1


def test_a_line_in_the_log_for_each_picture(service: Running, log: Path) -> None:
    """And none of names and of what was refused."""
    service.predict(picture(GREEN, 40, 20), picture(BLUE), X_Request_ID="logged")
    service.predict(b"no picture", X_Request_ID="refused")
    service.predict(picture(RED), X_Request_ID="last")
    until(lambda: '"last-0"' in log.read_text())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    first, second = (line for line in lines if str(line["id"]).startswith("logged"))
    assert list(first) == "time id class confidence width height version seconds note".split()
    assert (first["class"], first["width"], first["height"], first["version"]) == ("green", 40, 20, "v1.0")
    assert (second["id"], second["class"]) == ("logged-1", "blue")
    assert not any(str(line["id"]).startswith("refused") for line in lines)


FORM = form(("a.png", picture(RED)))
REFUSED = {
    "text": (415, "Content-Type", b"x", {"content_type": "text/plain"}),
    "no type": (415, "Content-Type", picture(RED), {}),
    "compressed": (415, "Content-Encoding", picture(RED), {"content_type": "image/png", "content_encoding": "gzip"}),
    "empty": (422, "The body is empty", b"", {"content_type": "image/png"}),
    "no picture": (422, "1 of 1 cannot be read", b"<html>", {"content_type": "image/png"}),
    "cut off": (422, "1 of 1 cannot be read", picture(RED)[:45], {"content_type": "image/png"}),
    "pixels": (422, "101×100 pixels; at most 10,000", picture(RED, 101, 100), {"content_type": "image/png"}),
    "bytes": (413, "at most 104,858", b"x" * 104_859, {"content_type": "image/png"}),
    "id": (422, "X-Request-ID", picture(RED), {"content_type": "image/png", "x_request_id": "../etc"}),
    "form without boundary": (422, "boundary", FORM[0], {"content_type": "multipart/form-data"}),
    "form cut off": (422, "last boundary", FORM[0][:-5], {"content_type": FORM[1]}),
    "no form": (422, "form cannot be read", b"x" * 100, {"content_type": FORM[1]}),
    "empty form": (422, "form", b"--b--\r\n", {"content_type": FORM[1]}),
    "field": (422, "'image' is no file", FORM[0].replace(b'; filename="a.png"', b""), {"content_type": FORM[1]}),
    "headers of a part": (422, "eader", FORM[0].replace(b"\r\n\r\n", b"\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 1),
                          {"content_type": FORM[1]}),
    "pictures": (413, "More than 3", form(*[("a", picture(RED))] * 4)[0], {"content_type": FORM[1]}),
    "one of two": (422, "1 of 2 cannot be read as a picture: b\\x1b.png: ",
                   form(("a.png", picture(RED)), ("b\x1b.png", b"?"))[0], {"content_type": FORM[1]}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(service: Running, case: str) -> None:
    """With a status and one sentence."""
    status, text, body, headers = REFUSED[case]
    found, answer, _ = service.ask("POST", "/predict", body, **headers)
    assert found == status
    assert answer.keys() == {"error"}
    assert text in answer["error"]


@pytest.mark.parametrize("path", ["/", "/predict/", "/../etc/motd", "/%2e%2e/predict", "/predict/..%2f", "//health"])
def test_other_paths(service: Running, path: str) -> None:
    status, answer, _ = service.ask("GET", path)
    assert (status, list(answer)) == (404, ["error"])


def test_other_methods_and_queries(service: Running) -> None:
    assert service.ask("GET", "/predict")[0] == 405
    assert service.ask("POST", "/health", b"")[0] == 405
    for top in ("0", "4", "x", "-1", "%C2%B2"):
        status, answer, _ = service.ask("POST", f"/predict?top={top}", b"x")
        assert (status, "top" in answer["error"]) == (422, True)


def connected(service: Running, text: bytes) -> socket.socket:
    """A connection on which something was sent."""
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=60)
    connection.sendall(text)
    return connection


def received(connection: socket.socket) -> bytes:
    """All that comes until the end, which may come before all was sent."""
    blocks = []
    with connection, contextlib.suppress(ConnectionResetError):
        while block := connection.recv(65536):
            blocks.append(block)
    return b"".join(blocks)


HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"


def test_clients_that_are_slow(model: Path) -> None:
    """Each ends in the time for a request to arrive, with an answer where one can be understood."""
    slow = {
        b"": b"",
        HEAD: b"HTTP/1.1 408",
        HEAD + b"Content-Length: 9\r\n\r\nx": b"HTTP/1.1 408",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc": b"HTTP/1.1 408",
    }
    with serving(model, "--receive-seconds", "0.5") as service:
        connections = [connected(service, text) for text in slow]
        for connection, beginning in zip(connections, slow.values(), strict=True):
            assert received(connection)[:12] == beginning


def test_clients_without_end_or_sense(service: Running) -> None:
    assert received(connected(service, b"\x16\x03\x01 TLS"))[:12] == b"HTTP/1.1 400"
    assert received(connected(service, HEAD + b"X-A: " + b"a" * 400_000))[:12] in (b"HTTP/1.1 431", b"")
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    endless = connected(service, chunked + 4 * (b"8000\r\n" + b"x" * 0x8000 + b"\r\n"))
    assert b"HTTP/1.1 413" in endless.recv(65536)
    endless.close()


def test_requests_that_are_sent_together(service: Running) -> None:
    """One after the other on a connection, without waiting: each is answered, in order."""
    data = picture(GREEN)
    head = HEAD + b"Content-Length: %d\r\n" % len(data)
    last = HEAD.replace(b"POST /predict", b"GET /health") + b"Connection: close\r\n\r\n"
    answers = received(connected(service, (head + b"\r\n" + data) * 3 + last))
    assert answers.count(b"HTTP/1.1 200") == 4
    assert answers.endswith(b'{"status":"ok"}')
    assert answers.count(b'"class":"green"') == 3


def test_as_many_as_may_wait_and_connect(service: Running) -> None:
    """Others are told to come again; those that were there are answered."""
    data = picture(RED)
    head = HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(data)
    begun = [connected(service, head + data[:9]) for _ in range(3)]
    service.wait_for_waiting(3)
    status, answer, headers = service.ask("POST", "/predict", data, content_type="image/png")
    assert (status, list(answer), headers["retry-after"]) == (503, ["error"], "1")
    assert service.ask("GET", "/health")[0] == 200
    more = [connected(service, b"") for _ in range(3)]
    refused = received(connected(service, b""))
    assert (refused[:12], b'{"error": ' in refused) == (b"HTTP/1.1 503", True)
    for connection in more:
        connection.close()
    for connection in begun:
        connection.sendall(data[9:])
        assert b"HTTP/1.1 200" in received(connection)


def test_memory_for_all_together(service: Running) -> None:
    """Each request is small enough, and two of them are too much."""
    head = HEAD + b"Content-Length: 100000\r\nConnection: close\r\n\r\n"
    first = connected(service, head + b"x" * 99_000)
    service.wait_for_waiting(1)
    second = connected(service, head + b"x" * 99_000)
    (refused,), _, _ = select.select([first, second], [], [], 60)
    assert refused.recv(12) == b"HTTP/1.1 503"
    refused.close()
    (other,) = {first, second} - {refused}
    other.sendall(b"x" * 1000)
    assert b"HTTP/1.1 422" in received(other)


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in text.split()]


def test_a_process_that_was_killed_is_started_again(service: Running) -> None:
    """By the kernel, say; nobody's answer is lost. And none of the processes has PyTorch."""
    before = service.metrics()["classifier_decoder_restarts"]
    (child,) = children(service.process.pid)
    for process in (child, service.process.pid):
        assert "libtorch" not in Path(f"/proc/{process}/maps").read_text()
    os.kill(child, signal.SIGKILL)
    assert service.predict(picture(RED))[0] == 200
    assert service.metrics()["classifier_decoder_restarts"] == before + 1


def test_sigterm_loses_no_request(model: Path) -> None:
    """It is not ready, asks for new connections, answers what had begun and what still comes, and ends with 0."""
    data = picture(BLUE)
    with serving(model, "--drain-seconds", "600") as service:
        head = HEAD + b"Content-Length: %d\r\n\r\n" % len(data)
        begun = connected(service, head + data[:9])
        service.wait_for_waiting(1)
        service.process.terminate()
        until(lambda: service.ask("GET", "/ready")[0] == 503)
        said = service.ask("GET", "/ready")
        assert (said[0], said[1]["reason"], said[2]["connection"]) == (503, "stopping", "close")
        assert service.predict(data)[0] == 200
        service.process.terminate()
        begun.sendall(data[9:])
        assert b"HTTP/1.1 200" in received(begun)
        assert service.process.wait(60) == 0
        assert service.process.stdout
        assert [json.loads(line)["class"] for line in service.process.stdout] == ["blue", "blue"]
        assert service.process.stderr
        assert service.process.stderr.read() == ""


def test_a_full_disk(model: Path, tmp_path: Path) -> None:
    """The service goes on, and says so; the log that is moved away, as programs do that rotate logs, is made anew."""
    log, kept = tmp_path / "log.jsonl", tmp_path / "kept"
    log.symlink_to("/dev/full")
    with serving(model, "--log", log, "--keep", kept) as service:
        assert service.predict(picture(RED), X_Request_ID="a")[0] == 200
        until(lambda: service.ask("GET", "/ready")[1]["problems"])
        said = service.ask("GET", "/ready")
        problems = ["log: not written: No space left on device"]
        assert said[:2] == (200, {"ready": True, "reason": "", "problems": problems})
        assert service.metrics()["classifier_log_lost_lines"] == 1
        log.unlink()
        assert service.predict(picture(RED), X_Request_ID="a")[0] == 200
        until(lambda: service.ask("GET", "/ready")[1]["problems"] == ["kept pictures: not written: File exists"])
        assert json.loads(log.read_text())["class"] == "red"
        assert (kept / "a-0").read_bytes() == picture(RED)


def test_two_models(model: Path, tmp_path: Path) -> None:
    """A share of the requests for the second one, by their ids; or all of them, unseen."""
    second = write_model(tmp_path / "second.onnx", factor=-0.1, stored_size=4, image_size=4)
    log = tmp_path / "log.jsonl"
    options = [f"--model={model}", "--version=a", f"--second={second}", "--second-version=b", "--decoders=1"]
    given = settings.read([*options, "--share=0.25", f"--log={log}"])

    async def ask(ids: list[str]) -> list[tuple[str, str]]:
        service = Service(given)
        await service.start()
        asked = [await service.answer(name, [Upload("", picture(RED))], 0.0) for name in ids]
        await service.stop()
        return [(version.name, COLOURS[answer.computed.order[0]]) for version, (answer,) in asked]

    answers = asyncio.run(ask(list(map(str, range(40)))))
    seconds = {8, 9, 13, 29, 39}
    assert answers == [("b", "green") if number in seconds else ("a", "red") for number in range(40)]
    assert [json.loads(line)["version"] for line in log.read_text().splitlines()] == [name for name, _ in answers]
    log.unlink()
    with serving(model, *options[1:], "--shadow", "yes", "--log", log) as service:
        assert service.predict(picture(RED))[1]["model"]["version"] == "a"
        until(lambda: log.read_text().count("\n") == 2)
    both = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["version"], line["class"]) for line in both] == [("a", "red"), ("b", "green")]
    assert both[0]["id"] == both[1]["id"]


def test_what_it_cannot_start_with(model: Path, tmp_path: Path) -> None:
    """One message each, before anything is answered."""
    edited = tmp_path / "edited.onnx"
    edited.write_bytes(model.read_bytes().replace(b'"red"', b'"rat"'))
    for options, text in (
        ({"model": tmp_path / "none.onnx"}, "no such file"),
        ({"model": edited}, "not as `make export` wrote it"),
        ({"model": ROOT / "README.md"}, "expected a whole ONNX file"),
        ({"log": tmp_path}, "Is a directory"),
        ({"log": tmp_path / "none/log"}, "No such file or directory"),
        ({"keep": model}, "File exists"),
        ({"held-mib": 16.01}, "--held-mib: expected 16.0 or more, for one request of 64 pictures"),
    ):
        arguments = {"model": model} | options
        given = settings.read([f"--{name}={value}" for name, value in arguments.items()])
        with pytest.raises(UserError, match=text):
            Service(given)
    with pytest.raises(UserError, match="Cannot assign requested address"):
        listen(settings.read(["--host=192.0.2.1", "--port=0"]))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command: list[str | Path] = [COLD / "bin/python", "-m", "serve", "--model", model]
        message = refusal(run(command, ROOT, expect=1, SERVE_PORT=str(port)))
    assert f"--port {port}: Address already in use" in message


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--port=70000", "--port: expected an integer from 0 to 65535, got '70000'"),
        ("--share=nan", "--share: expected a number from 0 to 1, got 'nan'"),
        ("--version=a/b", "--version: expected up to 128 letters"),
        ("--shadow=yes", "for a --second model"),
        ("--second=a", "either --share above 0"),
        ("--second=a --share=1 --shadow=yes", "either --share above 0"),
        ("--body-mib=300", "--held-mib: expected --body-mib or more"),
    ],
)
def test_settings(options: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings.read(options.split())
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_packages_are_those_of_its_group() -> None:
    """All that the service and its processes import, at the top of a module or inside a function; what only others
    call is not reached by them, as `test_a_process_that_was_killed_is_started_again` sees of PyTorch."""
    listed = {line.partition("==")[0].replace("-", "_") for line in PYPROJECT["dependency-groups"]["serve"]}
    owners = importlib.metadata.packages_distributions()
    modules = [f"serve.{path.stem}" for path in (ROOT / "serve").glob("*.py") if path.stem != "__init__"]
    used: set[str] = set()
    for module in modules:
        found = import_closure(ROOT, module)
        assert not {path for path in found.sources if path.startswith(("review/", "scripts/", "stages/train"))}
        used |= {package for path in found.sources if path.startswith("serve/") for package in found.packages}
    packages = used - sys.stdlib_module_names
    assert {package for package in packages if not {name.replace("-", "_") for name in owners[package]} & listed} <= {
        "torch",
        "yaml",
    }
