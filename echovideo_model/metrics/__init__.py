"""Metrics of a finished video, one per file: frames (and a reference) in, numbers out."""
