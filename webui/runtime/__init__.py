"""What runs models and knows no page: what exists, what is loaded, where it goes, and who waits for it."""
