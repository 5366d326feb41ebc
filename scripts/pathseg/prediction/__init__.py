"""From a model and an image to what is delivered: tiles without seams, class maps, outlines and areas.

May use: the ground floor, images, labels, network, scores.
"""
