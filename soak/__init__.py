"""Long proofs of the core with real processes, kills and faults: ``make soak``; results in docs/soak.md."""
