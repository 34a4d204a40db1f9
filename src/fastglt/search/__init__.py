"""Search methods: one file a method, registered by name. See :mod:`fastglt.search.base`."""
