"""The workstation's side of AWS: templates, stacks, certificates, models, and what comes from Greengrass V1."""
