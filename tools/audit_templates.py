"""What `make audit` does: cfn-lint for each region one by one, then checkov, over every template of the package.

`audit_templates.py CHECKOV`, where CHECKOV is its program in a venv of its own. Exceptions stand in the templates, as
comments with their reasons (`checkov:skip=…`, `cfn-lint:`).
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import boto3
import cfnlint
from cfnlint.api import ManualArgs, lint

TEMPLATES = Path(__file__).resolve().parents[1] / "src" / "mli" / "cloud" / "templates"
ONLY_WITH_GREENGRASS = ("component.yaml", "device-greengrass.yaml")
_SCHEMAS = Path(cfnlint.__file__).parent / "data" / "schemas" / "providers"


def regions_of(service: str) -> list[str]:
    """Regions of every partition in which botocore knows the service and cfn-lint the resources."""
    session = boto3.Session()
    known = [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions(service, partition)
    ]
    return [region for region in known if (_SCHEMAS / f"{region}.json").exists()]


def found_in(task: tuple[Path, str]) -> list[str]:
    """What cfn-lint says of a template in one region."""
    template, region = task
    messages = lint(template.read_text(encoding="utf-8"), config=ManualArgs(regions=[region]))
    return [f"{template.name} in {region}: {message}" for message in messages]


def main(checkov: str) -> int:
    """Print what was found; 1 where that was anything."""
    templates = sorted(TEMPLATES.glob("*.yaml"))
    tasks = [
        (template, region)
        for template in templates
        for region in regions_of("greengrassv2" if template.name in ONLY_WITH_GREENGRASS else "iot")
    ]
    with ProcessPoolExecutor() as pool:
        found = [message for messages in pool.map(found_in, tasks) for message in messages]
    print(*found, f"cfn-lint: {len(templates)} templates, {len(tasks)} times a region, {len(found)} found", sep="\n")
    audited = subprocess.run(
        [checkov, "-d", str(TEMPLATES), "--framework", "cloudformation", "--compact", "--skip-download"], check=False
    )
    return 1 if found or audited.returncode else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
