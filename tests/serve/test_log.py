"""The log on disks that are full, slow or another's."""

import json
import os
import resource
from pathlib import Path

import pytest

from serve.log import LINES, PICTURES, AnswerLog, Entry
from stages.common.errors import UserError
from tests.serving import until


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """Where the disk is full in the middle of one, so that the lines after it can be read."""
    file = tmp_path / "log"
    log = AnswerLog(file, None)
    log.put(Entry([{"id": "a"}], {}))
    until(lambda: file.read_text() == '{"id": "a"}\n')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        log.put(Entry([{"id": "b" * 5000}], {}))
        until(lambda: log.lost[LINES])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.problems[LINES] == "File too large"
    log.put(Entry([{"id": "c"}], {}))
    log.close()
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["a", "c"]
    assert log.problems[LINES] == ""


def test_a_disk_that_hangs_delays_nobody(tmp_path: Path) -> None:
    """A pipe that nobody reads: what it does not take is counted, in the end, and pictures first."""
    os.mkfifo(tmp_path / "log")
    with pytest.raises(UserError, match="No such device or address"):
        AnswerLog(tmp_path / "log", None)
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    log = AnswerLog(tmp_path / "log", tmp_path / "kept")
    picture = bytes(2**20)
    log.put(Entry([{"id": "x" * 2**20}], {}))  # more than a pipe takes
    for number in range(11_000):
        log.put(Entry([{"id": "x"}], {f"{number}": picture} if number < 100 else {}))
    assert log.lost[LINES] > 0
    assert log.lost[PICTURES] == 100 - 64
    os.close(reader)
    log.close()
