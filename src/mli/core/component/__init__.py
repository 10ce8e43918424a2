"""mli as a component of AWS IoT Greengrass V2."""
