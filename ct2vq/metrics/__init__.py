"""Metrics of agreement between two images of function in a region; arrays have axes `(z, y, x)`.

A metric that cannot be computed (an empty region, a constant image, values that are not finite) is missing, with a
reason, and never 0.
"""
