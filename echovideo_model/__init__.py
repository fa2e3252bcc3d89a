"""EchoVideo (arXiv 2501.13452) as a library: turns one photo and a sentence into a video of that person."""

__version__ = "0.1.0"
