"""The workstation's side of a deployment: the file checked and numbered, sent to things, and followed to its end."""
