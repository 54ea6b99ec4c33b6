"""Files and folders: read by content, written whole, replaced only where netferry wrote them."""
