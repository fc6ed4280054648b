"""`elf`, and `python -m elf_sdk`."""

from elf_sdk.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
