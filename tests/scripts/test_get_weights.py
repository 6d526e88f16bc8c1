"""get_weights: from a hub on loopback, from files and projects; what is not what it should be is never kept."""

import hashlib
import json
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from scripts import get_weights, published_weights
from scripts.download import download
from scripts.published_weights import from_file, from_project, from_timm, from_torchvision
from stages.common.errors import UserError
from stages.model.architectures import build_model
from stages.model.dataset import DatasetInfo
from stages.model.trained import save_trained
from tests.servers import free_port

COMMIT = "c" * 40
NAME = "timm/test_vit.r160_in1k"
REPOSITORY = "timm/test_vit.r160_in1k"


class Handler(SimpleHTTPRequestHandler):
    """Files, without a word; of a path that has `short`, fewer bytes than announced."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path.partition("?")[0]))
        if "short" not in self.path:
            super().do_GET()
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + 100))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of a folder's files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return dict(timm.create_model("test_vit").state_dict())


@pytest.fixture
def hub(tmp_path: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of a hub on loopback that has weights of timm's test_vit: the answer about them, and themselves."""
    folder = tmp_path / "hub"
    weights = folder / REPOSITORY / "resolve" / COMMIT / "model.safetensors"
    weights.parent.mkdir(parents=True)
    save_file(tensors, weights)
    answer = folder / "api/models" / REPOSITORY / "revision/main"
    answer.parent.mkdir(parents=True)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    siblings = [{"rfilename": "model.safetensors", "lfs": {"sha256": sha256}}]
    answer.write_text(json.dumps({"sha": COMMIT, "siblings": siblings, "cardData": {"license": "apache-2.0"}}))
    with served(folder) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield folder


def change(hub: Path, **values: Any) -> None:
    """Change what the hub says of the weights."""
    answer = hub / "api/models" / REPOSITORY / "revision/main"
    answer.write_text(json.dumps(json.loads(answer.read_text()) | values))


def test_timms_from_the_hub(hub: Path, tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """At the commit that the hub names, with what timm knows of them."""
    published = from_timm(NAME, "main", tmp_path)
    get_weights.require_fit(published)
    origin = published.origin
    assert origin.architecture == "timm/test_vit"
    assert origin.source.endswith(f"/{REPOSITORY}/resolve/{COMMIT}/model.safetensors")
    assert (origin.classes, origin.image_size, origin.licence) == (1000, 160, "apache-2.0")
    assert all(torch.equal(published.tensors[key], tensor) for key, tensor in tensors.items())


def test_a_hub_that_says_something_else(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page for people, no commit, another hash, a file that breaks off, another name, or nobody there."""
    answer = hub / "api/models" / REPOSITORY / "revision/main"
    right = answer.read_text()
    answer.write_text("<html>Log in</html>")
    with pytest.raises(UserError, match="answered something else than JSON"):
        from_timm(NAME, "main", tmp_path)
    answer.write_text(right)
    with pytest.raises(UserError, match=r"404 .* Check the name and the revision"):
        from_timm(NAME, "other", tmp_path)
    change(hub, sha="main")
    with pytest.raises(UserError, match="names no commit"):
        from_timm(NAME, "main", tmp_path)
    change(hub, sha=COMMIT, siblings=[{"rfilename": "model.safetensors", "lfs": {"sha256": "0" * 64}}])
    with pytest.raises(UserError, match=r"expected SHA-256 0{64}, got .* nothing was kept"):
        from_timm(NAME, "main", tmp_path)
    with pytest.raises(UserError, match=r"no pretrained weights of this name. It has .*test_vit.r160_in1k"):
        from_timm("timm/test_vit.other", "main", tmp_path)
    (hub / "short").write_bytes(b"some bytes")
    with served(hub) as address, pytest.raises(UserError, match=r"the connection broke|got 10 of 110 bytes"):
        download(f"{address}/short", tmp_path / "file", "")
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match=r"no answer \(.*Without network, bring the file"):
        from_timm(NAME, "main", tmp_path)


def test_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of its list of weights, without its auxiliary classifiers. Its server is out of reach of a test, and the
    hash in the file's name is that of the real one, so another file is brought from loopback in its place."""
    name = "shufflenet_v2_x0_5"
    file = tmp_path / "served" / "weights.pth"
    file.parent.mkdir()
    tensors = build_model(name, num_classes=1000, channels=3, image_size=224).state_dict()
    torch.save(tensors, file)
    asked = []

    def from_loopback(url: str, path: Path, sha256: str) -> str:
        asked.append((url, sha256))
        return download(f"{address}/weights.pth", path, "")

    monkeypatch.setattr(published_weights, "download", from_loopback)
    with served(file.parent) as address:
        published = from_torchvision(name, tmp_path / "one")
        get_weights.require_fit(published)
        assert asked == [("https://download.pytorch.org/models/shufflenetv2_x0.5-f707e7126e.pth", "f707e7126e")]
        assert published.origin.trained_on == "1000 classes of ImageNet (ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1)"
        assert published.origin.mean == [0.485, 0.456, 0.406]
        assert all(torch.equal(published.tensors[key], tensor) for key, tensor in tensors.items())
        file.write_bytes(pickle.dumps({"weights": Code()}))
        with pytest.raises(UserError, match="holds more than tensors, such as code, which is not run"):
            from_torchvision(name, tmp_path / "two")
    assert not (tmp_path / "ran").exists()
    for wrong, expected in (("vgg99", "expected an architecture of torchvision"), (f"{name}.X", "IMAGENET1K_V1 of")):
        with pytest.raises(UserError, match=expected):
            from_torchvision(wrong, tmp_path / "three")


class Code:
    """What a pickle can do to whoever loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_a_file(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Of a known architecture, with a licence, or with all of it in a JSON beside it; as a checkpoint, too."""
    file = tmp_path / "weights.safetensors"
    save_file(tensors, file)
    with pytest.raises(UserError, match=r"nothing says licence of these weights.*or give --licence"):
        from_file(file, "timm/test_vit", "")
    assert from_file(file, "timm/test_vit", "MIT").origin.classes == 1000
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match=r"not weights of timm/test_efficientnet: classifier.weight is missing"):
        get_weights.require_fit(from_file(tmp_path / "checkpoint.pth", "timm/test_efficientnet", "MIT"))
    told = {"architecture": "timm/test_vit", "source": "a paper", "licence": "CC-BY-NC-4.0", "resize": 200, "crop": 160}
    file.with_suffix(".json").write_text(json.dumps(told))
    origin = from_file(file, "timm/test_vit", "").origin
    assert (origin.source, origin.licence, origin.crop_share) == ("a paper", "CC-BY-NC-4.0", 0.8)
    with pytest.raises(UserError, match="may forbid commercial use"):
        get_weights.require_licence(origin.licence, "")
    get_weights.require_licence(origin.licence, "CC-BY-NC-4.0")
    file.with_suffix(".json").write_text(json.dumps(told | {"sha256": "0" * 64}))
    with pytest.raises(UserError, match="sha256: expected"):
        from_file(file, "timm/test_vit", "")


def test_tensors_that_are_not_the_architectures(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Too few, too many, of another shape, not finite; and a file that is none."""
    file = tmp_path / "weights.safetensors"
    key = "blocks.0.norm1.weight"
    for changes, expected in (
        ({key: None}, f"{key}: missing"),
        ({"more": torch.ones(1)}, "more: not in the model"),
        ({key: torch.ones(7)}, rf"{key}: \(7,\); expected"),
        ({key: torch.full_like(tensors[key], torch.inf)}, "numbers that are not finite"),
    ):
        save_file({name: one for name, one in (tensors | changes).items() if one is not None}, file)
        with pytest.raises(UserError, match=expected):
            get_weights.require_fit(from_file(file, "timm/test_vit", "MIT"))
    for name, content in (("a.safetensors", b"x"), ("a.pth", b"PK\x03\x04"), ("b.pth", pickle.dumps([1, 2]))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            from_file(tmp_path / name, "timm/test_vit", "MIT")


def test_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of another project, with its constants."""
    monkeypatch.chdir(tmp_path)
    info = DatasetInfo(["a", "b"], 1, 8, 10, "crop", [0.3], [0.2], {})
    model = build_model("resnet9", num_classes=2, channels=1, image_size=8)
    save_trained(model.state_dict(), info, {"model": "resnet9"}, 1, 0.5)
    published = from_project(Path("models"), "resnet9", "own")
    get_weights.require_fit(published)
    get_weights.require_licence(published.origin.licence, "")
    assert (published.origin.mean, published.origin.crop_share) == ([0.3], 0.8)
    with pytest.raises(UserError, match="a model of resnet9; expected the one that was named, resnet18"):
        from_project(Path("models"), "resnet18", "own")
    assert load_file("models/model.safetensors").keys() == published.tensors.keys()
