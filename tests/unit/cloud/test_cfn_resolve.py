"""The resolver that the template tests rely on does what CloudFormation documents, and refuses what that refuses."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from tests.fixtures.cfn_resolve import Resolved, Unresolvable, load_template, resolve


def made(body: str, parameters: dict[str, str] | None = None, **more: Any) -> Resolved:
    return resolve(textwrap.dedent(body), parameters, **more)


def output(value: str, more: str = "", **options: Any) -> str:
    """What an output with this value, in one line of YAML, says; there are a bucket B and a role R to refer to."""
    body = f"""
Parameters:
  Name: {{Type: String, Default: n}}
  Names: {{Type: CommaDelimitedList, Default: "a,b,c"}}
{textwrap.dedent(more)}
Resources:
  B: {{Type: AWS::S3::Bucket}}
  R: {{Type: AWS::IAM::Role, Properties: {{RoleName: r}}}}
Outputs:
  O: {{Value: {value}}}
"""
    return resolve(body, **options).outputs["O"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("!Ref Name", "n"),
        ("!Ref AWS::Region", "eu-west-1"),
        ("!Ref B", "a-stack-b-1a2b3c4d5e6f"),
        ("!GetAtt B.Arn", "arn:aws:s3:::a-stack-b-1a2b3c4d5e6f"),
        ("!GetAtt [R, Arn]", "arn:aws:iam::123456789012:role/r"),
        ('!Sub "${Name}:${R.Arn}:${AWS::Partition}"', "n:arn:aws:iam::123456789012:role/r:aws"),
        ('!Sub "${!iot:Connection.Thing.ThingName} $HOME ${Name}"', "${iot:Connection.Thing.ThingName} $HOME n"),
        ('!Sub ["${X}-${Name}", {X: !Ref Name}]', "n-n"),
        ('!Join ["-", !Ref Names]', "a-b-c"),
        ('!Select [1, !Split ["/", "x/y/z"]]', "y"),
        ('!Join [",", [!Ref Name, !Ref "AWS::NoValue", b]]', "n,b"),
        ('!ImportValue {"Fn::Sub": "${Name}:there"}', "imported"),
        ("!FindInMap [M, !Ref AWS::Region, K]", "mapped"),
        ("!Base64 hello", "aGVsbG8="),
        ("!If [Holds, a, !Ref Missing]", "a"),
        ("!If [Fails, a, b]", "b"),
        ("!If [Both, a, b]", "b"),
        ("!If [Either, a, b]", "a"),
        ("!If [Opposite, a, b]", "a"),
    ],
)
def test_functions(value: str, expected: str) -> None:
    more = """
    Mappings: {M: {eu-west-1: {K: mapped}}}
    Conditions:
      Holds: !Equals [!Ref Name, n]
      Fails: !Equals [!Ref Name, m]
      Both: !And [!Condition Holds, !Condition Fails]
      Either: !Or [!Condition Holds, !Condition Fails]
      Opposite: !Not [!Condition Fails]
    """
    assert output(value, more, exports={"n:there": "imported"}) == expected


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("!Ref Missing", "Missing is referred to"),
        ("!GetAtt Missing.Arn", "Missing is referred to"),
        ('!Sub "${Missing}"', "Missing is referred to"),
        ("!ImportValue nowhere", "no stack exports nowhere"),
        ("!Select [3, !Ref Names]", "wants 3 of 3"),
        ('!If [Unknown, "a", "b"]', "no condition Unknown"),
        ("!Ref Names", "must be text"),
        ('""', "must be text"),
        ("!FindInMap [M, a, b]", "there is no M.a.b"),
        ("!Transform x", "Fn::Transform is not known here"),
        ('!Join [",", [!Ref Names]]', "text was expected"),
    ],
)
def test_what_cloudformation_would_not_make(value: str, why: str) -> None:
    with pytest.raises(Unresolvable, match=why):
        output(value)


@pytest.mark.parametrize(
    ("declared", "given", "why"),
    [
        ("{Type: String}", {}, "must have a value"),
        ("{Type: String, AllowedPattern: '^[a-z]+$'}", {"P": "a\n"}, "does not match"),
        ("{Type: String, AllowedValues: [a, b]}", {"P": "c"}, "is none of"),
        ("{Type: String, MaxLength: 2}", {"P": "abc"}, "3 characters"),
        ("{Type: String}", {"P": "x" * 4097}, "4097 characters"),
        ("{Type: Number}", {"P": "1e3"}, "no number"),
        ("{Type: String}", {"P": "a", "Q": "b"}, "does not have: ..Q"),
    ],
)
def test_parameters_that_are_refused(declared: str, given: dict[str, str], why: str) -> None:
    with pytest.raises(Unresolvable, match=why):
        resolve(f"Parameters: {{P: {declared}}}\nResources: {{}}", given)


def test_a_rule_holds_for_all_parameters_or_for_those_of_its_condition() -> None:
    body = """
    Parameters: {A: {Type: String, Default: a}, B: {Type: String, Default: ""}}
    Rules:
      R:
        RuleCondition: !Equals [!Ref A, b]
        Assertions: [{Assert: !Not [!Equals [!Ref B, ""]], AssertDescription: B belongs to it}]
    Resources: {}
    """
    assert made(body).outputs == {}
    assert made(body, {"A": "b", "B": "x"}).outputs == {}
    with pytest.raises(Unresolvable, match="rule R: B belongs to it"):
        made(body, {"A": "b"})


def test_only_what_its_condition_allows_is_made_and_nothing_may_refer_to_the_rest() -> None:
    body = """
    Parameters: {Switch: {Type: String, Default: "off"}}
    Conditions: {IsOn: !Equals [!Ref Switch, "on"]}
    Resources:
      A: {Type: AWS::S3::Bucket, Condition: IsOn, DeletionPolicy: Retain}
      B:
        Type: AWS::S3::BucketPolicy
        Condition: IsOn
        DependsOn: C
        Properties: {Bucket: !Ref A, X: !Ref "AWS::NoValue"}
      C: {Type: AWS::S3::Bucket}
    Outputs:
      O: {Condition: IsOn, Value: !Ref A, Export: {Name: !Sub "${AWS::StackName}:A"}}
    """
    assert set(made(body).resources) == {"C"}
    assert made(body).outputs == {}
    all_of_it = made(body, {"Switch": "on"}, stack="s")
    assert all_of_it.resources["B"].after == {"A", "C"}
    assert all_of_it.resources["B"].properties == {"Bucket": "s-a-1a2b3c4d5e6f"}
    assert all_of_it.resources["A"].deletion_policy == "Retain"
    assert all_of_it.exports == {"s:A": "s-a-1a2b3c4d5e6f"}
    with pytest.raises(Unresolvable, match="A is referred to"):
        made(body.replace("        Condition: IsOn\n", ""))


def test_circles_and_keys_that_stand_twice_are_refused() -> None:
    circle = """
    Resources:
      A: {Type: AWS::S3::Bucket, Properties: {BucketName: !Ref B}}
      B: {Type: AWS::S3::Bucket, Properties: {BucketName: !Ref A}}
    """
    with pytest.raises(Unresolvable, match="a circle: A → B → A"):
        made(circle)
    with pytest.raises(Unresolvable, match="twice"):
        load_template("Resources: {A: 1, A: 2}")
    for no_template in ("[]", "Resource: {}", "Resources: {}\nAnything: {}"):
        with pytest.raises(Unresolvable, match="no template"):
            load_template(no_template)


def test_the_partition_is_in_arns_and_hosts() -> None:
    body = 'Resources: {T: {Type: AWS::IoT::Thing}}\nOutputs: {O: {Value: !Sub "${T.Arn} ${AWS::URLSuffix}"}}'
    found = resolve(body, region="cn-north-1", partition="aws-cn", account="210987654321").outputs["O"]
    assert found == "arn:aws-cn:iot:cn-north-1:210987654321:thing/a-stack-T-1A2B3C4D5E6F amazonaws.com.cn"
