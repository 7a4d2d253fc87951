"""From a finding to a changed network: treatments, and the surgery that makes them all or nothing."""
