"""Models as users bring them, brought into the one form that calibration reads."""
