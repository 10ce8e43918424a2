"""What the shared stack makes, by its meaning."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.cfn_resolve import Unresolvable
from tests.fixtures.device_stacks import PLACES, shared_stack


def statements(stack: Any, policy: str) -> dict[str, dict[str, Any]]:
    found = {
        item["PolicyName"]: item["PolicyDocument"] for item in stack.resources["DeviceRole"].properties["Policies"]
    }
    return {item["Sid"]: item for item in found[policy]["Statement"]}


def test_no_parameter_is_needed() -> None:
    stack = shared_stack()
    assert {name: made.type for name, made in stack.resources.items()} == {
        "ModelBucket": "AWS::S3::Bucket",
        "ModelBucketPolicy": "AWS::S3::BucketPolicy",
        "ArtifactBucket": "AWS::S3::Bucket",
        "ArtifactBucketPolicy": "AWS::S3::BucketPolicy",
        "DeviceRole": "AWS::IAM::Role",
        "RoleAlias": "AWS::IoT::RoleAlias",
        "LogGroup": "AWS::Logs::LogGroup",
    }


def test_every_output_is_exported_under_the_stack_s_name() -> None:
    stack = shared_stack()
    assert set(stack.outputs) == {
        "RoleAlias",
        "RoleAliasArn",
        "DeviceRoleArn",
        "ModelBucket",
        "ArtifactBucket",
        "LogGroup",
    }
    assert stack.exports == {f"mli-shared:{name}": value for name, value in stack.outputs.items()}


@pytest.mark.parametrize("bucket", ["ModelBucket", "ArtifactBucket"])
def test_buckets_are_private_versioned_encrypted_and_tidied(bucket: str) -> None:
    made = shared_stack().resources[bucket].properties
    assert made["PublicAccessBlockConfiguration"] == dict.fromkeys(
        ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
    )
    assert made["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert made["VersioningConfiguration"] == {"Status": "Enabled"}
    (encryption,) = made["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    rules = {key: rule for rule in made["LifecycleConfiguration"]["Rules"] for key in rule}
    assert rules["AbortIncompleteMultipartUpload"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rules["NoncurrentVersionExpiration"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 90}
    assert not any("ExpirationInDays" in rule for rule in made["LifecycleConfiguration"]["Rules"])
    assert "BucketName" not in made  # a name of ours would be taken when the stack is made again


@pytest.mark.parametrize("bucket", ["ModelBucket", "ArtifactBucket"])
def test_what_was_uploaded_stays_and_so_does_its_protection(bucket: str) -> None:
    stack = shared_stack()
    for name in (bucket, f"{bucket}Policy"):
        assert stack.resources[name].deletion_policy == "RetainExceptOnCreate"
        assert stack.resources[name].update_replace_policy == "Retain"
    assert stack.resources["LogGroup"].deletion_policy == "Delete"  # its name is fixed


def test_an_existing_bucket_takes_the_place_of_the_model_bucket() -> None:
    stack = shared_stack(ExistingModelBucket="mli-shared-modelbucket-of-old")
    assert stack.outputs["ModelBucket"] == "mli-shared-modelbucket-of-old"
    assert not {"ModelBucket", "ModelBucketPolicy"} & set(stack.resources)
    assert statements(stack, "read-models")["Models"]["Resource"] == "arn:aws:s3:::mli-shared-modelbucket-of-old/*"


@pytest.mark.parametrize("partition", PLACES)
def test_devices_read_the_buckets_that_are_named_and_no_other(partition: str) -> None:
    stack = shared_stack(partition, ModelBuckets="one-bucket,another.bucket")
    own = f"arn:{partition}:s3:::{stack.outputs['ModelBucket']}"
    artifacts = f"arn:{partition}:s3:::{stack.outputs['ArtifactBucket']}"
    found = {name: (item["Action"], item["Resource"]) for name, item in statements(stack, "read-models").items()}
    assert found == {
        "Models": ("s3:GetObject", f"{own}/*"),
        "ModelsOfYourOwnBuckets": (
            "s3:GetObject",
            [f"arn:{partition}:s3:::one-bucket/*", f"arn:{partition}:s3:::another.bucket/*"],
        ),
        "Components": ("s3:GetObject", f"{artifacts}/components/*"),
        "WhereComponentsLie": ("s3:GetBucketLocation", artifacts),
    }
    assert "ModelsOfYourOwnBuckets" not in statements(shared_stack(partition), "read-models")


def test_a_device_writes_its_own_log_streams_of_the_one_group() -> None:
    stack = shared_stack()
    group = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/greengrass/UserComponent/eu-west-1/mli.core"
    assert {name: (item["Action"], item["Resource"]) for name, item in statements(stack, "write-logs").items()} == {
        "OwnStreams": (
            ["logs:CreateLogStream", "logs:PutLogEvents"],
            f"{group}:log-stream:*/thing/${{credentials-iot:ThingName}}",
        ),
        "TheGroup": (["logs:CreateLogGroup", "logs:DescribeLogStreams"], f"{group}:*"),
    }
    other = shared_stack(LogGroupName="/mli/logs", LogDays="90")
    assert other.outputs["LogGroup"] == "/mli/logs"
    assert other.resources["LogGroup"].properties["RetentionInDays"] == "90"
    assert ":log-group:/mli/logs:" in statements(other, "write-logs")["OwnStreams"]["Resource"]


@pytest.mark.parametrize("partition", PLACES)
def test_only_this_account_s_alias_gives_the_role(partition: str) -> None:
    region = PLACES[partition][0]
    stack = shared_stack(partition, RoleAliasName="line=1")
    alias = f"arn:{partition}:iot:{region}:123456789012:rolealias/line=1"
    (trust,) = stack.resources["DeviceRole"].properties["AssumeRolePolicyDocument"]["Statement"]
    assert trust == {
        "Effect": "Allow",
        "Principal": {"Service": "credentials.iot.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {
            "StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnEquals": {"aws:SourceArn": alias},
        },
    }
    assert stack.outputs["RoleAliasArn"] == alias
    assert stack.outputs["RoleAlias"] == "line=1"
    assert stack.resources["RoleAlias"].properties["RoleArn"] == stack.outputs["DeviceRoleArn"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("ModelBuckets", "a-bucket, another"),
        ("ModelBuckets", "a-bucket,"),
        ("ModelBuckets", "s3://a-bucket"),
        ("ModelBuckets", "a-bucket/*"),
        ("ModelBuckets", "*"),
        ("ExistingModelBucket", "A-Bucket"),
        ("ExistingModelBucket", "a,b"),
        ("RoleAliasName", "two words"),
        ("RoleAliasName", "*"),
        ("LogGroupName", "a*"),
        ("LogDays", "31"),
    ],
)
def test_what_would_widen_a_policy_or_break_it_is_refused(parameter: str, value: str) -> None:
    with pytest.raises(Unresolvable, match=f"parameter {parameter}"):
        shared_stack(**{parameter: value})
