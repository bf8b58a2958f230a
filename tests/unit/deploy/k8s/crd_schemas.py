"""Turn CustomResourceDefinitions into strict JSON schemas: structure only, no field beyond those the schema names.

python tests/unit/deploy/k8s/crd_schemas.py CRD.yaml...        writes schemas/<kind>_<version>.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "schemas"
_TEXT = ("description", "example", "title")


def strict(schema: Any) -> Any:
    """The structural part of an OpenAPI schema, closed to unknown fields where it names its own."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: ({name: strict(each) for name, each in value.items()} if key == "properties" else strict(value))
        for key, value in schema.items()
        if key not in _TEXT and not key.startswith("x-kubernetes")
    }
    if isinstance(pattern := schema.get("pattern"), str):
        # Go takes the flag anywhere, others only in front.
        kept["pattern"] = f"(?i){pattern.replace('(?i)', '')}" if "(?i)" in pattern else pattern
    if schema.get("x-kubernetes-int-or-string"):
        kept.pop("type", None)
    if "properties" in kept and not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept.setdefault("additionalProperties", False)
    return kept


def main(paths: list[str]) -> None:
    """Write a file for every kind and version of the definitions given."""
    for path in paths:
        for definition in yaml.safe_load_all(Path(path).read_text()):
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                schema["properties"]["apiVersion"] = {"const": f"{spec['group']}/{version['name']}"}
                name = f"{spec['names']['kind'].lower()}_{version['name']}.json"
                (FOLDER / name).write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
