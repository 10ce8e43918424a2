"""What survives no network: the spool, its drain, and the sinks."""
