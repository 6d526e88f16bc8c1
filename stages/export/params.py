"""What export reads of params.yaml."""

from stages.model.params import AnswerParams


class ExportParams(AnswerParams):
    """What export reads."""
