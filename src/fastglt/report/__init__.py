"""Plots and reports. Importing this package does not import matplotlib."""
