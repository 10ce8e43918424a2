"""``mli stack package``: the templates as plain files, for the AWS CLI and the console."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from mli.cloud.names import COMPONENT_STACK, SHARED_STACK
from mli.cloud.stack_template import read_template
from mli.cloud.template_text import component_template
from mli.errors import StopError

if TYPE_CHECKING:
    from mli.cloud.component_package import ComponentPackage

_FILL_IN = {
    "CoreName": "gg_mli_accel",
    "CertIdParam": "0" * 64,
    "ModelS3Uri": "s3://BUCKET/models/MODEL.zip",
}
"""What a person must say, with the form of it."""
_HEAD = f"""\
#!/bin/sh
# Makes the AWS resources of one device with the AWS CLI. Read it first: it is meant to be changed.
#
#   sh deploy.sh CORE_NAME CERTIFICATE_ID s3://BUCKET/KEY STACK_NAME
#
# The certificate is active, and of the account and region that `aws sts get-caller-identity` and AWS_REGION name.
set -eu
[ $# -eq 4 ] || {{ echo "usage: sh $0 CORE_NAME CERTIFICATE_ID s3://BUCKET/KEY STACK_NAME" >&2; exit 2; }}
cd "$(dirname "$0")"
core_name=$1 certificate=$2 model=$3 stack=$4
bucket=${{model#s3://}} bucket=${{bucket%%/*}}
output() {{ aws cloudformation describe-stacks --stack-name "$1" --output text \\
  --query "Stacks[0].Outputs[?OutputKey=='$2'].OutputValue"; }}

# 1. Once: what all devices share. Buckets of your own that devices may read are in ModelBuckets; those of the devices
# that are there already stay in it.
buckets=$(aws cloudformation describe-stacks --stack-name {SHARED_STACK} --output text \\
  --query "Stacks[0].Parameters[?ParameterKey=='ModelBuckets'].ParameterValue" 2>/dev/null || true)
own=$(output {SHARED_STACK} ModelBucket 2>/dev/null || true)
case ",$own,$buckets," in *",$bucket,"*) ;; *) buckets=${{buckets:+$buckets,}}$bucket ;; esac
aws cloudformation deploy --stack-name {SHARED_STACK} --template-file shared.yaml --no-fail-on-empty-changeset \\
  --capabilities CAPABILITY_IAM --parameter-overrides "ModelBuckets=$buckets"
"""
_COMPONENT = f"""\

# 2. The Greengrass component: first the artifact, then the stack that names it.
aws s3 cp '{{artifact}}' "s3://$(output {SHARED_STACK} ArtifactBucket)/{{key}}"
aws cloudformation deploy --stack-name {COMPONENT_STACK} --template-file component.yaml \\
  --no-fail-on-empty-changeset --parameter-overrides 'ArtifactKey={{key}}'
"""
_DEVICE = """\

# {number}. The device. A template cannot ask for the endpoints, so they are asked for here.
endpoint() {{ aws iot describe-endpoint --endpoint-type "$1" --query endpointAddress --output text; }}
aws cloudformation deploy --stack-name "$stack" --template-file {template} --no-fail-on-empty-changeset \\
  --parameter-overrides "CoreName=$core_name" "CertIdParam=$certificate" "ModelS3Uri=$model" \\
  "IotEndpoint=$(endpoint iot:Data-ATS)" "CredentialsEndpoint=$(endpoint iot:CredentialProvider)"{more}
output "$stack" GreengrassConfig
output "$stack" CommandToDeployGroup
"""


@dataclass(frozen=True, slots=True)
class Packaged:
    """What was written."""

    folder: Path
    files: tuple[str, ...]
    component: ComponentPackage | None


def write_package(folder: Path, component: ComponentPackage | None = None) -> Packaged:
    """Write every template, a file of parameters, and the commands that use them.

    Files of an earlier run are replaced; others in the folder are left.

    Args:
        component: packed below the same folder; None leaves the component out.

    Raises:
        StopError: the folder cannot be written.
    """
    texts = {
        place.name: place.read_text(encoding="utf-8")
        for place in (files("mli.cloud") / "templates").iterdir()
        if place.name.endswith(".yaml") and place.name != "component.yaml"
    }
    script = _HEAD
    if component is not None:
        texts["component.yaml"] = component_template(component.recipe)
        artifact = component.artifact.relative_to(folder)
        script += _COMPONENT.format(artifact=artifact, key=component.artifact_key)
        script += _DEVICE.format(number=3, template="device-greengrass.yaml", more=" Runtime=greengrass")
    else:
        script += _DEVICE.format(number=2, template="device.yaml", more="")
    texts["device-parameters.json"] = parameters_file(texts["device.yaml"])
    texts["deploy.sh"] = script
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StopError("The templates cannot be written.", where=str(folder), got=str(error)) from error
    return Packaged(folder, tuple(sorted(texts)), component)


def parameters_file(template: str) -> str:
    """Every parameter of a template in the form of ``--parameters file://…``; those without a default first."""
    told = read_template(template)["Parameters"]
    order = sorted(told, key=lambda name: "Default" in told[name])
    listed = [
        {"ParameterKey": name, "ParameterValue": str(told[name].get("Default", _FILL_IN.get(name, "")))}
        for name in order
    ]
    return json.dumps(listed, indent=2) + "\n"
