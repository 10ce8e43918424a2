"""From a model's outputs to predictions, one file a task."""
