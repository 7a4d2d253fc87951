"""The subcommands, one a file; adding one means adding its file."""
