"""Measures of a finished video, one a file: frames (and a reference) in, numbers out."""
