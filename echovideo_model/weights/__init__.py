"""Weight files: which exist, where they are, what they hold, and how networks load them."""
