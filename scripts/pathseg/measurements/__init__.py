"""The figures of a study: areas, shares, counts and densities by region, band, slide and patient.

May use: the ground floor, images, labels, scores.
"""
