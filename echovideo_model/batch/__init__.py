"""Many videos from one table of jobs: checked first, made in any order, resumed by the same command."""
