"""One file per family of optimisers; see ``defib.diagnosis.prognosis.family``."""
