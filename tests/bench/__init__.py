"""`make bench`: how fast the product is, printed as figures and ratios. Nothing here fails on a slow machine."""
