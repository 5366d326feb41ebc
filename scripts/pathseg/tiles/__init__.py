"""What a network is fed: databases of tiles, batches of them, augmentation.

May use: the ground floor, images, labels, scores.
"""
