"""Parts of run_scale.py: studies without images, and plain chains of the same shape."""
