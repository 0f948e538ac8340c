"""Make state_dicts.json, names and shapes of the tensors in files that others publish, with their own libraries.

In an environment of its own: pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31 torch-lucent==0.1.8. Then, from
the repository's root: python -m tests.references.make_state_dicts
"""

import json
from importlib.metadata import version
from pathlib import Path

from microscope_atlas.models.adapters.timm import imported

FILE = Path(__file__).with_name("state_dicts.json")


def main() -> None:
    timm = imported()
    from lucent.modelzoo.inceptionv1.InceptionV1 import InceptionV1  # inception5h.pth is what it reads

    networks = {name: timm.create_model(name) for name in ("inception_v3", "inception_v4")} | {
        "inception5h": InceptionV1()
    }
    found = {
        name: {key: list(value.shape) for key, value in network.state_dict().items()}
        for name, network in networks.items()
    }
    made_by = {name: version(name) for name in ("timm", "torch-lucent", "torch")}
    lines = [f" {json.dumps(name)}: {json.dumps(each)}" for name, each in {"made by": made_by, **found}.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
