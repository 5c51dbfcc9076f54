"""The serial machine: a processor does what is not a contraction, one thing after the other, on the smallest chips."""
