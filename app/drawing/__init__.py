"""Geometry of the pictures. Pure functions: numbers in, percentages and pixels out; templates write the SVG.

Widths are percentages, so that one picture serves a phone and a wide screen while its text keeps its size; heights are
pixels. Nothing here knows a colour: shapes carry a cause or a verdict, the stylesheet does the rest.
"""
