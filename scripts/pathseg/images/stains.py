"""The colours of haematoxylin and eosin, as absorbances.

Light through stained tissue weakens exponentially with the amount of stain (Beer-Lambert law), so that optical
density, minus the logarithm of the transmitted share, is a linear mixture of the stains. The vectors are those of
Ruifrok and Johnston (2001), "Quantification of histochemical staining by color deconvolution", Anal. Quant. Cytol.
Histol. 23, 291-299: haematoxylin, eosin and DAB, whose place a residual takes in H&E.
"""

import numpy as np

# Rows: stains; columns: optical density in red, green and blue, each row of length 1.
_VECTORS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
OD_FROM_HED = _VECTORS / np.linalg.norm(_VECTORS, axis=1, keepdims=True)
HED_FROM_OD = np.linalg.inv(OD_FROM_HED)


def haematoxylin(rgb: np.ndarray) -> np.ndarray:
    """Return the amount of haematoxylin in each pixel of uint8 [H, W, 3]: float32 [H, W]."""
    density = -np.log(np.maximum(rgb, 1) / np.float32(255))
    return (density @ HED_FROM_OD[:, 0]).astype(np.float32)
