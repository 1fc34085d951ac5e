"""`python -m webui` is the command `diffuscope`."""

from webui.cli import main

if __name__ == "__main__":
    main()
