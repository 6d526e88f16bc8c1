"""How many planted secrets `make secrets` finds: `.venv/bin/python -m benchmarks.secrets`.

Secrets are made up here, from the formats in planted_secrets, so that no file holds one. Each kind is planted in six
forms, and a password, a token and a key in further languages; what is counted is whether the file is named.
"""

import argparse
import base64
import json
import random
import re
import string
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.planted_secrets import ENCODINGS, HARMLESS, KINDS, NOTEBOOKS, SYNTAXES
from scripts.find_secrets import Finding, find_secrets

LETTERS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
ALPHABETS = {
    "a": LETTERS,
    "l": string.ascii_lowercase + string.digits,
    "U": string.ascii_uppercase + string.digits,
    "u": string.ascii_uppercase + "234567",
    "w": LETTERS + "_-",
    "b": LETTERS + "+/",
    "h": HEX,
    "d": string.digits,
    "c": "".join(sorted(set(string.ascii_uppercase + string.digits) - set("1BIO"))),
    "p": LETTERS + "!#%*",
    "x": string.ascii_lowercase + string.digits + "!@#%^&*(-_=+)",
    "s": string.ascii_lowercase,
}


class Kind(NamedTuple):
    """A secret's kind, its format, a call that takes one, and the name that a setting of it has."""

    name: str
    format: str
    call: str
    setting: str


class Plant(NamedTuple):
    """A file with a secret of this kind in this form."""

    kind: str
    form: str
    path: str
    content: bytes


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.secrets",
        description="Secrets found of those planted, by kind and by form; false alarms in harmless files.",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the made-up secrets (default: 0)")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="write the files there, and keep them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        plants, missed, harmless, alarms = search(arguments.keep or Path(name), arguments.seed)
    for title in ("kind", "form"):
        print(f"{title:32} found  planted")
        for key, count in Counter(getattr(plant, title) for plant in plants).items():
            lost = [plant for plant in missed if getattr(plant, title) == key]
            print(f"{key:32} {count - len(lost):5} {count:8}  {' '.join(plant.path for plant in lost)}")
    share = 1 - len(missed) / len(plants)
    print(f"found {len(plants) - len(missed)} of {len(plants)} ({share:.1%}), {len({p.kind for p in plants})} kinds")
    for finding in alarms:
        print(f"false alarm: {Path(finding.path).name}:{finding.place}: {finding.kind}")
    print(f"false alarms in {len({finding.path for finding in alarms})} of {len(harmless)} harmless files")


def search(folder: Path, seed: int) -> tuple[list[Plant], list[Plant], list[str], list[Finding]]:
    """Write all the files into a folder; return what is planted, what of it is missed, the harmless, false alarms."""
    rng = random.Random(seed)
    plants = [*in_forms([Kind(*row) for row in rows(KINDS)], rng), *in_syntaxes(rng)]
    harmless = dict(harmless_files(rng))
    for path, content in [*((plant.path, plant.content) for plant in plants), *harmless.items()]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    named = {finding.path for finding in find_secrets(str(folder / plant.path) for plant in plants)}
    missed = [plant for plant in plants if str(folder / plant.path) not in named]
    return plants, missed, list(harmless), find_secrets(str(folder / path) for path in harmless)


def rows(table: str) -> list[list[str]]:
    return [line.split(" | ", maxsplit=3) for line in table.strip().split("\n")]


def some(rng: random.Random, length: int, alphabet: str = LETTERS) -> str:
    return "".join(rng.choices(alphabet, k=length))


def made(template: str, rng: random.Random) -> str:
    """A secret in a format of KINDS."""

    def part(match: re.Match[str]) -> str:
        word, _, title = match[1].partition(" ")
        if word == "key":
            # Lines as program code and JSON write them.
            lines = [f"{dashes}BEGIN {title} KEY{dashes}", *(some(rng, 64, ALPHABETS["b"]) for _ in range(6))]
            return "\\n".join([*lines, f"{dashes}END {title} KEY{dashes}"])
        if word == "jwt":
            return f"{coded({'alg': 'HS256'})}.{coded({'sub': some(rng, 10)})}.{some(rng, 43)}".replace("=", "")
        if word == "neptune":
            return coded({"api_address": "https://app.example.org", "api_key": some(rng, 36)})
        if word == "basic":
            return base64.b64encode(f"bob:{some(rng, 14)}".encode()).decode()
        return some(rng, int(word[:-1]), ALPHABETS[word[-1]])

    dashes = "-" * 5
    return re.sub(r"\{([^{}]+)\}", part, template)


def coded(content: dict[str, str]) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def in_forms(kinds: list[Kind], rng: random.Random) -> Iterator[Plant]:
    """Every kind once in each form; how exactly (JSON or YAML, source or output of a notebook) takes turns."""
    for number, kind in enumerate(kinds):
        for form, ways in FORMS.items():
            suffix, write = ways[number % len(ways)]
            content = write(kind, made(kind.format, rng))
            path = f"planted/{kind.name.replace(' ', '-')}/{form}{suffix}"
            yield Plant(kind.name, form, path, content if isinstance(content, bytes) else content.encode())


def in_syntaxes(rng: random.Random) -> Iterator[Plant]:
    """One password, token or key in each of the further languages, notebooks, encodings and binary files."""
    for path, content in ((path, " | ".join(rest)) for path, *rest in rows(SYNTAXES)):
        yield Plant("in other syntaxes", "language", f"syntax/{path}", filled(content, rng).encode())
    for name, part, content in rows(NOTEBOOKS):
        text = filled(content, rng)
        written = notebook(**{part: text if part == "source" else json.loads(text)})
        yield Plant("in other syntaxes", "notebook", f"notebook/{name}.ipynb", written.encode())
    broken = filled('{"cells": [{"source": "x = \\"@TOKEN@\\""', rng)
    yield Plant("in other syntaxes", "notebook", "notebook/broken.ipynb", broken.encode())
    for encoding, beside in rows(ENCODINGS):
        text = filled(f"# {beside}\npassword=@PW@\n", rng)
        yield Plant("in other syntaxes", "encoded", f"encoded/{encoding}.txt", text.encode(encoding))
    for name, before, after in (("sections", b"\0\1\2\xff", b"\0\xff"), ("pickle", b"\x80\4\x95\0", b"\x94.\0")):
        data = before * 50 + made("ghp_{36a}", rng).encode() + after * 50
        yield Plant("in other syntaxes", "binary", f"binary/{name}.bin", data)


def filled(template: str, rng: random.Random) -> str:
    """A content of a table with its line ends, and with values for what stands between @."""
    password = some(rng, 11) + "7x"
    text = re.sub(r"\\([nr\\])", lambda match: {"n": "\n", "r": "\r", "\\": "\\"}[match[1]], template)
    values = {
        "PW": password,
        "PW64": base64.b64encode(password.encode()).decode(),
        "TOKEN": some(rng, 39) + "3",
        "HEX": some(rng, 40, HEX),
        "COMMIT": some(rng, 40, HEX),
        "MD5": some(rng, 32, HEX),
        "SHA256": some(rng, 64, HEX),
        "UUID": "-".join(some(rng, length, HEX) for length in (8, 4, 4, 4, 12)),
        "BASE64": some(rng, 800, ALPHABETS["b"]),
    }
    return re.sub("@([A-Z0-9]+)@", lambda match: values[match[1]], text) + "\n"


def harmless_files(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for path, *rest in rows(HARMLESS):
        yield f"harmless/{path}", filled(" | ".join(rest), rng).encode()


def notebook(**parts: Any) -> str:
    metadata = parts.pop("metadata", {})
    cell = {"cell_type": "code", "metadata": {}, "execution_count": 1, "source": [], "outputs": [], **parts}
    return json.dumps({"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def called(kind: Kind, secret: str) -> str:
    # Braces of the call itself are written twice, as in str.format.
    return kind.call.format(secret)


def setting(kind: Kind, secret: str) -> dict[str, str]:
    return {"name": "x", kind.setting: secret.replace("\\n", "\n")}


FORMS: dict[str, list[tuple[str, Callable[[Kind, str], str | bytes]]]] = {
    "statement": [(".py", lambda kind, secret: f"import client\n\n{called(kind, secret)}\n")],
    "assigned": [(".py", lambda kind, secret: f"import client\n\nresult = {called(kind, secret)}\n")],
    "quoted": [
        (".json", lambda kind, secret: json.dumps(setting(kind, secret), indent=2)),
        (".yaml", lambda kind, secret: f'name: x\nremote:\n  {kind.setting}: "{secret}"\n'),
    ],
    "unquoted": [
        (".ini", lambda kind, secret: f"[remote]\nname = x\n{kind.setting} = {secret}\n"),
        (".yaml", lambda kind, secret: f"remote:\n  name: x\n  {kind.setting}: {secret}\n"),
        (".sh", lambda kind, secret: f"set -e\nexport {kind.setting.upper()}={secret}\n"),
        (".toml", lambda kind, secret: f"[remote]\n{kind.setting} = '{secret}'\n"),
    ],
    "notebook": [
        (".ipynb", lambda kind, secret: notebook(source=["import client\n", f"x = {called(kind, secret)}"])),
        (".ipynb", lambda kind, secret: notebook(outputs=[{"text": [f"{kind.setting}={secret}"]}])),
        (".ipynb", lambda kind, secret: notebook(outputs=[{"data": {"application/json": setting(kind, secret)}}])),
        (".ipynb", lambda kind, secret: notebook(metadata={"config": setting(kind, secret)})),
    ],
    "encoded": [
        (".txt", lambda kind, secret: f"{kind.setting} = {secret}\r\n".encode("utf-16")),
        (".ini", lambda kind, secret: f"; Schlüssel\n{kind.setting} = {secret}\n".encode("latin-1")),
        (".env.txt", lambda kind, secret: f"# ключ\n{kind.setting}={secret}\n".encode("koi8-r")),
        (".yaml", lambda kind, secret: f"# 密钥\n{kind.setting}: {secret}\n".encode("utf-16-le")),
    ],
}


if __name__ == "__main__":
    main()
