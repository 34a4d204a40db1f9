"""Tasks, the training loop, the teacher, and what they report."""
