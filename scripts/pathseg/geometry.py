"""Sizes and positions: what a U-Net takes, how its layers are called, where tiles lie. Pure arithmetic, no import."""


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


def field_of_view(depth: int) -> int:
    """Return the side of the square that a pixel of a U-Net's output depends on, in pixels.

    Without bilinear interpolation on the way up, which adds a little; see `pathseg.network.unet.receptive_radius`.
    """
    # Of few levels the convolutions of the first one weigh more.
    return {1: 5, 2: 17}.get(depth, 2 * (6 * 2 ** (depth - 1) - 2) + 1)


def convolutions(depth: int, batch_norm: bool, up_mode: str) -> list[str]:
    """Return the names of a U-Net's convolutions, as in `model_dict`, in the order of the data."""
    pair = (0, 3) if batch_norm else (0, 2)
    names = [f"down_path.{level}.block.{k}" for level in range(depth) for k in pair]
    for level in range(depth - 1):
        names.append(f"up_path.{level}.up" + (".1" if up_mode == "upsample" else ""))
        names += [f"up_path.{level}.conv_block.block.{k}" for k in pair]
    return [*names, "last"]


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
