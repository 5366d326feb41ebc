"""What QuPath does with a pixel classifier, in Python: a stand-in written from its source."""

import cv2
import numpy as np


def classify_as_qupath(classifier, image):
    """Return the class map of an image that has the classifier's resolution: uint8 [H, W].

    After `PixelClassificationImageServer`, `OpenCVPixelClassifier` and `ServerTools.getPaddedRequest`: tiles of the
    input's size without its padding, asked for with the padding around, where pixels outside of the image repeat its
    edge; a tile that is short is brought to the network's size by reflection on both sides (`OpenCVTools.applyTiled`).
    """
    metadata, (dnn, multiply, _convert) = classifier["metadata"], classifier["op"]["op"]["ops"]
    assert (metadata["inputWidth"], metadata["inputHeight"]) == (dnn["inputWidth"], dnn["inputHeight"])
    assert [t["channelName"] for t in classifier["op"]["colorTransforms"]] == ["Red", "Green", "Blue"]
    padding, side = metadata["inputPadding"], metadata["inputWidth"]
    net = cv2.dnn.readNetFromONNX(dnn["model"]["pathModel"].removeprefix("file:"))
    height, width = image.shape[:2]
    around = cv2.copyMakeBorder(image, padding, padding, padding, padding, cv2.BORDER_REPLICATE)
    classes = np.zeros((height, width), np.uint8)
    step = side - 2 * padding
    for y in range(0, height, step):
        for x in range(0, width, step):
            rows, columns = min(step, height - y), min(step, width - x)
            region = around[y : y + rows + 2 * padding, x : x + columns + 2 * padding]
            top, left = (step - rows) // 2, (step - columns) // 2
            region = cv2.copyMakeBorder(
                region, top, step - rows - top, left, step - columns - left, cv2.BORDER_REFLECT_101
            )
            net.setInput(region.astype(np.float32).transpose(2, 0, 1)[None] * dnn["model"]["scale"])
            found = net.forward()[0, :, dnn["padding"]["y1"] : -dnn["padding"]["y2"]]
            found = found[:, :, dnn["padding"]["x1"] : -dnn["padding"]["x2"]]
            found = np.rint(found * multiply["values"][0]).astype(np.uint8)
            classes[y : y + rows, x : x + columns] = found.argmax(0)[top : top + rows, left : left + columns]
    return classes
