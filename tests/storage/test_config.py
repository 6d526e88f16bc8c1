"""What a commit may set for everybody who checks it out, and what it may not."""

import subprocess
from pathlib import Path

import pytest

from stages.common.errors import UserError
from storage import config
from storage.config import keep_private, require_safe


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Git repository with an empty .dvc/config; the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["storage.config"])
    git("init", "--quiet")
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    return tmp_path


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    subprocess.run(["git", *identity, *arguments], check=True)


def write(text: str) -> None:
    Path(".dvc/config").write_text(text)


def remote(*lines: str, section: str = "['remote \"team\"']") -> str:
    return "\n".join([section, *lines]) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "[core]\n remote = team\n autostage = true\n analytics = false\n[cache]\n type = hardlink,symlink\n"
        "['remote \"team\"']\n url = ../storage\n verify = true\n jobs = 4\n",
        remote("url = s3://bucket/project", "endpointurl = https://s3.example.org:9000", "region = eu-west-1"),
        remote("url = ssh://ann@server.example.org:22/srv/dvc", "port = 2222", "timeout = 9"),
        remote("url = ssh://[::1]/srv/dvc"),
        remote("url = https://example.org/dvc", "auth = basic", "user = ann"),
        remote("url = azure://container/path", "account_name = team"),
        remote("url = gs://bucket/path", "projectname = team", "allow_anonymous_login = true"),
        remote("url = /srv/dvc"),
        remote("url = s3://bucket/a", section="[ 'remote \"team\"' ]"),
        "",
        "# nothing\n",
    ],
)
@pytest.mark.usefixtures("root")
def test_what_a_commit_may_set(text: str) -> None:
    write(text)
    require_safe(Path())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            (remote("url = s3://bucket/a", f"{option} = x"), f"remote 'team': '{option}'")
            for option in """
            access_key_id acl ask_password ask_passphrase bearer_token_command cert_path client_id
            client_secret configpath connection_string credentialpath custom_auth_header data_proxy_target
            exclude_environment_credential gdrive_service_account_json_file_path gdrive_user_credentials_file
            grant_full_control gss_auth kerb_ticket key_path keyfile no_such_option oss_key_secret passphrase password
            profile proxy_to sas_token secret_access_key session_token shared sse_customer_key ssl_verify tenant_id
            token type use_ssl version_aware worktree
            """.split()
        ),
        *(
            (f"[{section}]\n{option} = x\n", f"['{section}'] '{option}'")
            for section, option in (
                ("core", "site_cache_dir"),
                ("core", "hardlink_lock"),
                ("core", "no_scm"),
                ("core", "machine"),
                ("cache", "dir"),
                ("cache", "shared"),
                ("cache", "s3"),
                ("exp", "git_remote"),
                ("exp", "auto_push"),
                ("hydra", "plugins_path"),
                ("hydra", "enabled"),
                ("plots", "html_template"),
                ("plots", "out_dir"),
                ("parsing", "bool"),
                ("feature", "machine"),
                ("studio", "url"),
                ("state", "dir"),
                ("nothing", "known"),
            )
        ),
        ("['machine \"fast\"']\nstartup_script = run.sh\n", "['machine'] 'fast'"),
        ("['db \"base\"']\nurl = sqlite:///x\n", "['db'] 'base'"),
        # What the parser makes one section or key of, as DVC's does.
        (remote("URL = s3://bucket/a", "ConfigPath = x"), "'configpath'"),
        (
            remote("url = s3://bucket/a", "configpath = x", section="['  Remote \"team\"  ']".replace("R", "r")),
            "configpath",
        ),
        (remote("'configpath' = x", "url = s3://bucket/a"), "'configpath'"),
        ("[remote]\n[[team]]\nurl = s3://bucket/a\nconfigpath = x\n", "'configpath'"),
        ("configpath = x\n", "'configpath': an option outside of a section"),
        ("remote = x\n", "'remote': an option outside of a section"),
        (remote("url = a, b"), "'url': expected one value"),
        (remote("url = s3://bucket/a", "[[jobs]]", "x = 1"), "'jobs': expected one value"),
        (remote("url = remote://other/path"), "remote:// is none of"),
        (remote("url = s3+http://host/path"), "is none of"),
        (remote("url = ssh://ann:secret@host/path"), "a password in the address"),  # pragma: allowlist secret
        (remote("url = ssh://-oProxyCommand=x/path"), "no name of a host"),
        (remote("url = ssh://a;b/path"), "no name of a host"),
        (remote("url = s3://bucket/a", "endpointurl = file://x/y"), "file:// is none of"),
        (remote("url = https://[x/path"), "'url': "),
    ],
)
@pytest.mark.usefixtures("root")
def test_what_a_commit_may_not_set(text: str, expected: str) -> None:
    write(text)
    with pytest.raises(UserError) as caught:
        require_safe(Path())
    assert expected in str(caught.value)
    assert "dvc remote modify --local NAME OPTION VALUE" in str(caught.value)


@pytest.mark.parametrize("content", [b"[core", b"\xff\xfe", b"[a]\n[a]\n", b"x = %(x)s\n[core]\nremote = %(remote)s\n"])
@pytest.mark.usefixtures("root")
def test_what_is_no_configuration(content: bytes) -> None:
    Path(".dvc/config").write_bytes(content)
    with pytest.raises(UserError, match=r"\.dvc/config: "):
        require_safe(Path())


def test_all_that_is_wrong_is_named_at_once(root: Path) -> None:
    write("[core]\nno_scm = true\n" + remote("url = s3://bucket/a", "configpath = x", "password = y"))
    with pytest.raises(UserError) as caught:
        require_safe(root)
    assert [word in str(caught.value) for word in ("no_scm", "configpath", "password")] == [True] * 3
    assert "= y" not in str(caught.value)


def test_links_in_place_of_it(root: Path) -> None:
    (root / ".dvc").rename(root / "elsewhere")
    (root / ".dvc").symlink_to("elsewhere")
    with pytest.raises(UserError, match=r"\.dvc: a symbolic link"):
        require_safe(root)
    (root / ".dvc").unlink()
    (root / ".dvc").mkdir()
    (root / ".dvc/config").symlink_to(root / "elsewhere/config")
    with pytest.raises(UserError, match=r"\.dvc/config: a symbolic link"):
        require_safe(root)


@pytest.mark.parametrize(
    "path", ["config.local", "tmp/exps/celery/broker/in/1.msg", "cache/files/md5/00/1", "plots/x.py"]
)
def test_files_that_git_may_not_track_there(root: Path, path: str) -> None:
    """A branch that brings them acts as this machine's own settings, queue or cache."""
    (root / ".dvc" / path).parent.mkdir(parents=True, exist_ok=True)
    (root / ".dvc" / path).touch()
    (root / ".dvc/plots").mkdir(exist_ok=True)
    (root / ".dvc/plots/loss.json").write_text("{}")
    git("add", ".dvc/config", ".dvc/plots/loss.json")
    require_safe(root)
    git("add", "--force", ".dvc")
    with pytest.raises(UserError, match="a file that Git may not track"):
        require_safe(root)


def test_credentials_stay_with_the_address_that_they_are_for(root: Path) -> None:
    """A branch that leads a remote elsewhere would be sent what .dvc/config.local has for it."""
    write(remote("url = ssh://server/srv"))
    git("add", ".dvc/config")
    git("commit", "--quiet", "--message", "main")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    write(remote("url = ssh://stranger/srv"))
    require_safe(root)
    (root / ".dvc/config.local").write_text(remote("keyfile = key", section="['remote \"other\"']"))
    require_safe(root)
    (root / ".dvc/config.local").write_text(remote("password = x"))  # pragma: allowlist secret
    with pytest.raises(UserError, match="remote 'team': 'url': another than on the main branch"):
        require_safe(root)
    (root / ".dvc/config.local").write_text(remote("password = x", "url = ssh://own/srv"))  # pragma: allowlist secret
    require_safe(root)


def test_config_local_becomes_private(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is one's own; said once. A link is left as it is."""
    local, elsewhere = root / ".dvc/config.local", root / "elsewhere"
    keep_private(root)
    elsewhere.touch(mode=0o644)
    local.symlink_to(elsewhere)
    keep_private(root)
    assert elsewhere.stat().st_mode & 0o777 == 0o644
    local.unlink()
    local.touch(mode=0o644)
    keep_private(root)
    keep_private(root)
    assert local.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().err.count("chmod 600") == 1


@pytest.mark.usefixtures("root")
def test_lint_wants_remotes_that_verify() -> None:
    write(remote("url = s3://bucket/a", "verify = false") + remote("url = hdfs://host/a", section="['remote \"old\"']"))
    with pytest.raises(UserError, match=r"remote 'team'\n.*verify true"):
        config.main()
    write(remote("url = s3://bucket/a", "verify = True"))
    config.main()
