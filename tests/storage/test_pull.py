"""What a branch or a remote names and delivers is in the workspace only where it is what was committed."""

import hashlib
from pathlib import Path

import pytest
from dvc.repo import Repo

from stages.common.errors import UserError
from storage.pull import AbsentError, pull
from tests.storage.conftest import FILES, Project

MD5 = hashlib.md5(b"first").hexdigest()


def refusal(project: Project, *paths: str) -> str:
    """The message; nothing is written anywhere but in DVC's own folder."""
    before = project.written()
    with pytest.raises(UserError) as caught:
        pull(project.root, paths or ["data"])
    assert project.written() == before
    return str(caught.value)


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_dvc_pushed_comes_back(project: Project) -> None:
    """From the remote, then from the cache alone; and DVC is content with it."""
    pull(project.root, ["data"])
    assert found(project.root / "data") == FILES
    with Repo(str(project.root)) as repo:
        assert repo.status() == {}
    for file in (project.root / "data").rglob("*.png"):
        file.unlink()
    for folder in ("data/cat", "data/dog"):
        (project.root / folder).rmdir()
    project.remote.rename(project.remote.with_name("gone"))
    pull(project.root, ["data"])
    assert found(project.root / "data") == FILES


def test_a_part_of_a_folder(project: Project) -> None:
    pull(project.root, ["data/cat", "data/dog/0.png"])
    assert found(project.root / "data") == FILES
    assert "data/cow: not in the version of data" in refusal(project, "data/cow")


def test_outputs_of_dvc_lock(project: Project) -> None:
    """A file and a folder; what nobody pushed is named, and the others come."""
    listing = b'[{"md5": "%s", "relpath": "a.npy"}]' % MD5.encode()
    folder = {"path": "prepared", "hash": "md5", "md5": project.put(listing, suffix=".dir"), "nfiles": 1, "size": 5}
    project.write_lock(
        folder,
        {"path": "models/model.json", "hash": "md5", "md5": project.put(b"{}"), "size": 2},
        {"path": "predictions.csv", "hash": "md5", "md5": "0" * 32, "size": 2},
    )
    with pytest.raises(AbsentError) as caught:
        pull(project.root, ["prepared/a.npy", "models/model.json", "predictions.csv"])
    assert (caught.value.paths, caught.value.refusal) == (["predictions.csv"], "")
    assert (project.root / "prepared/a.npy").read_bytes() == b"first"
    assert (project.root / "models/model.json").read_bytes() == b"{}"
    assert "models: dvc.lock names no such output" in refusal(project, "models")


OUT = f"{{md5: {MD5}, hash: md5, path: data}}"
LONG = "n" * 256


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ([{"md5": MD5, "relpath": "../yaml.py"}], "'../yaml.py': expected a relative path"),
        ([{"md5": MD5, "relpath": "a/../../yaml.py"}], "expected a relative path"),
        ([{"md5": MD5, "relpath": "/tmp/yaml.py"}], "expected a relative path"),
        ([{"md5": MD5, "relpath": "a//b"}], "expected a relative path"),
        ([{"md5": MD5, "relpath": "./a"}], "expected a relative path"),
        ([{"md5": MD5, "relpath": ""}], "expected a relative path"),
        ([{"md5": MD5, "relpath": "a/"}], "expected a relative path"),
        ([{"md5": MD5, "relpath": "..\\yaml.py"}], "a backslash"),
        ([{"md5": MD5, "relpath": ".git/hooks/post-checkout"}], "Git or DVC keeps settings"),
        ([{"md5": MD5, "relpath": "a/.GIT/config"}], "Git or DVC keeps settings"),
        ([{"md5": MD5, "relpath": ".g\u200cit/config"}], "Git or DVC keeps settings"),
        ([{"md5": MD5, "relpath": ".dvc/config"}], "Git or DVC keeps settings"),
        ([{"md5": MD5, "relpath": "a\nb"}], "U+000A, a control character"),
        ([{"md5": MD5, "relpath": "a\0b"}], "U+0000, a control character"),
        ([{"md5": MD5, "relpath": "\ud800"}], "not UTF-8"),
        ([{"md5": MD5, "relpath": "a\u202eb"}], "a bidirectional control"),
        ([{"md5": MD5, "relpath": LONG}], "more than 255 bytes"),
        ([{"md5": MD5, "relpath": "n/" * 1600 + "n"}], "more than 3,000 bytes"),
        ([{"md5": MD5, "relpath": "a"}, {"md5": MD5, "relpath": "a"}], "'a': named twice"),
        ([{"md5": MD5, "relpath": "a"}, {"md5": MD5, "relpath": "a/b/c"}], "'a': a file and a folder"),
        ([{"md5": "../../../../../../escaped", "relpath": "a"}], "expected 32 hexadecimal digits"),
        ([{"md5": MD5.upper(), "relpath": "a"}], "expected 32 hexadecimal digits"),
        ([{"md5": f"{MD5}\n", "relpath": "a"}], "expected 32 hexadecimal digits"),
        ([{"md5": f"{MD5}.dir", "relpath": "a"}], "expected 32 hexadecimal digits"),
        ([{"md5": 7, "relpath": "a"}], "expected 32 hexadecimal digits"),
        ([{"etag": MD5, "relpath": "a"}], "expected md5 and relpath"),
        ([{"md5": MD5, "relpath": "a", "isexec": True}], "expected md5 and relpath"),
        ([{"md5": MD5, "relpath": ["a"]}], "expected md5 and relpath"),
        (["a"], "expected md5 and relpath"),
        ({"md5": MD5}, "expected a list"),
        (b"[{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
    ids=lambda value: str(value)[:80],
)
def test_a_listing_that_leads_elsewhere(project: Project, listing: object, expected: str) -> None:
    """Refused before any of its objects is fetched."""
    project.name_listing(listing)
    assert expected in refusal(project)
    assert {name[-4:] for name in project.objects()} == {".dir"}


def test_a_listing_larger_than_memory(project: Project) -> None:
    """Its size is looked at before its content. The file is sparse."""
    project.name_listing([])
    pull(project.root, ["data"])
    (listing,) = (project.root / ".dvc/cache").rglob("*.dir")
    from storage.listing import read_listing

    listing.chmod(0o644)
    with listing.open("r+b") as stream:
        stream.truncate(2**40)
    with pytest.raises(UserError, match="expected 256 MiB at most"):
        read_listing(listing, "data")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"path": "stages"}, "path: expected data, got 'stages'"),
        ({"path": "../data"}, "path: expected data"),
        ({"path": ".git/hooks"}, "path: expected data"),
        ({"md5": "../" * 12 + "etc/passwd"}, "md5: expected 32 hexadecimal digits"),
        ({"md5": 12}, "md5: expected 32 hexadecimal digits"),
        ({"md5": None}, "md5: expected 32 hexadecimal digits"),
        ({"hash": "sha256"}, "hash: expected md5"),
        ({"hash": None}, "hash: expected md5"),
        ({"remote": "theirs"}, "'remote'"),
        ({"cloud": {"theirs": {"etag": MD5}}}, "a remote with cloud versioning"),
        ({"files": [{"md5": MD5, "relpath": "../yaml.py"}]}, "a remote with cloud versioning"),
        ({"fs_config": {"configpath": "x"}}, "'fs_config'"),
        ({"cache": False}, "'cache'"),
    ],
    ids=str,
)
def test_a_data_dvc_that_leads_elsewhere(project: Project, changes: dict[str, object], expected: str) -> None:
    project.write_pointer(**changes)
    text = refusal(project)
    assert text.startswith("data.dvc: ")
    assert expected in text
    assert project.objects() == {}


@pytest.mark.parametrize(
    "text",
    [
        f"outs: [{OUT}]\nwdir: ..\n",
        f"outs: [{OUT}]\ncmd: touch ran\n",
        f"outs: [{OUT}]\nfrozen: false\ndeps: [{{path: 'https://example.org/x'}}]\n",
        f"outs: [{OUT}, {OUT}]\n",
        "outs: &a [*a]\n",
        f"outs: [{OUT}]\nmeta: [&a0 [x, x], {', '.join(f'&a{n} [*a{n - 1}, *a{n - 1}]' for n in range(1, 30))}]\n",
        "outs: {}\n",
        "outs: [7]\n",
        "[]",
        "\0",
        "[" * 50_000,
        "!!python/object/apply:os.system [touch ran]",
    ],
)
def test_a_data_dvc_that_dvc_add_did_not_write(project: Project, text: str) -> None:
    (project.root / "data.dvc").write_text(text)
    assert refusal(project).startswith("data.dvc: ")


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ({"path": "../models/model.json"}, "expected a relative path"),
        ({"path": "models/.git/config"}, "Git or DVC keeps settings"),
        ({"md5": "../../x"}, "expected 32 hexadecimal digits"),
        ({"files": [{"md5": MD5, "relpath": "../x"}]}, "'files'"),
        ({"path": ["models"]}, "a path is a text"),
    ],
    ids=str,
)
def test_a_dvc_lock_that_leads_elsewhere(project: Project, out: dict[str, object], expected: str) -> None:
    project.write_lock({"path": "models/model.json", "hash": "md5", "md5": MD5} | out)
    text = refusal(project, "models/model.json")
    assert text.startswith("dvc.lock: ")
    assert expected in text


@pytest.mark.parametrize(
    "path", ["yaml.py", "stages/params.py", ".venv/bin/python", ".git/config", ".env", "../x", "/x"]
)
def test_places_that_storage_may_not_write(project: Project, path: str) -> None:
    """Whatever dvc.lock names: from there, something would be run or read as settings."""
    project.write_lock({"path": path, "hash": "md5", "md5": project.put(b"planted")})
    assert "not taken from DVC's storage" in refusal(project, path)


def test_links_that_lead_elsewhere(project: Project) -> None:
    """As a branch may commit them: the output, or a folder on the way."""
    elsewhere = project.root.parent / "elsewhere"
    elsewhere.mkdir()
    (project.root / "data").symlink_to(elsewhere)
    assert "data: a symbolic link" in refusal(project)
    (project.root / "data").unlink()
    (project.root / "data").symlink_to(elsewhere / "nothing")
    assert "data: a symbolic link" in refusal(project)
    (project.root / "models").symlink_to(elsewhere)
    project.write_lock({"path": "models/model.json", "hash": "md5", "md5": MD5})
    assert "models: a symbolic link" in refusal(project, "models/model.json")
    (project.root / "data.dvc").rename(elsewhere / "data.dvc")
    (project.root / "data.dvc").symlink_to(elsewhere / "data.dvc")
    (project.root / "data").unlink()
    assert "data.dvc: a symbolic link" in refusal(project)


def test_what_is_there_is_left(project: Project) -> None:
    (project.root / "data").mkdir()
    (project.root / "data/mine.png").write_bytes(b"mine")
    (project.root / "models").write_text("a file")
    project.write_lock({"path": "models/model.json", "hash": "md5", "md5": MD5})
    assert "data: is there already" in refusal(project)
    assert "models: expected a folder, got a file" in refusal(project, "models/model.json")


def test_a_remote_that_delivers_something_else(project: Project) -> None:
    """A file, or a listing: it is named, and neither the workspace nor the cache keeps it. Mended, it comes."""
    project.put(b"swapped", name=MD5)
    text = refusal(project)
    assert f"'data/cat/0.png': expected MD5 {MD5}, got " in text
    assert "ask whoever has the right files" in text
    assert b"swapped" not in project.objects().values()
    project.put(b"first")
    pull(project.root, ["data"])
    assert found(project.root / "data") == FILES


def test_a_remote_that_delivers_another_listing(project: Project) -> None:
    (name,) = (file.parent.name + file.name for file in project.remote.rglob("*.dir"))
    project.put(b'[{"md5": "%s", "relpath": "../yaml.py"}]' % MD5.encode(), name=name)
    assert "'data': expected MD5 " in refusal(project)
    assert project.objects() == {}


def test_a_cache_that_holds_something_else(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """As a `dvc pull` without `verify` leaves it, protected like any: said, and taken from the remote again."""
    false = project.root / ".dvc/cache/files/md5" / MD5[:2] / MD5[2:]
    false.parent.mkdir(parents=True)
    false.write_bytes(b"swapped")
    false.chmod(0o444)
    pull(project.root, ["data"])
    assert found(project.root / "data") == FILES
    assert f"'data/cat/0.png': expected MD5 {MD5}" in capsys.readouterr().err


def test_a_cache_that_holds_a_link(project: Project) -> None:
    """As somebody with a right to a shared cache may put there: not followed, and not removed."""
    false = project.root / ".dvc/cache/files/md5" / MD5[:2] / MD5[2:]
    false.parent.mkdir(parents=True)
    for target in (project.remote / "files/md5" / MD5[:2] / MD5[2:], project.root / "nothing"):
        false.symlink_to(target)
        assert "expected a file in DVC's cache" in refusal(project)
        false.unlink()


def test_no_remote_and_a_remote_that_is_none(project: Project) -> None:
    config = project.root / ".dvc/config"
    for text, expected in {
        "": "no remote specified",
        "[core]\n    remote = team\n": "config file error",
        "[core]\n    remote = team\n['remote \"team\"']\n    url = http://127.0.0.1:9/x\n": "Cannot connect to host",
        "[core]\n    remote = team\n['remote \"team\"']\n    url = gs://bucket/x\n": "requires 'dvc-gs'",
    }.items():
        config.write_text(text)
        with pytest.raises(AbsentError) as caught:
            pull(project.root, ["data"])
        assert expected in caught.value.refusal
        assert caught.value.paths == ["data"]
