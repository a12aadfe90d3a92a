"""Random smooth fields for radiographs: few cosine waves, and noise with a falling spectrum."""

import numpy as np


def smooth_field(shape: tuple[int, ...], waves: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32, zero mean, deviation about 1: ``waves`` x ``waves`` cosines of random weight."""
    weights = rng.normal(0, 1, (waves, waves)) / waves * 2
    weights[0, 0] = 0
    phase = rng.uniform(0, 0.5, 2)
    order = np.arange(waves)
    rows = np.cos(np.pi * order * (np.arange(shape[0])[:, None] / shape[0] + phase[0]))
    columns = np.cos(np.pi * order * (np.arange(shape[1])[:, None] / shape[1] + phase[1]))
    return (rows @ weights @ columns.T).astype(np.float32)


def cloudy_field(shape: tuple[int, ...], power: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) noise whose spectrum falls with frequency to the ``power``, standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(0, 1, shape)) / frequency**power
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, shape)
    return field / max(float(field.std()), 1e-9)
