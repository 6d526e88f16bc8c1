"""The stages that `dvc repro` runs, each as `python -m stages.<name>`, and what they share."""

import stages.common  # noqa: F401  # before anything imports NumPy or PyTorch
