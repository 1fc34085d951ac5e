"""What the channels of one latent hold, and how well a linear map to colours stands in for the decoder. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """One channel's least and greatest value, mean, standard deviation, and the cell (x, y) furthest from 0."""

    minimum: float
    maximum: float
    mean: float
    deviation: float
    peak: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class LinearColours:
    """A linear map from latent channels to colour, colour = channels @ factors[:-1] + factors[-1], colours in 0..1.

    `factors` is (5, 3) float32. `r_squared` is the share of the colours' variance that the map explains where it was
    fitted.
    """

    factors: np.ndarray
    r_squared: float

    def picture(self, latent: np.ndarray) -> np.ndarray:
        """(4, h, w) to (h, w, 3) uint8, clipped."""
        colours = latent.transpose(1, 2, 0) @ self.factors[:-1] + self.factors[-1]
        picture: np.ndarray = np.clip(colours * 255.0 + 0.5, 0, 255).astype(np.uint8)
        return picture

    def explained(self, latent: np.ndarray, colours: np.ndarray) -> float:
        """R^2 of this map, fitted elsewhere, on a latent (4, h, w) and the mean colours (h, w, 3) of its cells.

        Below 0 where the colours' own mean would be the better guess.
        """
        told = latent.transpose(1, 2, 0) @ self.factors[:-1] + self.factors[-1]
        return _r_squared(told.reshape(-1, 3), colours.reshape(-1, 3))


def channel_facts(latent: np.ndarray) -> tuple[ChannelFacts, ...]:
    """The facts of each channel of a (4, h, w) latent."""
    return tuple(_facts(channel) for channel in latent)


def fit_linear_colours(latent: np.ndarray, colours: np.ndarray) -> LinearColours:
    """Fit by least squares: a latent (4, h, w) to the colours (h, w, 3) in 0..1 that its cells stand for."""
    channels = latent.reshape(len(latent), -1).T.astype(np.float64)
    inputs = np.concatenate([channels, np.ones((len(channels), 1))], axis=1)
    wanted = colours.reshape(-1, 3).astype(np.float64)
    factors, *_ = np.linalg.lstsq(inputs, wanted, rcond=None)
    return LinearColours(factors.astype(np.float32), _r_squared(inputs @ factors, wanted))


def cell_colours(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mean colour of the pixels behind each latent cell: (H, W, 3) uint8 to (height, width, 3) float64 in 0..1."""
    blocks = pixels.reshape(height, pixels.shape[0] // height, width, pixels.shape[1] // width, 3)
    means: np.ndarray = blocks.mean(axis=(1, 3)) / 255.0
    return means


def _facts(channel: np.ndarray) -> ChannelFacts:
    y, x = np.unravel_index(int(np.abs(channel).argmax()), channel.shape)
    return ChannelFacts(
        float(channel.min()), float(channel.max()), float(channel.mean()), float(channel.std()), (int(x), int(y))
    )


def _r_squared(told: np.ndarray, wanted: np.ndarray) -> float:
    """1 for a picture of one colour that is met exactly, where the usual quotient is 0/0."""
    spread = float(((wanted - wanted.mean(axis=0)) ** 2).sum())
    missed = float(((told - wanted) ** 2).sum())
    if spread == 0:
        return 1.0 if missed < 1e-9 else 0.0
    return 1 - missed / spread
