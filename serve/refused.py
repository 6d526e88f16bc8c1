"""How a request ends that the service does not answer: a status and one sentence."""


class Refused(Exception):  # noqa: N818  # it says what is wrong
    """`kind` is a word for the metrics; the text says what was expected and what came."""

    def __init__(self, status: int, kind: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.kind = kind


class Undecodable(Exception):  # noqa: N818  # it says what is wrong
    """Bytes that are no picture which the service reads; the text says why."""
