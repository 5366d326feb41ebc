"""What is known of pixels, drawn or found: masks, annotations, tissue, the outlines of regions.

May use: the ground floor, images.
"""
