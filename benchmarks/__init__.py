"""What is measured, and against whom: `python -m benchmarks.cpu`, `python -m benchmarks.parity FOLDER`."""
