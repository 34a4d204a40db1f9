"""Evidence over seeds: cells, paired tests, comparison of methods, the frontier of sparsity.

Importing this package imports neither torch nor PyG.
"""
