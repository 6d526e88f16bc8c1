"""What is read by lines is what parse_yaml reads, whatever stands in a file."""

import random
from typing import Any

import pytest

from review import plain_yaml
from stages.common.documents import DocumentError, parse_yaml

LOCK = """schema: '2.0'
stages:
  train:
    cmd: python -m stages.train
    deps:
    - path: data/é
      hash: md5
      md5: 72e131e0cd93ceeb743a1f9fa75849e9.dir
      size: 251580
      nfiles: 1797
    - path: 1e5
      hash: md5
      md5: 00000000000000000000000000000e10
    params:
      params.yaml:
        lr: 1e-05
        launcher:
        - python
        loss: ''
        flip: no
        options: {}
      pyproject.toml:
        dependency-groups.train: ['numpy==2.4.6', "torch"]
"""
PARAMS = "# Rate.\nlr: 0.1  # half\n\nseed: 010\non: yes\nlauncher: [python]\noptions: {a: 1}\nx: -.5\n"
PIECES = [
    *"\n :-#'\"[]{}&*!|>%,?0e",
    "\n  ",
    "\n- ",
    ": ",
    "- ",
    "  a: b\n",
    "a:\n",
    "---\n",
    "\t",
    "\r",
    "\u2028",
    "<<: ",
]


def read(parse: Any, text: str) -> Any:
    try:
        return parse(text.encode())
    except DocumentError as error:
        return str(error)


@pytest.mark.parametrize("text", [LOCK, PARAMS])
def test_plain_files_are_read_alone(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = parse_yaml(text.encode())
    monkeypatch.setattr(plain_yaml, "parse_yaml", lambda content: parse_yaml(content) if len(content) < 99 else None)
    assert repr(plain_yaml.parse(text.encode())) == repr(expected)


def test_a_value_is_not_shared() -> None:
    first, second = (plain_yaml.parse(b"a: []\n") for _ in range(2))
    assert first["a"] is not second["a"]


def test_edited_files_are_read_alike() -> None:
    draw = random.Random(0)
    for _ in range(1000):
        text = draw.choice([LOCK, LOCK[:250], PARAMS])
        for _ in range(draw.randint(0, 2)):
            start = draw.randrange(len(text))
            text = text[:start] + draw.choice(PIECES) + text[start + draw.choice([0, 0, 1, 5]) :]
        lines = text.split("\n")
        if draw.random() < 0.5:
            lines.insert(draw.randrange(len(lines)), draw.choice(["", " ", "  "]) + draw.choice(lines))
        text = "\n".join(lines)
        assert repr(read(plain_yaml.parse, text)) == repr(read(parse_yaml, text)), text
