"""What jobs do, one file an area; the page, the REST API and the command line submit the same functions."""
