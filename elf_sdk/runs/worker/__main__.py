"""`python -m elf_sdk.runs.worker`: started by a server, never by a person."""

import sys

from elf_sdk.runs.worker.program import main

if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
