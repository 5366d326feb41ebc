"""What is known of pixels, drawn or found: masks, annotations, tissue, outlines of regions, objects told apart.

What goes to QuPath and comes back from it is read and written here.

May use: the ground floor, images.
"""
