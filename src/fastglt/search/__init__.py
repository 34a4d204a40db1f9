"""Search methods: one file a method, registered by name. See :mod:`fastglt.search.base`.

Importing this package imports neither torch nor PyG, for the help of the command line.
"""

METHOD_MODULES = {"fastglt": "fastglt", "one-shot": "one_shot", "random": "random"}
"""Method name to the module of this package that holds it."""
METHOD_VERSION = 3
"""Raised whenever a method or a default changes what comes out of the same given settings, so that
stored results are not taken for those of the present code."""
