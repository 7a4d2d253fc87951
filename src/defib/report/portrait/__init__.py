"""What a page shows of a run, part by part, as JSON-able data."""
