# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The prepared images, and the model's mistakes
#
# Run the pipeline first (`make repro`). All data are read with the functions of `stages`, as in the pipeline. The
# mistakes are those on the **validation** split: a test split that guides tuning is no longer a test.

# %%
import os
import sys
import textwrap
from pathlib import Path

# The stages' paths are those of the project's folder; Jupyter starts in this file's.
os.chdir(next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "dvc.yaml").exists()))
sys.path.insert(0, str(Path.cwd()))

import stages  # noqa: F401, I001  # before NumPy, whose kernels it chooses

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from stages.common.escape import mathtext
from stages.common.params import load
from stages.common.softmax import softmax
from stages.evaluate.figures import drawn_names
from stages.evaluate.params import EvaluateParams
from stages.model.dataset import Split, load_info
from stages.model.runtime import setup
from stages.model.trained import load_trained

params = load(EvaluateParams)
runtime = setup(params)  # before PyTorch's first operation, whose kernels it chooses
info = load_info()
print(
    f"{len(info.classes)} classes: {', '.join(info.classes[:20])}; {info.image_size} pixels, {info.channels} channels"
)


drawn = drawn_names(info.classes)
names = list(drawn.values())
# Numbers stand for names that Matplotlib cannot draw.
print(", ".join(f"{number} {name}" for name, number in drawn.items() if number != name))


# %%
def show(images: np.ndarray, titles: list[str], columns: int = 8) -> None:
    """Pictures in a grid, uint8 N×H×W×C, each under its title."""
    rows = max(1, -(-len(images) // columns))
    figure, axes = plt.subplots(rows, columns, figsize=(1.3 * columns, 1.5 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        axis.set_title(mathtext(textwrap.shorten(title, 44)).replace(" → ", " →\n"), fontsize=6, wrap=True)
    figure.tight_layout()
    plt.show()


# %% [markdown]
# ## The images
#
# How many raw images were kept in each split, and the first ones of each class, as the model gets them.

# %%
manifest = pd.read_csv("prepared/manifest.csv", dtype=str, keep_default_na=False)
print(pd.crosstab(manifest["class"], [manifest["status"], manifest["split"]]))

# %%
train = Split.load("train", info, torch.device("cpu"))
labels = train.labels.numpy()
first = [index for label in range(len(info.classes)) for index in np.flatnonzero(labels == label)[:4]][:64]
(images,) = train.rows([torch.tensor(first)])
show(images.numpy(), [names[labels[index]] for index in first])

# %% [markdown]
# ## Training

# %%
curves = pd.read_csv("plots/curves.csv", index_col="epoch")
curves[["train_accuracy", "val_accuracy"]].plot(title="accuracy", figsize=(6, 3))
plt.show()

# %% [markdown]
# ## Mistakes on the validation split, most confident first

# %%
model = load_trained().to(runtime.device)
val = Split.load("val", model.info, runtime.device)
probabilities = softmax(model.logits(val.batches(params.eval_batch_size), runtime))
actual, predicted = val.labels.cpu().numpy(), probabilities.argmax(1)
wrong = np.flatnonzero(predicted != actual)
wrong = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")]
print(f"val accuracy {1 - len(wrong) / len(actual):.4f}: {len(wrong)} of {len(actual)} images are wrong")

# %%
(images,) = val.rows([torch.from_numpy(wrong[:32]).to(val.indexed_on)])
show(
    images.cpu().numpy(),
    [f"{names[actual[i]]} → {names[predicted[i]]} {probabilities[i].max():.2f}" for i in wrong[:32]],
)

# %%
pairs = pd.DataFrame(
    {"actual": np.array(info.classes)[actual[wrong]], "predicted": np.array(info.classes)[predicted[wrong]]}
)
print(pairs.value_counts().head(10))
