"""The commands, one file an area; each adds itself to the typer application in one reader's language."""
