"""Training in the paper's two stages: a recipe names the examples, the loop takes steps, a run resumes by itself."""
