"""Gravis patches -> one SoundFont: FreePats comes as a folder of `.pat` files.

In:  folders of patches named by number (`Tone_000/040_Violin.pat`, `Drum_000/058_Vibra-Slap.pat`).
Out: the bytes of a SoundFont 2.01: the tones are bank 0, the drums kit 0 of bank 128.
Knows nothing about packages, classes or rendering.

A patch is GF1PATCH110: a header of 129 bytes, 63 for the instrument, 47 for the layer, then for
each sample 96 bytes and its data. Loops that run to and fro are written out, since SoundFonts have
none; of the six stages of the envelope the attack, the decay and the release are kept.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clap_engine.errors import ClapError

HEADERS = 129 + 63 + 47
SAMPLES_AT = 198  # in the layer's header: how many samples follow
WIDE, UNSIGNED, LOOPED, PINGPONG, BACKWARDS, SUSTAINED, ENVELOPE = (1 << bit for bit in range(7))
SILENCE = 46  # sample points that the format wants after each sample
DRUM_BANK = 128
# Generators of the SoundFont 2.01 specification, chapter 8.1.2.
RELEASE, SUSTAIN, DECAY, ATTACK = 38, 37, 36, 34
INSTRUMENT, KEY_RANGE, SAMPLE, MODES, SCALE_TUNING, ROOT_KEY = 41, 43, 53, 54, 56, 58
FULL_RANGE_S = 47.4  # of an envelope at rate 1 of its slowest range (44,100 updates a second)
DRUM_RING_S = 3.0


class PatchError(ClapError, ValueError):
    """A patch that is damaged, or of a kind that FreePats has not."""


@dataclass(frozen=True)
class Wave:
    """One sample: int16 points, its loop (or none), its pitch and the keys that it is for."""

    points: np.ndarray
    loop: tuple[int, int] | None
    rate_hz: int
    root_key: float
    low_key: int
    high_key: int
    attack_s: float
    decay_s: float
    release_s: float
    sustain: float


def key_of(millihertz: int) -> float:
    return 69 + 12 * float(np.log2(max(millihertz, 1) / 440_000))


def stage_s(rate: int, distance: float) -> float:
    """How long an envelope takes over a part of its range."""
    step = (rate & 63) * 8 ** (3 - (rate >> 6))
    return FULL_RANGE_S * distance / max(step, 1)


def read(patch: bytes) -> list[Wave]:
    """The samples of a patch of one layer."""
    if not patch.startswith(b"GF1PATCH1") or len(patch) < HEADERS:
        raise PatchError("not a Gravis patch (GF1PATCH110)")
    waves, at = [], HEADERS
    for _ in range(patch[SAMPLES_AT]):
        head = struct.unpack_from("<7sBIIIHIIIHB6B6B6BBHH36s", patch, at)
        _, _, size, start, end, rate_hz, low, high, root = head[:9]
        rates, offsets, modes = head[11:17], head[17:23], head[29]
        data = patch[at + 96 : at + 96 + size]
        if len(data) != size:
            raise PatchError(f"a sample of {size} bytes is cut at {len(data)}")
        at += 96 + size
        width = 2 if modes & WIDE else 1
        points = np.frombuffer(data[: size // width * width], "<i2" if width == 2 else "i1")
        points = points.astype(np.int32) * (1 if width == 2 else 256)
        if modes & UNSIGNED:
            points = ((points + 65536) % 65536) - 32768
        if modes & BACKWARDS:
            points = points[::-1]
        loop = None
        first, last = start // width, min(end // width, len(points))
        if modes & LOOPED and last - first > 8:
            if modes & PINGPONG:
                points = np.concatenate([points[:last], points[first:last][::-1]])
                last += last - first
            points, loop = points[:last], (first, last)
        sustain = 10 ** ((offsets[2] / 255 - 1) * 2.4) if modes & ENVELOPE else 1.0
        held = modes & SUSTAINED or not modes & ENVELOPE
        fall = max(0.02, (offsets[0] - offsets[2]) / 255)
        waves.append(
            Wave(
                points=points.astype(np.int16),
                loop=loop,
                rate_hz=rate_hz,
                root_key=key_of(root),
                low_key=max(0, round(key_of(low))),
                high_key=min(127, round(key_of(high))),
                attack_s=stage_s(rates[0], offsets[0] / 255) if modes & ENVELOPE else 0.001,
                decay_s=min(20.0, stage_s(rates[1], fall) + stage_s(rates[2], fall)),
                release_s=min(3.0, max(0.03, stage_s(rates[3], 1.0))) if loop else 0.3,
                sustain=sustain if held else 0.0,
            )
        )
    if not waves:
        raise PatchError("a patch without samples")
    return waves


def timecents(seconds: float) -> int:
    return max(-12_000, min(8_000, round(1200 * float(np.log2(max(seconds, 1e-3))))))


@dataclass(frozen=True)
class _Zone:
    """What one sample is to an instrument: generators in the order that the format wants."""

    generators: tuple[tuple[int, int], ...]
    sample: int


def _zone(wave: Wave, sample: int, keys: tuple[int, int], is_drum: bool) -> _Zone:
    fall_db = -20 * float(np.log10(max(wave.sustain, 1e-5)))
    generators = [
        (KEY_RANGE, keys[0] | keys[1] << 8),
        (ATTACK, timecents(wave.attack_s)),
        (RELEASE, timecents(DRUM_RING_S if is_drum else wave.release_s)),
        (MODES, 1 if wave.loop and not is_drum else 0),
    ]
    if fall_db > 1 and not is_drum:
        generators += [(DECAY, timecents(wave.decay_s)), (SUSTAIN, min(1440, round(fall_db * 10)))]
    if is_drum:
        generators += [(SCALE_TUNING, 0), (ROOT_KEY, keys[0])]
    return _Zone(tuple(generators), sample)


def soundfont(tones: Sequence[Path], drums: Sequence[Path], name: str) -> bytes:
    """A SoundFont of all patches; `tones` and `drums` begin with the number they stand for."""
    waves: list[tuple[str, Wave]] = []
    instruments: list[tuple[str, list[_Zone]]] = []
    presets: list[tuple[str, int, int, int]] = []
    for path in sorted(tones):
        program = int(path.stem.split("_")[0])
        zones, found = [], sorted(read(path.read_bytes()), key=lambda wave: wave.root_key)
        low = 0
        for i, wave in enumerate(found):
            # Neighbouring samples share the keys between them; the outer ones reach the ends.
            middle = (wave.root_key + found[min(i + 1, len(found) - 1)].root_key) / 2
            high = 127 if i == len(found) - 1 else max(low, int(middle))
            zones.append(_zone(wave, len(waves), (low, high), is_drum=False))
            low = min(127, high + 1)
            waves.append((path.stem[:18], wave))
        presets.append((path.stem[:18], program, 0, len(instruments)))
        instruments.append((path.stem[:18], zones))
    kit = []
    for path in sorted(drums):
        key, wave = int(path.stem.split("_")[0]), read(path.read_bytes())[0]
        kit.append(_zone(wave, len(waves), (key, key), is_drum=True))
        waves.append((path.stem[:18], wave))
    if kit:
        presets.append(("Standard", 0, DRUM_BANK, len(instruments)))
        instruments.append(("Standard", kit))
    return _written(waves, instruments, presets, name)


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _name(text: str) -> bytes:
    return text.encode("ascii", "replace")[:19].ljust(20, b"\0")


def _written(
    waves: Sequence[tuple[str, Wave]],
    instruments: Sequence[tuple[str, list[_Zone]]],
    presets: Sequence[tuple[str, int, int, int]],
    name: str,
) -> bytes:
    points, headers, at = [], b"", 0
    for text, wave in waves:
        loop = wave.loop or (0, 0)
        root = round(wave.root_key)
        cents = round((wave.root_key - root) * -100)
        headers += struct.pack(
            "<20sIIIIIBbHH", _name(text), at, at + len(wave.points), at + loop[0], at + loop[1],
            wave.rate_hz, max(0, min(127, root)), cents, 0, 1,
        )  # fmt: skip
        points += [wave.points, np.zeros(SILENCE, np.int16)]
        at += len(wave.points) + SILENCE
    headers += struct.pack("<20sIIIIIBbHH", _name("EOS"), 0, 0, 0, 0, 0, 0, 0, 0, 0)
    inst, ibag, igen, bags, gens = b"", b"", b"", 0, 0
    for text, zones in instruments:
        inst += struct.pack("<20sH", _name(text), bags)
        for zone in zones:
            ibag += struct.pack("<HH", gens, 0)
            bags += 1
            for generator, value in (*zone.generators, (SAMPLE, zone.sample)):
                igen += struct.pack("<HH", generator, value & 0xFFFF)
                gens += 1
    inst += struct.pack("<20sH", _name("EOI"), bags)
    ibag += struct.pack("<HH", gens, 0)
    igen += struct.pack("<HH", 0, 0)
    phdr, pbag, pgen = b"", b"", b""
    ordered = sorted(presets, key=lambda preset: (preset[2], preset[1]))
    for i, (text, program, bank, instrument) in enumerate(ordered):
        phdr += struct.pack("<20sHHHIII", _name(text), program, bank, i, 0, 0, 0)
        pbag += struct.pack("<HH", i, 0)
        pgen += struct.pack("<HH", INSTRUMENT, instrument)
    phdr += struct.pack("<20sHHHIII", _name("EOP"), 0, 0, len(ordered), 0, 0, 0)
    pbag += struct.pack("<HH", len(ordered), 0)
    pgen += struct.pack("<HH", 0, 0)
    modulators = b"\0" * 10
    info = b"INFO" + b"".join(
        (
            _chunk(b"ifil", struct.pack("<HH", 2, 1)),
            _chunk(b"isng", b"EMU8000\0"),
            # Text ends in one or two zeros: its size has to be even.
            _chunk(b"INAM", name.encode() + b"\0" * (2 - len(name) % 2)),
        )
    )
    sound = b"sdta" + _chunk(b"smpl", np.concatenate(points).astype("<i2").tobytes())
    tables = {
        b"phdr": phdr, b"pbag": pbag, b"pmod": modulators, b"pgen": pgen, b"inst": inst,
        b"ibag": ibag, b"imod": modulators, b"igen": igen, b"shdr": headers,
    }  # fmt: skip
    data = b"pdta" + b"".join(_chunk(key, value) for key, value in tables.items())
    lists = b"".join(_chunk(b"LIST", part) for part in (info, sound, data))
    return b"RIFF" + struct.pack("<I", 4 + len(lists)) + b"sfbk" + lists
