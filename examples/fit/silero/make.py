"""Silero says whether somebody speaks: the graph from its package, a person's voice from a Debian package, noise.

Usage: python examples/fit/silero/make.py FOLDER

Needs silero-vad and, where it is not installed, Debian's asterisk-core-sounds-en-wav, which is fetched and unpacked
(18 MB) without being installed. The spoken prompts of a telephone exchange, at times that are known, lie in noise of 5
to 25 dB less. The model carries a state from one piece of 32 ms to the next: rows have the state that the fp32 model
had there. The truth is whether the voice without the noise is loud; pieces where it is neither loud nor still are left
out.
"""

import subprocess
import sys
import tempfile
import wave
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from laying import inside, lay_out, main  # noqa: E402

STREAM = "stream.npz"

PACKAGE, VOICE = "asterisk-core-sounds-en-wav", "usr/share/asterisk/sounds/en_US_f_Allison"
RATE, PIECE, CONTEXT = 16000, 512, 64
CLIPS, ROWS, SEED = 90, 2000, 7
LOUD_DB, STILL_DB = -25.0, -45.0
GAP_S = (0.3, 1.5)


def make(folder: Path) -> None:
    """Lay the workspace out."""
    graph = inside("silero_vad", "data/silero_vad_16k_op15.onnx").read_bytes()
    installed = Path("/") / VOICE
    with tempfile.TemporaryDirectory() as work:
        voice = installed if installed.is_dir() else fetched(Path(work))
        sound, truth = stream([spoken(file) for file in chosen(voice)])
    rows = carried(graph, sound)
    clear = np.flatnonzero(truth >= 0)
    picked = np.sort(np.random.default_rng(SEED).choice(clear, min(ROWS, len(clear)), replace=False))
    columns = {name: array[picked] for name, array in rows.items()}
    lay_out(HERE, folder, graph, {**columns, "truth": truth[picked]}, f"silero-vad {version('silero-vad')}")
    np.savez(folder / STREAM, allow_pickle=False, input=rows["input"], picked=picked)  # for who hands a state on


def fetched(folder: Path) -> Path:
    """Fetch the prompts and unpack them; nothing is installed."""
    subprocess.run(["apt-get", "download", "-qq", PACKAGE], check=True, cwd=folder)  # noqa: S603, S607
    subprocess.run(["dpkg", "-x", next(folder.glob("*.deb")).name, "."], check=True, cwd=folder)  # noqa: S603, S607
    return folder / VOICE


def chosen(voice: Path) -> list[Path]:
    """Draw some of the prompts, the same each time."""
    prompts = sorted(voice.rglob("*.wav"))
    order = np.random.default_rng(SEED).permutation(len(prompts))
    return [prompts[place] for place in order[:CLIPS]]


def spoken(file: Path) -> np.ndarray:
    """Read samples of a prompt at twice its 8,000 a second, the loudest at 1."""
    with wave.open(str(file)) as prompt:
        samples = np.frombuffer(prompt.readframes(prompt.getnframes()), np.int16).astype(np.float64)
    spectrum = np.fft.rfft(samples)
    doubled = np.fft.irfft(np.concatenate([spectrum, np.zeros(len(samples) - len(spectrum) + 1)]), 2 * len(samples))
    return np.asarray(doubled / max(1e-9, np.abs(doubled).max()))


def stream(prompts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Prompts and gaps in noise, and for each piece 1 (speech), 0 (none) or -1 (in between)."""
    random = np.random.default_rng(SEED)
    clean, noise = [], []
    for prompt in prompts:
        voice = np.concatenate([np.zeros(int(RATE * random.uniform(*GAP_S))), prompt * random.uniform(0.2, 0.9)])
        level = np.sqrt(np.mean(prompt**2)) * 10 ** (-random.uniform(5, 25) / 20)
        clean.append(voice)
        noise.append(random.normal(0, level, len(voice)))
    whole, hiss = np.concatenate(clean), np.concatenate(noise)
    pieces = whole[: len(whole) // PIECE * PIECE].reshape(-1, PIECE)
    loudness = 20 * np.log10(np.sqrt((pieces**2).mean(axis=1)) + 1e-9)
    truth = np.where(loudness > LOUD_DB, 1, np.where(loudness < STILL_DB, 0, -1))
    return np.clip(whole + hiss, -1, 1).astype(np.float32), truth


def carried(graph: bytes, sound: np.ndarray) -> dict[str, np.ndarray]:
    """Make the requests of a caller who hands the state on: inputs of the graph, a piece of sound each."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    state = np.zeros((2, 1, 128), np.float32)
    inputs, states = [], []
    for start in range(0, len(sound) - PIECE + 1, PIECE):
        inputs.append(padded[None, start : start + CONTEXT + PIECE])
        states.append(state)
        _, state = session.run(None, {"input": inputs[-1], "state": state, "sr": np.array(RATE)})
    return {"input": np.stack(inputs), "state": np.stack(states), "sr": np.full(len(inputs), RATE)}


if __name__ == "__main__":
    main(make, __doc__)
