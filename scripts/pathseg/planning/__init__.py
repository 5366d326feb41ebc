"""What images and masks say of the settings that suit them, and of what a statistician would warn of.

May use: the ground floor, cohort, images, labels, scores.
"""
