"""The evaluator that the policy matrix relies on: where a naive one would err, after AWS's documentation."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.policy_evaluator import Dialect, Policy, Request, conditions_hold, decide, may_assume
from tests.fixtures.policy_patterns import PolicyError

BUCKET = "arn:aws:s3:::models"


def policy(*statements: dict[str, Any]) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: Any, resource: Any, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any, resource: Any, **more: Any) -> dict[str, Any]:
    return allow(action, resource, **more) | {"Effect": "Deny"}


def allows(statement: dict[str, Any], action: str, resource: str, **context: Any) -> bool:
    return decide(Request(action, resource, context), [policy(statement)]).allowed


def iot_allows(statement: dict[str, Any], action: str, resource: str, context: dict[str, Any] | None = None) -> bool:
    return decide(Request(action, resource, context or {}), [policy(statement)], dialect=Dialect.IOT).allowed


def test_nothing_is_allowed_that_no_statement_allows() -> None:
    assert not decide(Request("s3:GetObject", f"{BUCKET}/a"), [])
    assert decide(Request("s3:GetObject", f"{BUCKET}/a"), []).because == "no statement allows it"


def test_an_explicit_deny_wins_wherever_it_stands() -> None:
    yes, no = allow("s3:GetObject", f"{BUCKET}/*"), deny("s3:*", f"{BUCKET}/secret/*", Sid="Secret")
    request = Request("s3:GetObject", f"{BUCKET}/secret/a")
    for policies in ([policy(yes, no)], [policy(no, yes)], [policy(yes), policy(no)]):
        assert decide(request, policies).because == "denied by Secret"
    assert decide(Request("s3:GetObject", f"{BUCKET}/a"), [policy(no, yes)])


@pytest.mark.parametrize(
    ("pattern", "action", "expected"),
    [
        ("S3:getobject", "s3:GetObject", True),
        ("s3:Get*", "s3:GetObjectVersion", True),
        ("s3:Get*", "s3:PutObject", False),
        ("s3:GetObject", "s3:GetObjectVersion", False),
        ("s3:?etObject", "s3:GetObject", True),
        ("s3:?GetObject", "s3:GetObject", False),
        ("*", "iam:CreateRole", True),
        ("s3.GetObject:*", "s3xGetObject:a", False),
    ],
)
def test_actions_are_compared_without_case_and_as_a_whole(pattern: str, action: str, expected: bool) -> None:
    assert allows(allow(pattern, "*"), action, f"{BUCKET}/a") is expected


@pytest.mark.parametrize(
    ("pattern", "resource", "expected"),
    [
        (f"{BUCKET}/*", f"{BUCKET}/a/b/c.zip", True),
        (f"{BUCKET}/*", BUCKET, False),
        (BUCKET, f"{BUCKET}/a", False),
        (f"{BUCKET}*", "arn:aws:s3:::models-of-others/a", True),
        (f"{BUCKET}/?.zip", f"{BUCKET}/ab.zip", False),
        (f"{BUCKET}/Models/*", f"{BUCKET}/models/a", False),
        (f"{BUCKET}/[ab]", f"{BUCKET}/a", False),
        ("arn:aws:logs:*:1:log-group:/mli/*", "arn:aws:logs:eu-west-1:1:log-group:/mli/a:log-stream:b", True),
        ("arn:aws:s3:::models/a", "arn:aws-cn:s3:::models/a", False),
    ],
)
def test_a_star_of_a_resource_crosses_slashes_and_colons_and_case_counts(
    pattern: str, resource: str, expected: bool
) -> None:
    assert allows(allow("s3:GetObject", pattern), "s3:GetObject", resource) is expected


def test_a_star_that_may_or_may_not_cross_the_parts_of_an_arn_is_refused() -> None:
    statement = allow("iot:Publish", "arn:aws:iot:*/a")
    with pytest.raises(PolicyError, match="is no ARN of one service"):
        allows(statement, "iot:Publish", "arn:aws:iot:eu-west-1:1:topic/a")
    statement = allow("iot:Publish", "arn:aws:iot:*:topic:x/a")
    with pytest.raises(PolicyError, match="how far"):
        allows(statement, "iot:Publish", "arn:aws:iot:eu-west-1:topic:1:topic:x/a")


def test_a_service_must_be_spelt_out_in_a_resource() -> None:
    with pytest.raises(PolicyError, match="one service"):
        allows(allow("s3:GetObject", "arn:aws:s*:::models/a"), "s3:GetObject", f"{BUCKET}/a")


def test_not_action_and_not_resource_cover_all_else() -> None:
    everything_but = {"Effect": "Allow", "NotAction": "iam:*", "NotResource": f"{BUCKET}/secret/*"}
    assert allows(everything_but, "s3:GetObject", f"{BUCKET}/a")
    assert allows(everything_but, "sts:AssumeRole", "arn:aws:iam::1:role/admin")
    assert not allows(everything_but, "IAM:CreateRole", f"{BUCKET}/a")
    assert not allows(everything_but, "s3:GetObject", f"{BUCKET}/secret/a")


class TestVariables:
    MINE = allow("s3:GetObject", f"{BUCKET}/${{aws:username}}/*")

    def allows(self, statement: dict[str, Any], resource: str, context: dict[str, Any]) -> bool:
        return decide(Request("s3:GetObject", resource, context), [policy(statement)]).allowed

    def test_take_the_request_s_values_whatever_the_case_of_their_names(self) -> None:
        assert self.allows(self.MINE, f"{BUCKET}/ann/a", {"AWS:UserName": "ann"})
        assert not self.allows(self.MINE, f"{BUCKET}/bob/a", {"aws:username": "ann"})

    def test_without_a_value_match_nothing_not_even_the_empty_text(self) -> None:
        assert not self.allows(self.MINE, f"{BUCKET}//a", {})
        assert not self.allows(self.MINE, f"{BUCKET}/${{aws:username}}/a", {})

    def test_stars_in_a_value_are_no_wildcards(self) -> None:
        assert not self.allows(self.MINE, f"{BUCKET}/bob/a", {"aws:username": "*"})
        assert self.allows(self.MINE, f"{BUCKET}/*/a", {"aws:username": "*"})

    def test_have_a_default_where_one_is_given(self) -> None:
        shared = allow("s3:GetObject", f"{BUCKET}/${{aws:username, 'all'}}/*")
        assert self.allows(shared, f"{BUCKET}/all/a", {})
        assert not self.allows(shared, f"{BUCKET}/all/a", {"aws:username": "ann"})

    def test_special_ones_are_characters(self) -> None:
        star = allow("s3:GetObject", f"{BUCKET}/${{*}}${{?}}${{$}}")
        assert self.allows(star, f"{BUCKET}/*?$", {})
        assert not self.allows(star, f"{BUCKET}/ab$", {})

    def test_that_are_not_closed_are_refused(self) -> None:
        with pytest.raises(PolicyError, match="without its end"):
            self.allows(allow("s3:GetObject", f"{BUCKET}/${{aws:username"), f"{BUCKET}/a", {})

    def test_are_not_taken_for_variables_in_the_old_language(self) -> None:
        with pytest.raises(PolicyError, match="2008-10-17"):
            decide(Request("s3:GetObject", "*"), [{"Version": "2008-10-17", "Statement": [self.MINE]}])


@pytest.mark.parametrize(
    ("block", "context", "expected"),
    [
        # Case counts, stars count only in ...Like.
        ({"StringEquals": {"k": "a"}}, {"k": "A"}, False),
        ({"StringEquals": {"k": "*"}}, {"k": "a"}, False),
        ({"StringEquals": {"k": "*"}}, {"k": "*"}, True),
        ({"StringEqualsIgnoreCase": {"k": "a"}}, {"K": "A"}, True),
        ({"StringLike": {"k": "a/*"}}, {"k": "a/b/c"}, True),
        ({"StringLike": {"k": "a"}}, {"k": "ab"}, False),
        # Of several values one is enough; of several keys or operators all must hold.
        ({"StringEquals": {"k": ["a", "b"]}}, {"k": "b"}, True),
        ({"StringEquals": {"k": "a", "l": "a"}}, {"k": "a", "l": "b"}, False),
        ({"StringEquals": {"k": "a"}, "Bool": {"l": "true"}}, {"k": "a", "l": "false"}, False),
        ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "b"}, False),
        ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "c"}, True),
        # A key that the request does not have.
        ({"StringEquals": {"k": "a"}}, {}, False),
        ({"StringLike": {"k": "*"}}, {}, False),
        ({"Bool": {"k": "false"}}, {}, False),
        ({"StringNotEquals": {"k": "a"}}, {}, True),
        ({"ArnNotLike": {"k": "arn:aws:iam::1:role/*"}}, {}, True),
        ({"StringEqualsIfExists": {"k": "a"}}, {}, True),
        ({"StringEqualsIfExists": {"k": "a"}}, {"k": "b"}, False),
        ({"BoolIfExists": {"k": "true"}}, {"k": "false"}, False),
        ({"Null": {"k": "true"}}, {}, True),
        ({"Null": {"k": "true"}}, {"k": ""}, False),
        ({"Null": {"k": "false"}}, {}, False),
        ({"Null": {"k": True}}, {}, True),
        # Truth values as text, whatever their case; also as JSON's own.
        ({"Bool": {"k": "true"}}, {"k": "True"}, True),
        ({"Bool": {"k": [True]}}, {"k": "true"}, True),
        # Numbers are numbers.
        ({"NumericLessThan": {"k": "1.2"}}, {"k": "1.10"}, True),
        ({"NumericLessThan": {"k": "10"}}, {"k": "9"}, True),
        ({"NumericLessThan": {"k": "10"}}, {"k": "10"}, False),
        ({"NumericGreaterThanEquals": {"k": 10}}, {"k": "10"}, True),
        # ARNs part by part: a star does not reach into the next part, but into all of the last one.
        ({"ArnLike": {"k": "arn:aws:iam::1:role/*"}}, {"k": "arn:aws:iam::1:role/a/b"}, True),
        ({"ArnLike": {"k": "arn:aws:iot:*:1:*"}}, {"k": "arn:aws:iot:eu-west-1:2:thing/a:1:b"}, False),
        ({"ArnEquals": {"k": "arn:aws:iot:eu-west-1:1:*"}}, {"k": "arn:aws:iot:eu-west-1:1:rolealias/a"}, True),
        ({"ArnEquals": {"k": "arn:aws:iot:eu-west-1:1:rolealias/a"}}, {"k": "arn:aws:iot:eu-west-1:1"}, False),
        # Several values in the request.
        ({"ForAnyValue:StringEquals": {"k": ["a"]}}, {"k": ["b", "a"]}, True),
        ({"ForAnyValue:StringEquals": {"k": ["a"]}}, {}, False),
        ({"ForAnyValue:StringNotEquals": {"k": ["a"]}}, {}, False),
        ({"ForAllValues:StringEquals": {"k": ["a"]}}, {"k": ["b", "a"]}, False),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ["b", "a"]}, True),
        ({"ForAllValues:StringEquals": {"k": ["a"]}}, {}, True),
        # Variables.
        ({"StringEquals": {"k": "${l}"}}, {"k": "a", "l": "a"}, True),
        ({"StringEquals": {"k": "${l}"}}, {"k": "*", "l": "*"}, True),
        ({"StringLike": {"k": "${l}/*"}}, {"k": "b/c", "l": "*"}, False),
        ({"StringEquals": {"k": "${l}"}}, {"k": "a"}, False),
        ({}, {}, True),
    ],
)
def test_conditions(block: dict[str, Any], context: dict[str, Any], expected: bool) -> None:
    statement = allow("s3:GetObject", "*", Condition=block)
    assert decide(Request("s3:GetObject", f"{BUCKET}/a", context), [policy(statement)]).allowed is expected


@pytest.mark.parametrize(
    "operator", ["StringSame", "IpAddress", "ForSomeValues:StringEquals", "DateLessThan", "bool"]
)
def test_an_unknown_operator_is_an_error_even_behind_one_that_is_false(operator: str) -> None:
    with pytest.raises(PolicyError, match="not implemented"):
        conditions_hold({"StringEquals": {"k": "a"}, operator: {"k": "a"}}, {"k": ["b"]})


def test_several_values_need_a_quantifier() -> None:
    with pytest.raises(PolicyError, match="2 values where one is expected"):
        conditions_hold({"StringEquals": {"k": "a"}}, {"k": ["a", "b"]})


@pytest.mark.parametrize(
    "statement",
    [
        allow("s3:GetObject", "*") | {"Effect": "allow"},
        {"Effect": "Allow", "Action": "s3:GetObject"},
        {"Effect": "Allow", "Resource": "*"},
        allow("s3:GetObject", "*", NotAction="s3:PutObject"),
        allow("GetObject", "*"),
        allow("s3:GetObject", "*", Principal="*"),
        allow("s3:GetObject", "*", Conditions={}),
        allow("s3:GetObject", "models"),
    ],
)
def test_a_malformed_statement_is_an_error(statement: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        allows(statement, "s3:GetObject", f"{BUCKET}/a")


class TestIotPolicies:
    TOPICS = "arn:aws:iot:eu-west-1:1:topicfilter"

    def test_mqtt_s_wildcards_are_plain_characters(self) -> None:
        statement = allow("iot:Subscribe", [f"{self.TOPICS}/a/+/c", f"{self.TOPICS}/b/#"])
        assert iot_allows(statement, "iot:Subscribe", f"{self.TOPICS}/a/+/c")
        assert not iot_allows(statement, "iot:Subscribe", f"{self.TOPICS}/a/b/c")
        assert iot_allows(statement, "iot:Subscribe", f"{self.TOPICS}/b/#")
        assert not iot_allows(statement, "iot:Subscribe", f"{self.TOPICS}/b/c")

    def test_a_star_covers_every_level_and_mqtt_s_wildcards(self) -> None:
        statement = allow("iot:Subscribe", f"{self.TOPICS}/a/*")
        assert iot_allows(statement, "iot:Subscribe", f"{self.TOPICS}/a/b/c")
        assert iot_allows(statement, "iot:Subscribe", f"{self.TOPICS}/a/#")
        assert not iot_allows(statement, "iot:Subscribe", f"{self.TOPICS}/#")

    def test_thing_variables_have_a_value_only_on_a_connection_of_the_thing(self) -> None:
        statement = allow("iot:Connect", "arn:aws:iot:eu-west-1:1:client/${iot:Connection.Thing.ThingName}")
        client = "arn:aws:iot:eu-west-1:1:client/a"
        assert iot_allows(statement, "iot:Connect", client, {"iot:Connection.Thing.ThingName": "a"})
        assert not iot_allows(statement, "iot:Connect", client)

    @pytest.mark.parametrize("extra", [{"NotAction": "iot:Connect"}, {"Principal": "*"}, {"NotResource": "*"}])
    def test_elements_that_only_iam_has_are_refused(self, extra: dict[str, Any]) -> None:
        with pytest.raises(PolicyError, match="this kind of policy"):
            iot_allows(allow("iot:Connect", "*") | extra, "iot:Connect", "*")


class TestResourcePolicies:
    ROLE = "arn:aws:iam::1:role/device"

    def request(self, **context: Any) -> Request:
        return Request("s3:GetObject", f"{BUCKET}/a", context, self.ROLE)

    def test_in_one_account_either_side_may_allow(self) -> None:
        mine = policy(allow("s3:GetObject", f"{BUCKET}/*"))
        theirs = policy(allow("s3:GetObject", f"{BUCKET}/*", Principal={"AWS": self.ROLE}))
        others = policy(allow("s3:GetObject", f"{BUCKET}/*", Principal={"AWS": "arn:aws:iam::1:role/other"}))
        assert decide(self.request(), [mine])
        assert decide(self.request(), [], [theirs])
        assert not decide(self.request(), [], [others])

    def test_across_accounts_both_must(self) -> None:
        mine = policy(allow("s3:GetObject", f"{BUCKET}/*"))
        theirs = policy(allow("s3:GetObject", f"{BUCKET}/*", Principal={"AWS": self.ROLE}))
        assert not decide(self.request(), [mine], cross_account=True)
        assert not decide(self.request(), [], [theirs], cross_account=True)
        assert decide(self.request(), [mine], [theirs], cross_account=True)

    def test_a_bucket_s_deny_beats_a_role_s_allow(self) -> None:
        mine = policy(allow("s3:GetObject", f"{BUCKET}/*"))
        tls = policy(
            deny(
                "s3:*",
                [BUCKET, f"{BUCKET}/*"],
                Sid="Tls",
                Principal="*",
                Condition={"Bool": {"aws:SecureTransport": "false"}},
            )
        )
        plain = Request("s3:GetObject", f"{BUCKET}/a", {"aws:SecureTransport": "false"}, self.ROLE)
        assert decide(plain, [mine], [tls]).because == "denied by Tls"
        secure = Request("s3:GetObject", f"{BUCKET}/a", {"aws:SecureTransport": "true"}, self.ROLE)
        assert decide(secure, [mine], [tls])

    def test_a_statement_without_principal_is_an_error(self) -> None:
        with pytest.raises(PolicyError, match="Principal"):
            decide(self.request(), [], [policy(allow("s3:GetObject", "*"))])

    @pytest.mark.parametrize("who", [{"AWS": "arn:aws:iam::1:root"}, {"AWS": "123456789012"}, {"Federated": "x"}])
    def test_principals_that_are_not_implemented_are_an_error(self, who: dict[str, str]) -> None:
        with pytest.raises(PolicyError, match="not implemented"):
            decide(self.request(), [], [policy(allow("s3:GetObject", "*", Principal=who))])


SOURCE = {"aws:SourceAccount": "1", "aws:SourceArn": "arn:aws:iot:eu-west-1:1:rolealias/mli"}


class TestTrust:
    TRUST = policy(
        {
            "Effect": "Allow",
            "Principal": {"Service": "credentials.iot.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": {"aws:SourceAccount": "1"},
                "ArnLike": {"aws:SourceArn": "arn:aws:iot:eu-west-1:1:rolealias/mli"},
            },
        }
    )

    def test_only_the_named_service_for_the_named_source(self) -> None:
        assert may_assume(self.TRUST, "credentials.iot.amazonaws.com", SOURCE)
        assert not may_assume(self.TRUST, "iot.amazonaws.com", SOURCE)
        assert not may_assume(self.TRUST, "credentials.iot.amazonaws.com", SOURCE | {"aws:SourceAccount": "2"})
        assert not may_assume(self.TRUST, "credentials.iot.amazonaws.com", {"aws:SourceAccount": "1"})
        assert not may_assume(self.TRUST, "credentials.iot.amazonaws.com")
