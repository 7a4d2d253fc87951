"""From tensors to tallies: how defib looks without touching."""
