"""Sizes and positions: which sizes a U-Net takes, where tiles lie. Pure arithmetic, without any import."""


def unet_output_size(size: int, depth: int, padding: bool) -> int:
    """Return the side of a U-Net's output in pixels, or 0 if it does not take an input of this side.

    Parameters
    ----------
    size
        Side of the input, in pixels.
    depth
        Number of resolution levels; each but the last halves the side, which must be even.
    padding
        Whether convolutions are padded; if not, two convolutions take off 4 pixels.
    """
    shrink = 0 if padding else 4
    for _ in range(depth - 1):
        size -= shrink
        if size <= 0 or size % 2:
            return 0
        size //= 2
    size -= shrink
    for _ in range(depth - 1):
        size = 2 * size - shrink
    return max(size, 0)


def tile_starts(length: int, size: int, stride: int) -> list[int]:
    """Return where tiles start so that they cover a side entirely; the last one ends where the side does.

    Parameters
    ----------
    length, size, stride
        Side of the image, side of a tile (at most `length`) and step between tiles, in pixels.
    """
    last = length - size
    return [*range(0, last, stride), last]


def aligned_range(start: int, stop: int, step: int, length: int) -> tuple[int, int]:
    """Widen start ... stop-1 to whole multiples of `step`, but not beyond `length`; all in pixels."""
    return start // step * step, min(-(-stop // step) * step, length)
