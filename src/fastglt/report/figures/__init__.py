"""The report's figures, one file each. Importing this package does not import matplotlib."""
