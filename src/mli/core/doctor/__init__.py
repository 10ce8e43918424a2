"""Finds the cause of what does not work, and says the remedy. Changes nothing on the device."""
