"""Draws the conditions of the trial, which then stand in configs/experiments/trial.yaml.

    python3 scripts/trial_draw.py >> configs/experiments/trial.yaml
"""

import math
import random

SEED = 20261127
COUNT = 40
# What an axis must reach from and to, eV, to hold O K and the edge of the cation with their backgrounds.
SPANS = {"BiFeO3": (495, 755), "LaMnO3": (495, 690), "SrTiO3": (425, 590)}
CATIONS = {"BiFeO3": "Fe", "LaMnO3": "Mn", "SrTiO3": "Ti"}
LAYOUTS = ["bulk"] * 5 + ["particles", "interface", "grains"]
SIZES = [(1, 100), (1, 240), (17, 19), (24, 30), (32, 32), (40, 64), (48, 48), (64, 64), (96, 96), (128, 96)]
# One condition each; no more, as they take as long as ten others.
LARGE = {8: (256, 256), 21: (160, 192)}
# More voxels take more time than the trial has.
MOST_VOXELS, MOST_VOXELS_LARGE = 4.5e6, 11e6
# The network learns a cube of its own for each kind of anomaly where there is no bulk: small fields only.
MOST_PIXELS_ITSELF = 4096


def log_uniform(draw, low, high, digits=3):
    value = math.exp(draw.uniform(math.log(low), math.log(high)))
    return float(f"{value:.{digits}g}")


def spread(number, low, high):
    """A value whose logarithm is spread evenly over the conditions (by the golden ratio)."""
    return float(f"{low * (high / low) ** (number * 0.6180339887 % 1):.2g}")


def axis(draw, number, pixels):
    """Material, channels, eV a channel and the first energy, drawn until the edges fit."""
    for attempt in range(10_000):
        # What does not fit after some tries never will.
        dispersion = spread(number, 0.1, 2) if attempt < 200 else log_uniform(draw, 0.1, 2, 2)
        material, channels = draw.choice(list(SPANS)), round(log_uniform(draw, 160, 2048))
        (low, high), span = SPANS[material], channels * dispersion
        if high - low <= span <= 1200 and channels * pixels <= (MOST_VOXELS_LARGE if number in LARGE else MOST_VOXELS):
            # Up to 60 eV more of the background, where the axis is long enough.
            return material, channels, dispersion, round(low - min(60, 0.5 * (span - (high - low))))
    raise SystemExit(f"condition {number}: no axis fits {pixels} pixels")


def condition(number):
    draw = random.Random(SEED + number)
    layout = draw.choice(LAYOUTS)
    size = LARGE.get(number) or draw.choice(SIZES)
    pixels = size[0] * size[1]
    material, channels, dispersion, offset = axis(draw, number, pixels)
    itself = pixels <= MOST_PIXELS_ITSELF and draw.random() < 0.5
    line = size[0] == 1
    small = pixels < 1500 and not line
    return {
        "number": number,
        "learned": "itself" if itself else "bulk",
        "layout": layout,
        "material": material,
        "shape": [*size, channels],
        "energy_offset_ev": offset,
        "dispersion_ev": dispersion,
        "dose": spread(7 * number, 5_000, 500_000),
        "pixel_angstrom": log_uniform(draw, 0.2, 1.5, 2),
        "lattice_degrees": round(draw.uniform(0, 45)),
        "thickness": round(draw.uniform(0.2, 1.0), 2),
        "thickness_rms": round(draw.uniform(0.03, 0.2), 2),
        "energy_drift_ev": round(draw.uniform(0, 2), 1),
        "gain": draw.choice([1.0, log_uniform(draw, 0.3, 30, 2)]),
        "read_noise": round(draw.choice([0, draw.uniform(0, 2)]), 1),
        "benign_shift_ev": round(draw.choice([0, 0, draw.uniform(0.05, 0.4)]), 2),
        "height_of": draw.choice(["O", CATIONS[material]]),
        "discs": max(1, min(8, round(0.02 * pixels / 20))) if not line else max(2, size[1] // 60),
        "radius_px": [1.6, 2.4] if small else [2.0, 3.6],
    }


def main():
    for number in range(1, COUNT + 1):
        fields = ", ".join(f"{key}: {value}" for key, value in condition(number).items())
        # Three lines each, so that they can be read.
        first, second = fields.index("shape"), fields.index("pixel_angstrom")
        third = fields.index("gain")
        parts = [fields[:first], fields[first:second], fields[second:third], fields[third:]]
        print("  - {" + "\n     ".join(part.strip() for part in parts) + "}")


if __name__ == "__main__":
    main()
