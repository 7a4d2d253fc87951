"""One file per planted cause; see ``lab.pathology.Pathology``."""
