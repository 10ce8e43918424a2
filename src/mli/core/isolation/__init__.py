"""How a process that reads somebody else's bytes is started: what it sees, what it may use, and how it ends."""
