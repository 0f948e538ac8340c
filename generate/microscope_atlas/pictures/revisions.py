"""What names the content of a set of pictures."""

import hashlib
import json
from typing import Any


def revision_of(content: Any) -> str:
    """sha256 of plain values, by their JSON."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
