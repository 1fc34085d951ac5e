"""What draws: data in, HTML or a picture out."""
