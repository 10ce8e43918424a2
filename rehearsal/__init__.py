"""The whole way on AWS, from a certificate to predictions, without an account (docs/rehearsal.md)."""
