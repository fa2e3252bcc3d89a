"""What tests, scripts and benchmarks share: real hosts and pages to drive, tiny checkpoints, graphs, README's commands.

It imports echovideo_model, and none of those three.
"""
