"""The parts, in the order in which they run, each called in a folder of its own with params.yaml and prepared/."""

import csv
import hashlib
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cifar import environment, run_stage, write_params
from benchmarks.gpu.runs import (
    RECIPE,
    SHARED,
    Bench,
    Skipped,
    add_run,
    contestant,
    interleaved,
    place,
    prepare,
    read,
    train,
    write_patterns,
)
from benchmarks.startup import ROOT
from benchmarks.train import limit, ratios
from review.significance import Prediction, compare_models
from scripts.published_weights import from_file
from stages.model.dataset import PREPARED
from stages.model.pretrained import FOLDER, write_pretrained

CPU_RECIPE = ROOT / "configs" / "cifar10-cpu.yaml"
PHOTOS = SHARED / "data" / "ants-bees.tar"
WEIGHTS = SHARED / "data" / "tf_efficientnet_lite0.safetensors"
RESULTS = ("models/model.safetensors", "models/model.json", "plots/curves.csv", "metrics/train.json")
AIM = 0.94
# Peak learning rate and weight decay of Page, "How to train your ResNet" (2018), for batches of 512.
TO_THE_AIM: dict[str, Any] = {
    "optimizer": "sgd",
    "lr": 0.4,
    "weight_decay": 0.0005,
    "erasing": 0.25,
    "tta_flip": True,
}
PHOTO_RECIPE: dict[str, Any] = {
    "image_size": 224,
    "model": "timm/tf_efficientnet_lite0",
    "epochs": 10,
    "batch_size": 32,
    "crop_padding": 0,
    "resized_crop": 0.5,
}


class Part(NamedTuple):
    """How it is measured, and the seconds after which that is ended."""

    measure: Callable[[Bench], None]
    limit: int


def data(bench: Bench) -> None:
    """prepared/ for all parts, and the record of the machine."""
    Path("data").mkdir()
    if bench.quick or not bench.data.exists():
        kind = "patterns"
        write_patterns(Path("data"), bench.size.patterns)
    else:
        kind = "CIFAR-10, JPEG copy"
        shutil.copy(bench.data, "data")
    bench.add("images", "", kind)
    write_params(Path(), RECIPE, device=bench.device, cpu_arithmetic="native")
    prepare(bench)
    for split in ("train", "val", "test"):
        bench.add(f"{split} split", "images", len(np.load(PREPARED / f"{split}-labels.npy")))
    Path("environment.json").write_text(run_stage(Path(), "train.environment"))


def same_bytes(bench: Bench) -> None:
    size = bench.size
    others = []
    for model in size.models:
        runs = [train(bench, f"{model}-{number}", model=model, steps=size.run_steps // 2) for number in (1, 2)]
        first, second = (hashlib.sha256((run / RESULTS[0]).read_bytes()).hexdigest() for run in runs)
        bench.add(f"{model}: weights of two runs are the same", "", first == second)
        bench.add(f"{model}: SHA-256 of the weights", "", *dict.fromkeys((first, second)))
        rates = interleaved(
            bench,
            {
                kind: contestant(bench, model=model, deterministic=kind == "deterministic")
                for kind in ("deterministic", "not deterministic")
            },
        )
        for kind, measured in rates.items():
            bench.add(f"{model}: training, {kind}", "images/s", *measured)
        cost = ratios(rates["not deterministic"], rates["deterministic"])
        bench.add(f"{model}: seconds, deterministic ÷ not", "", *cost)
        others += [model] if first != second else []
    require(not others, f"two runs of `deterministic: true` gave different weights: {', '.join(others)}")


def loading(bench: Bench) -> None:
    for model in bench.size.models:
        rates = interleaved(
            bench,
            {
                "resident": contestant(bench, model=model),
                "streamed": contestant(bench, streamed=True, model=model),
                "pure compute": contestant(bench, limit, model=model),
            },
        )
        for kind, measured in rates.items():
            bench.add(f"{model}: {kind}", "images/s", *measured)
        for kind in ("resident", "streamed"):
            bench.add(f"{model}: {kind} ÷ pure compute", "", *ratios(rates[kind], rates["pure compute"]))


def resume(bench: Bench) -> None:
    changes: dict[str, Any] = {"model": bench.size.models[1], "steps": bench.size.run_steps}
    whole = train(bench, "whole", **changes)
    killed = place(bench, "killed", **changes)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train"], cwd=killed, env=environment(), stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not any(killed.glob(".dvc/tmp/checkpoints/*/0*.safetensors")):
        time.sleep(0.005)
    process.kill()
    require(process.wait() == -signal.SIGKILL, f"the run ended with {process.returncode} before it could be killed")
    run_stage(killed, "train")
    bench.add("resumed", "times", read(killed, "metrics/run.json")["resumed"])
    same = {name: (whole / name).read_bytes() == (killed / name).read_bytes() for name in RESULTS}
    for name, is_same in same.items():
        bench.add(f"{name} is the same", "", is_same)
    require(all(same.values()), "a run that was killed and resumed ended in other bytes")


def accuracy(bench: Bench) -> None:
    size = bench.size
    if not bench.quick and not bench.data.exists():
        raise Skipped(f"{bench.data}: no such file; --data names the JPEG copy of CIFAR-10")
    started = time.perf_counter()
    folder = train(bench, "run", model=size.models[1], epochs=size.epochs, **TO_THE_AIM)
    bench.add("wall of the process", "s", time.perf_counter() - started)
    add_run(bench, folder, "training_seconds", "images_per_second", "peak_gpu_memory_mb")
    bench.add("epochs", "", size.epochs)
    bench.add("val accuracy", "", read(folder, "metrics/train.json")["val_accuracy"])
    run_stage(folder, "evaluate.claim")
    claimed = read(folder, "claim/test.json")
    for name in ("accuracy", "accuracy_low", "accuracy_high", "tta_accuracy"):
        bench.add(f"test {name.replace('_', ' ')}", "", claimed[name])
    bench.add(f"test accuracy is {AIM} or more", "", claimed["accuracy"] >= AIM)


def photos(bench: Bench) -> None:
    if missing := [str(file) for file in (PHOTOS, WEIGHTS) if not file.exists()]:
        raise Skipped(f"{', '.join(missing)}: no such file")
    PREPARED.unlink()
    Path("data").mkdir()
    shutil.copy(PHOTOS, "data")
    recipe = PHOTO_RECIPE | ({"image_size": 64, "epochs": 1} if bench.quick else {})
    write_params(Path(), RECIPE, **recipe)
    prepare(bench)
    published = from_file(WEIGHTS, recipe["model"], "")
    weights = write_pretrained(published.tensors, published.origin, published.label)
    for name, changes in (("fine-tuned", {"weights": weights}), ("from scratch", {})):
        folder = place(bench, name, **recipe | changes)
        (folder / FOLDER).symlink_to(FOLDER.absolute())
        run_stage(folder, "train")
        run_stage(folder, "evaluate")
        bench.add(f"{name}: val accuracy", "", read(folder, "metrics/evaluate.json")["accuracy"])
        add_run(bench, folder, "training_seconds", "images_per_second", "peak_gpu_memory_mb", prefix=f"{name}: ")


def devices(bench: Bench) -> None:
    """On a machine without a GPU, portable arithmetic is the other device."""
    size = bench.size
    native: dict[str, Any] = {"device": "cpu", "cpu_arithmetic": "native", "threads": len(os.sched_getaffinity(0))}
    if bench.device == "cuda":
        other, changes = "cuda", {"device": "cuda"}
    else:
        other, changes = "portable", native | {"cpu_arithmetic": "portable"}
    runs = {"cpu": native, other: changes, f"{other}, seed 1": changes | {"seed": 1}}
    answers: dict[str, dict[str, Prediction]] = {}
    for name, changes in runs.items():
        fixed = {"epochs": size.short_epochs, "precision": "fp32", "batch_size": min(128, size.batch_size)}
        folder = train(bench, name, recipe=CPU_RECIPE, **fixed | changes)
        run_stage(folder, "evaluate.claim")
        bench.add(f"{name}: test accuracy", "", read(folder, "claim/test.json")["accuracy"])
        add_run(bench, folder, "training_seconds", "images_per_second", prefix=f"{name}: ")
        with (folder / "claim/confusion.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        answers[name] = {row["image"]: Prediction(row["actual"], row["predicted"]) for row in rows}
    for old, new in itertools.pairwise(answers):
        compared = compare_models(answers[old], answers[new])
        assert compared is not None  # both answered the same test split
        pair = f"{old} → {new}"
        bench.add(f"{pair}: newly right, newly wrong", "images", f"{compared.gained}, {compared.lost}")
        interval = f"[{100 * compared.low:.2f}, {100 * compared.high:.2f}]"
        bench.add(f"{pair}: difference, 95 %", "points", f"{100 * compared.difference:.2f} {interval}")
        bench.add(f"{pair}: p, exact", "", compared.p_exact)
        bench.add(f"{pair}: p, mid-p", "", compared.p_value)
        bench.add(f"{pair}: a difference is found", "", compared.significant)


def precision(bench: Bench) -> None:
    size = bench.size
    kinds = ("bf16", "fp32")
    for model in size.models:
        rates = interleaved(bench, {kind: contestant(bench, model=model, precision=kind) for kind in kinds})
        for kind, measured in rates.items():
            bench.add(f"{model}, {kind}: training", "images/s", *measured)
        bench.add(f"{model}: bf16 ÷ fp32", "", *ratios(rates["bf16"], rates["fp32"]))
    for kind in kinds:
        folder = train(bench, kind, model=size.models[1], precision=kind, steps=size.steps)
        add_run(bench, folder, "peak_memory_mb", "peak_gpu_memory_mb", prefix=f"{size.models[1]}, {kind}: ")


def compiled(bench: Bench) -> None:
    if bench.device == "cuda" and not importlib.util.find_spec("triton"):
        raise Skipped("torch.compile needs Triton on a GPU, which is not installed")
    # Triton builds its launchers in C, Inductor its kernels for a CPU in C++.
    if not any(map(shutil.which, ("cc", "gcc", "clang") if bench.device == "cuda" else ("g++", "clang++"))):
        raise Skipped("torch.compile needs a C compiler, of which there is none on PATH")
    from torch._dynamo.utils import counters

    # Of an earlier run, the compiled code would be read from there.
    caches = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
    os.environ |= {variable: str(Path(name).absolute()) for variable, name in caches.items()}
    model = bench.size.models[1]
    contestants = {kind: contestant(bench, model=model, compile=kind == "compiled") for kind in ("eager", "compiled")}
    contestants["eager"](1)  # loads libraries, which the others need, too
    first = {}
    for kind, seconds in contestants.items():
        started = time.perf_counter()
        seconds(1)
        first[kind] = time.perf_counter() - started
        bench.add(f"{model}, {kind}: a step, at first", "s", first[kind])
    bench.add(f"{model}: compiling", "s", first["compiled"] - first["eager"])
    graphs = counters["stats"]["unique_graphs"]
    bench.add(f"{model}: graphs", "", graphs)
    require(graphs > 0, "torch.compile has compiled nothing")
    rates = interleaved(bench, contestants)
    for kind, measured in rates.items():
        bench.add(f"{model}, {kind}: training", "images/s", *measured)
    bench.add(f"{model}: compiled ÷ eager", "", *ratios(rates["compiled"], rates["eager"]))


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RuntimeError(otherwise)


PARTS = {
    "data": Part(data, 60),
    "bytes": Part(same_bytes, 140),
    "loading": Part(loading, 75),
    "resume": Part(resume, 75),
    "accuracy": Part(accuracy, 170),
    "photos": Part(photos, 130),
    "devices": Part(devices, 150),
    "precision": Part(precision, 90),
    "compile": Part(compiled, 75),
}
