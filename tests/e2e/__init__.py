"""Tests in a real Chromium; a package, so that the server and the browser end with them."""
