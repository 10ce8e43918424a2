"""The recipe of the Greengrass V2 component, in what both engines understand.

Nucleus lite is the narrower one: keys in exact case, no ``Skipif``, no ``shutdown``, at most 8,196 bytes, and in a
script every ``{`` begins a variable, so that ``${NAME}`` would cut the script short. Its path variables end in ``/``
and those of nucleus classic do not; the scripts are right with both.
"""

from __future__ import annotations

import json
import re
from typing import Any

from mli.cloud.names import COMPONENT
from mli.errors import RefusedError

ARCHIVE = "mli-core"
"""Name of the artifact without ``.zip``; the engines unpack it into a folder of this name."""
ARTIFACT_FILE = f"{ARCHIVE}.zip"
ARTIFACT_URI = "s3://${ArtifactBucket}/${ArtifactKey}"
"""For CloudFormation's ``Fn::Sub``."""
LARGEST_BYTES = 8_196
VARIABLES = ("artifacts:path", "artifacts:decompressedPath", "kernel:rootPath", "iot:thingName", "work:path")
"""What nucleus lite replaces, beside ``configuration:``."""
_INSTALL_TIMEOUT_S = 1_800
"""Both engines give an install step 120 s by default; a small device takes longer over 100 MB of wheels."""
_TOPICS = (
    "mli/predictions/{iot:thingName}",
    "mli/predictions/{iot:thingName}/*",
    "mli/actions/{iot:thingName}",
    "mli/actions/{iot:thingName}/*",
    "mli/status/{iot:thingName}",
    "mli/status/{iot:thingName}/deployment",
)
# A local deployment of nucleus lite does not unpack the artifact, so the script does where that was not done.
_INSTALL = f"""\
set -eu
from="{{artifacts:decompressedPath}}/{ARCHIVE}"
if [ ! -f "$from/install.sh" ]; then
  from="{{work:path}}/unpacked-DIGEST"
  if [ ! -f "$from/install.sh" ]; then
    rm -rf "{{work:path}}"/unpacked-*
    python3 -m zipfile -e "{{artifacts:path}}/{ARTIFACT_FILE}" "$from.new"
    mv "$from.new" "$from"
  fi
fi
exec sh "$from/install.sh" "{{work:path}}/mli"
"""
# The environment by its own name: `current` may lead elsewhere while this process runs.
_RUN = """\
set -eu
here=$(cd "{work:path}/mli/current" && pwd -P)
exec "$here/bin/python" -I -m mli component run --root "{work:path}"
"""


def component_version(mli_version: str, digest: str) -> str:
    """The component's version: mli's, and the digest of what the artifact holds.

    Greengrass never lets a version change, so two artifacts must not share one; with the digest in it, the same
    content has the same version and other content another, without anybody counting. It stands where a pre-release
    does, and not behind a ``+``, which comparisons of versions leave out.

    Args:
        mli_version: as in ``mli.__version__``: ``0.1.0``, ``1.0rc1``, ``2.0.0.dev3``.
        digest: at least 8 hex digits.
    """
    found = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)", mli_version)
    assert found, mli_version
    numbers = ".".join(str(int(part or 0)) for part in found.groups()[:3])
    more = [f"v{word}" if word.isdigit() else word for word in re.findall(r"[0-9A-Za-z]+", found[4])]
    return f"{numbers}-{'.'.join([*more, f'b{digest[:8]}'])}"


def artifact_key(version: str) -> str:
    """Key in the artifact bucket; its last part is the file's name on the device, so it must stay as it is."""
    return f"components/{COMPONENT}/{version}/{ARTIFACT_FILE}"


def recipe(version: str, digest: str, uri: str = ARTIFACT_URI) -> dict[str, Any]:
    """The recipe; ``uri`` is where the artifact lies in S3."""
    return {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": COMPONENT,
        "ComponentVersion": version,
        "ComponentType": "aws.greengrass.generic",
        "ComponentDescription": "Runs a model from S3 on this device and publishes its predictions",
        "ComponentPublisher": "mli",
        "ComponentConfiguration": {
            "DefaultConfiguration": {
                "deployment": {},
                "delivery": "nucleus",
                "device": {},
                "accessControl": {
                    "aws.greengrass.ipc.mqttproxy": {
                        f"{COMPONENT}:mqttproxy:1": {
                            "policyDescription": "Predictions, actions and status of this thing",
                            "operations": ["aws.greengrass#PublishToIoTCore"],
                            "resources": list(_TOPICS),
                        }
                    }
                },
            }
        },
        "ComponentDependencies": {
            # HARD: the address of the credentials is an environment variable, known when the service has started.
            "aws.greengrass.TokenExchangeService": {
                "VersionRequirement": ">=2.0.0 <3.0.0",
                "DependencyType": "HARD",
            }
        },
        "Manifests": [
            {
                "Platform": {"os": "linux", "runtime": "*"},
                "Lifecycle": {
                    "install": {
                        "Script": _INSTALL.replace("DIGEST", digest[:12]),
                        "Timeout": _INSTALL_TIMEOUT_S,
                    },
                    "run": {"Script": _RUN},
                },
                "Artifacts": [
                    {
                        "Uri": uri,
                        "Unarchive": "ZIP",
                        # Public wheels; a component may run as another user than the engine's default one.
                        "Permission": {"Read": "ALL", "Execute": "ALL"},
                    }
                ],
            }
        ],
    }


def recipe_text(version: str, digest: str, uri: str = ARTIFACT_URI) -> str:
    """The recipe as JSON.

    Raises:
        RefusedError: nucleus lite would not read it.
    """
    text = json.dumps(recipe(version, digest, uri), indent=2, ensure_ascii=True) + "\n"
    if len(text) > LARGEST_BYTES:
        raise RefusedError(
            "The recipe is too large for nucleus lite.",
            expected=f"at most {LARGEST_BYTES} bytes",
            got=f"{len(text)} bytes",
        )
    return text
