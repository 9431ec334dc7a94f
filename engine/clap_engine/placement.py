"""Where a graph may run: what the caller asks for, in words of this package.

In:  names of providers, whether falling back is allowed, limits.
Out: a frozen `Placement`, checked when it is made.
Knows nothing about onnxruntime, OpenVINO or what is installed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from clap_engine.errors import GraphError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
OPENVINO = "openvino"

# Our names -> onnxruntime's, in the order in which they are tried; OpenVINO is its own library.
PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": (CPU,),
    "cuda": (CUDA, CPU),
    "tensorrt": (TENSORRT, CUDA, CPU),
    OPENVINO: (),
}


@dataclass(frozen=True)
class Placement:
    """Where graphs run; the default is the best that is installed.

    `provider` is one of PROVIDERS, `providers` onnxruntime's own names in order: at most one of
    the two. `is_strict`: an error instead of a fall to the CPU. `gpu_mem_limit` counts bytes of
    the GPU's arena. `cache_dir`: where TensorRT and OpenVINO keep what they compiled.
    """

    provider: str | None = None
    providers: tuple[str, ...] | None = None
    is_strict: bool = False
    gpu_mem_limit: int | None = None
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.provider is not None and self.provider not in PROVIDERS:
            raise GraphError(
                f"provider {self.provider!r} is not known; choose among {', '.join(PROVIDERS)}"
            )
        if self.provider is not None and self.providers is not None:
            raise GraphError(
                f"provider {self.provider!r} and providers {list(self.providers)} are both given; "
                "give one of the two"
            )
        limit = self.gpu_mem_limit
        if limit is not None and (type(limit) is not int or limit < 1):
            raise GraphError(f"gpu_mem_limit is {limit!r}; give bytes, 1 or more, or None")
        if limit is not None and self.provider in ("cpu", OPENVINO):
            raise GraphError(f"gpu_mem_limit has no meaning with provider {self.provider!r}")

    @property
    def is_openvino(self) -> bool:
        """Does another library than onnxruntime run the graph?"""
        return self.provider == OPENVINO

    def wanted(self) -> tuple[str, ...] | None:
        """onnxruntime's providers in the order to try, or None for the best there is."""
        return self.providers if self.provider is None else PROVIDERS[self.provider]


ANYWHERE = Placement()


def user_cache_dir() -> Path:
    """This user's cache for compiled graphs; never /tmp, where others could leave theirs."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return root / "clap-engine"
