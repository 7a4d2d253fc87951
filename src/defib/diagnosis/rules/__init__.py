"""One file per rule; see ``diagnosis.rule.Rule``."""
