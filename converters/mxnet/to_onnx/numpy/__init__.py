"""Rows of MXNet's numpy interface: ``_np_*``, ``_npi_*`` and ``_npx_*``."""
