"""What draws and what it is asked for: requests, samplers, generation, latents."""
