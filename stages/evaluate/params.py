"""What evaluate reads of params.yaml."""

from stages.model.params import RuntimeParams


class EvaluateParams(RuntimeParams):
    """What evaluate reads."""

    tta_flip: bool
