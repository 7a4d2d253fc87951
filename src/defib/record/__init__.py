"""The run store: one folder a run, one SQLite file a rank."""
