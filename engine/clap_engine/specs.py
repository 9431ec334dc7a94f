"""What a bundle says about itself, as frozen records.

In:  nothing.
Out: `Manifest` and the records it is made of, units in their names.
Knows nothing about JSON, about what is allowed, or about files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PRECISIONS = ("fp32", "int8", "fp16")
GOLDEN_KINDS = ("chirp", "tones", "noise")
# How a clip shorter than a window fills it: repeated to its end; repeated as often as it fits
# whole, then zeros; zeros.
PADDINGS = ("repeat", "repeat_pad", "zero")
# What a decibel is relative to: the window's own peak, or power 1.
REFERENCES = ("peak", "one")
# What stands beside the window where the first and last frames reach out of it.
PAD_MODES = ("zero", "reflect")
# The first release that reads a field. Older ones refuse a manifest in which it stands, which is
# where it differs from its default; without any, MIN_RUNTIME reads it.
MIN_RUNTIME = "0.1.0"
SINCE_0_2 = {"since": "0.2.0"}


@dataclass(frozen=True)
class FileEntry:
    """Digest and length of one file of the bundle."""

    sha256: str
    size: int


@dataclass(frozen=True)
class GraphSpec:
    """One precision of a tower; `dynamic_scale`: results depend on batch mates, run one item.

    `is_slow`: int8 that took longer than float32 on a CPU with fast int8, where it was made.
    """

    file: str
    dynamic_scale: bool
    is_slow: bool = field(default=False, metadata=SINCE_0_2)


@dataclass(frozen=True)
class AudioSpec:
    """The audio front end; `hop` and `pad` (added on each side) count samples of the STFT.

    `floor_db` is the range under the peak, None where the reference is one: there `amin`, the
    least power, is the floor. `native_dim`: length of the graphs' output `native`, if they have it.
    """

    rate_hz: int
    window_s: float
    hop_s: float
    n_fft: int
    hop: int
    pad: int
    n_mels: int
    n_frames: int
    floor_db: float | None
    padding: str
    frontend: str
    graphs: dict[str, GraphSpec]
    frame_s: float | None
    reference: str = field(default="peak", metadata=SINCE_0_2)
    amin: float = field(default=1e-10, metadata=SINCE_0_2)
    pad_mode: str = field(default="zero", metadata=SINCE_0_2)
    native_dim: int | None = field(default=None, metadata=SINCE_0_2)

    @property
    def window_samples(self) -> int:
        """Samples of one window at `rate_hz`."""
        return round(self.window_s * self.rate_hz)


@dataclass(frozen=True)
class TextSpec:
    """The text front end; `prefix` and `suffix` surround every text.

    `keep_last`: how many ids a text that is cut still ends with; 0 where the tokenizer's own
    template and the suffix say it.
    """

    tokenizer: str
    max_tokens: int
    pad_id: int
    prefix: str
    suffix: str
    graphs: dict[str, GraphSpec]
    keep_last: int = field(default=0, metadata=SINCE_0_2)
    native_dim: int | None = field(default=None, metadata=SINCE_0_2)


@dataclass(frozen=True)
class CaptionSpec:
    """What turns a sound into words: a mapper and a decoder per precision, and how to search.

    The mapper makes `native` [B, native_dim] a prefix of `prefix_length` embeddings; the decoder
    goes on from there, at most `max_tokens` ids, `beam` at a time, until `stop_id`.
    """

    mapper: dict[str, GraphSpec]
    decoder: dict[str, GraphSpec]
    tokenizer: str
    prefix_length: int
    native_dim: int
    hidden: int
    layers: int
    heads: int
    head_dim: int
    vocabulary: int
    max_positions: int
    stop_id: int
    beam: int
    max_tokens: int


@dataclass(frozen=True)
class AudioGolden:
    """Golden waveform `index`: made by goldens.golden_waveform, of kind index mod 3."""

    kind: str
    index: int


@dataclass(frozen=True)
class Goldens:
    """Inputs whose embeddings are stored in `file`; `tolerance`: smallest cosine allowed."""

    texts: tuple[str, ...]
    audio: tuple[AudioGolden, ...]
    file: str
    tolerance: dict[str, float]


@dataclass(frozen=True)
class Manifest:
    """All that the runtime trusts about a bundle."""

    schema: int
    id: str
    revision: str
    space_id: str
    dim: int
    ladder: tuple[int, ...]
    description: str
    demonstration: bool
    licences: dict[str, str]
    producer: dict[str, str]
    min_runtime: str
    files: dict[str, FileEntry]
    audio: AudioSpec
    text: TextSpec
    logit_scale: float
    logit_bias: float
    templates: dict[str, tuple[str, ...]]
    calibration: dict[str, float]
    parity: dict[str, Any]
    goldens: Goldens
    caption: CaptionSpec | None = field(default=None, metadata=SINCE_0_2)
