"""Many videos from one table of jobs: checked at once, made in any order, resumed by the same command."""
