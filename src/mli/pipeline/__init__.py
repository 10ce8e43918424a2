"""One frame's way: source, preprocess, estimator, decoder, rules, messages."""
