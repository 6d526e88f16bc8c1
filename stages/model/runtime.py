"""How the machine is used: device, precision, arithmetic, threads, determinism, random streams."""

import contextlib
import hashlib
import os
import platform
from dataclasses import dataclass

import torch

from stages.common import arithmetic
from stages.common.errors import UserError
from stages.model.params import RuntimeParams

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# What a CPU must have for bfloat16 to be faster than float32; elsewhere it is computed by conversion.
_CPU_BF16 = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Runtime:
    """The device; the precision of matrix products and convolutions there, fp32, bf16 or fp16; and the arithmetic:
    portable, which gives the same bytes on every x86-64 CPU with AVX2, or native, whose bytes are of a kind of machine.
    `remark`: why it is native where params.yaml says portable, or what portable arithmetic replaced."""

    device: torch.device
    precision: str
    arithmetic: str = "native"
    remark: str = ""

    def autocast(self) -> "contextlib.AbstractContextManager[None]":
        """Compute in the chosen precision while entered; weights and sums stay fp32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.precision])

    def __str__(self) -> str:
        deterministic = "deterministic" if torch.are_deterministic_algorithms_enabled() else "not deterministic"
        return (
            f"{describe(self.device)}; {self.precision}{self._slow()}, {self.arithmetic} arithmetic"
            f"{f' ({self.remark})' if self.remark else ''}, channels_last, {deterministic}"
        )

    def _slow(self) -> str:
        if self.device.type == "cpu" and self.precision == "bf16" and not cpu_has_bf16():
            return " (slow on this CPU, which lacks AVX512_BF16 and AMX)"
        return ""


def setup(params: RuntimeParams, local_rank: int = 0, *, compiled: bool = False) -> Runtime:
    """Choose device, precision and arithmetic, fix the number of threads and the kind of algorithms; before the first
    operation of the process. `compiled`: the model's kernels are generated for this CPU.

    Raises UserError where `device: cuda` asks for a GPU that PyTorch does not see, or where processes outnumber GPUs.
    """
    if params.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device: cuda in params.yaml, but PyTorch sees no CUDA GPU here. Set `device: auto` or `device: cpu`."
        )
    # cuBLAS reads this when it is first used; without it, deterministic algorithms refuse matrix products on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The public twin of use_deterministic_algorithms that does not import torch._inductor, which takes seconds.
    torch.set_deterministic_debug_mode("error" if params.deterministic else "default")
    # It would also fill every new tensor with NaN before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # not in its stub
    torch.backends.cudnn.benchmark = not params.deterministic
    # PyTorch would compute fp32 convolutions on a GPU with the 10-bit mantissa of TF32.
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(params.threads)
    if params.device == "cpu" or not torch.cuda.is_available():
        device = torch.device("cpu")
    else:
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"launcher: process {local_rank} of this machine finds {torch.cuda.device_count()} GPUs, one for each "
                "process expected. Start as many processes as there are GPUs."
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    portable = params.cpu_arithmetic == "portable"
    precision: str = params.precision
    if precision == "auto":
        only_fp32 = portable and device.type == "cpu" and not arithmetic.why_not_portable()
        precision = "fp32" if only_fp32 else choose_precision(device)
    remark = _why_native(device, precision, compiled=compiled) if portable else ""
    if not portable or remark:
        return Runtime(device, precision, "native", remark)
    arithmetic.use_portable_torch()
    arithmetic.require_portable()
    replaced = ", ".join(f"{name}={value}" for name, value in arithmetic.replaced.items())
    return Runtime(device, precision, "portable", f"in place of the environment's {replaced}" if replaced else "")


def _why_native(device: torch.device, precision: str, *, compiled: bool) -> str:
    """Why `cpu_arithmetic: portable` promises nothing in this run; an empty text where it holds."""
    if device.type != "cpu":
        return "cpu_arithmetic concerns CPUs only"
    if reason := arithmetic.why_not_portable():
        return f"{reason}, so its bytes are not those of other machines"
    if precision != "fp32":
        return f"only fp32 is portable, not {precision}"
    return "torch.compile generates kernels for this CPU" if compiled else ""


def choose_precision(device: torch.device) -> str:
    """The fastest precision that `device` computes in hardware: what `precision: auto` means."""
    if device.type == "cpu":
        return "bf16" if cpu_has_bf16() else "fp32"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    # Tensor cores came with compute capability 7.
    return "fp16" if torch.cuda.get_device_capability(device) >= (7, 0) else "fp32"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in _CPU_BF16)


def describe(device: torch.device) -> str:
    """The device in words, for the log."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return f"cpu, {cpu_name()}, {torch.get_num_threads()} threads"


def cpu_name() -> str:
    """The processor's model name; the architecture where the system does not tell."""
    return arithmetic.cpu_info("model name") or platform.processor() or platform.machine()


def stream_seed(seed: int, *purpose: str | int) -> int:
    """The seed of one purpose's random numbers, such as ("order", epoch): independent of all others."""
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def seeded_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose, whatever was drawn before."""
    return torch.Generator().manual_seed(stream_seed(seed, *purpose))


def seed_layers(device: torch.device, seed: int) -> None:
    """Seed what layers such as dropout draw from. torch.manual_seed seeds every kind of device there is, slowly."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed % 2**63)
    else:
        torch.default_generator.manual_seed(seed)
