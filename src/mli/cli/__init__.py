"""The commands, one file each; they import what they use only when they run."""
