"""One file per experiment; see ``lab.experiment.Experiment``."""
