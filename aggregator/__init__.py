"""The portfolio over all venues and accounts: a fold of the event log, served over gRPC."""
