"""Methods that balance the classes of a two-stage detector, one file each."""
