"""EchoVideo (arXiv 2501.13452) as a library: one photo and a sentence become a video of that person."""

__version__ = "0.1.0"
