"""What looks at pictures: opening them safely, and the ViT."""
