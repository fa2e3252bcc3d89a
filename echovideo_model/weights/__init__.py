"""Weight files: which exist, where they lie, what is in them, and how a network gets them."""
