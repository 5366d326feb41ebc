"""The U-Net: layers, files of weights, losses, the training loop and the devices that it runs on.

May use: the ground floor, labels, scores, tiles.
"""
