"""Pixels in and out: slides and plain images at any resolution, pyramids, pictures for people.

A pixel of a view has one value, whoever asks for it.

May use: the ground floor.
"""
