"""Print the tokens with which this team calls others, by callee."""

from __future__ import annotations

import json
import os
from pathlib import Path

if __name__ == "__main__":
    place = Path(os.environ["ELF_TEAM_TOKENS"])
    files = [path for path in place.iterdir() if not path.name.startswith(".")] if place.is_dir() else []
    print(json.dumps({path.name: path.read_text(encoding="ascii").strip() for path in files}))
