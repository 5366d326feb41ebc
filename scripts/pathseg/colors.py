"""Colours of classes."""

from typing import Any

# Okabe and Ito's colours, safe for colour-blind readers (jfly.uni-koeln.de/color), the first for the background.
PALETTE = ("#999999", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")


def default_color(index: int) -> str:
    """Return the colour of a class whose colour is not configured; the first is the background's."""
    return PALETTE[0] if index == 0 else PALETTE[1 + (index - 1) % (len(PALETTE) - 1)]


def rgb_of(color: str) -> tuple[int, int, int]:
    """Turn a colour written as #rrggbb into numbers from 0 to 255."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def colors_of(names: list[str], classes: list[dict[str, Any]]) -> list[str]:
    """Return the colour of each class of a model: the configured one of that name, or a default."""
    configured = {class_["name"]: class_["color"] for class_ in classes}
    return [configured.get(name, default_color(index)) for index, name in enumerate(names)]


def packed(color: str) -> int:
    """Return a colour #rrggbb as Java, and so QuPath, packs it: a signed number of 32 bits, opaque."""
    red, green, blue = rgb_of(color)
    return (0xFF << 24 | red << 16 | green << 8 | blue) - 2**32
