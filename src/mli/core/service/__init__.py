"""The core as a service of the system: its unit, how it is installed, and how it talks to systemd."""
