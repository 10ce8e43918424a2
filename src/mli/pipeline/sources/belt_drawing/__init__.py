"""What the simulated camera can draw: belts, litter and the things to be sorted."""
