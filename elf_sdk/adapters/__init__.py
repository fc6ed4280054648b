"""Framework to events, one file each; importing this package loads none of the frameworks."""
