"""The REST API: the same requests as the page, over HTTP."""
