"""What is no set-up, or means harm, is refused with its reason, quickly and without a traceback."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tests.fixtures.greengrass_v1 import (
    MODEL,
    TEMPLATE,
    answers,
    changed,
    device_folder,
    export,
    group_json,
    template,
)

from mli.cloud.migration.bounded_text import MAX_DEPTH, parse
from mli.cloud.migration.intrinsics import MAX_TEXT, Resolver
from mli.cloud.migration.models import Choices
from mli.cloud.migration.planning import plan
from mli.cloud.migration.reading import read_setup
from mli.cloud.migration.report import report_json, report_text
from mli.cloud.migration.writing import files_of, write
from mli.errors import UsageError

V2_RECIPE = "RecipeFormatVersion: '2020-01-25'\nComponentName: mli.core\nManifests: []\n"
V2_STACK = "Resources:\n  D: {Type: 'AWS::GreengrassV2::Deployment', Properties: {TargetArn: x}}\n"
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nResources: {G: {Type: 'AWS::Greengrass::Group'}}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("   \n\n", "empty"),
        ("just words", "no set-up of Greengrass V1"),
        ("- a\n- b\n", "no set-up of Greengrass V1"),
        ("{}", "no set-up of Greengrass V1"),
        ('{"Resources": {}}', "makes nothing of Greengrass V1"),
        ("Resources:\n  B: {Type: 'AWS::S3::Bucket'}\n", "AWS::S3::Bucket"),
        (V2_RECIPE, "recipe of Greengrass V2"),
        (V2_STACK, "needs no migration"),
        ('{"coreThing": {"thingArn": "x"}}', "mli migrate /greengrass"),
        ("model: x.zip\nsource: images\n", "a file of mli already"),
        ("Resources:\n  G:\n   - a\n  b: [\n", "not valid YAML"),
        ("Resources: {G: {Type: a}, G: {Type: b}}", "given twice"),
        ('{"Resources": {"G": 1, "G": 2}}', "given twice"),
        ('{"Resources": ', "not valid JSON"),
        ('{"Resources": NaN}', "NaN is no JSON"),
        ("Resources: !!python/object/apply:os.system ['true']\n", "means nothing here"),
        ("Resources: {G: {Type: !Teleport x}}", "no function of CloudFormation"),
        (BOMB, "aliases"),
        ("<<: {a: b}\nResources: {}\n", "a key is no text"),
        ("? [a, b]\n: c\n", "a key is no text"),
        ("[" * 5000, "levels deep"),
        ("Resources: " + "{a: " * (MAX_DEPTH + 1) + "x" + "}" * (MAX_DEPTH + 1), "levels deep"),
        ('{"Resources":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "levels deep"),
        ("Resources:\n" + "- x\n" * 60_000, "too many"),
        ("[" + "1," * 60_000 + "1]", "too many"),
        ("a: " + "x" * 2_000_000, "too large"),
    ],
)
def test_what_is_no_set_up_says_why(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_setup(path, {})
    assert told in str(refused.value)
    assert str(path) in str(refused.value)


def test_deep_json_is_refused_without_recursion(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000):
        path = tmp_path / "deep.json"
        path.write_text(text)
        with pytest.raises(UsageError):
            read_setup(path, {})


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00Resources")
    with pytest.raises(UsageError, match="UTF-8"):
        read_setup(path, {})


@pytest.mark.parametrize(
    "content", [{}, {"x.json": "{}"}, {"readme.txt": "hello"}, {"a.yaml": TEMPLATE, "b.yaml": TEMPLATE}]
)
def test_a_folder_that_is_no_set_up_says_why(tmp_path: Path, content: dict[str, str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(UsageError, match=r"nothing of Greengrass V1|several set-ups"):
        read_setup(folder, {})


def test_no_file_and_no_regular_file_are_refused(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent.yaml", tmp_path / "pipe"):
        with pytest.raises(UsageError):
            read_setup(path, {})


def test_numbers_truths_and_dates_stay_what_was_written() -> None:
    value = parse("a: 0123\nb: 1_000\nc: 2012-10-17\nd: yes\ne: 12:30\nf: ~\ng: 1e999\nh: !Sub 7\n", "x")
    assert value == {
        "a": "0123",
        "b": "1_000",
        "c": "2012-10-17",
        "d": "yes",
        "e": "12:30",
        "f": None,
        "g": "1e999",
        "h": {"Fn::Sub": "7"},
    }


def resolver(template_text: str, **parameters: str) -> Resolver:
    return Resolver("x.yaml", parse(template_text, "x.yaml"), parameters)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("!Ref A", "one"),
        ("!Ref Nobody", "${Nobody}"),
        ("!Sub '${A}-${!A}-${B.Arn}'", "one-${A}-${B.Arn}"),
        ("!Sub ['${A}-${X}', {X: !Ref A}]", "one-one"),
        ("!Join ['/', [a, !Ref A, b]]", "a/one/b"),
        ("!Join ['/', !Ref Nobody]", "${Join:…}"),
        ("!Select [1, !Split [',', 'a,b,c']]", "b"),
        ("!Select [9, [a]]", "${Select:…}"),
        ("!FindInMap [M, !Ref A, k]", "v"),
        ("!FindInMap [M, x, k]", "${FindInMap:…}"),
        ("!If [Yes, a, b]", "a"),
        ("!If [No, a, b]", "b"),
        ("!If [Unknown, a, b]", "${If:…}"),
        ("!If [Loop, a, b]", "${If:…}"),
        ("!ImportValue shared-bucket", "${ImportValue:shared-bucket}"),
        ("[a, !Ref 'AWS::NoValue']", ["a"]),
        ("{k: !Ref 'AWS::NoValue', l: 1}", {"l": "1"}),
        ("!GetAtt [F, Arn]", "${F.Arn}"),
        ("!Ref L", ["x", "y"]),
    ],
)
def test_functions_give_what_cloudformation_gives_or_stay_open(written: str, value: object) -> None:
    text = f"""\
Parameters: {{L: {{Type: CommaDelimitedList}}}}
Mappings: {{M: {{one: {{k: v}}}}}}
Conditions:
  Yes: !Equals [!Ref A, one]
  No: !Not [!Condition Yes]
  Unknown: !Or [!Condition No, !Equals [!Ref Nobody, x]]
  Loop: !And [!Condition Loop, !Condition Yes]
V: {written}
"""
    found = resolver(text, A="one", L="x, y").value(parse(text, "x")["V"])
    assert found == value


def test_functions_cannot_make_much_of_little() -> None:
    big = "x" * (MAX_TEXT // 2)
    for written in ("!Sub '${A}${A}${A}'", "!Join ['', [!Ref A, !Ref A, !Ref A]]"):
        with pytest.raises(UsageError, match="too long"):
            resolver("{}", A=big).value(parse(written, "x"))
    conditions = "\n".join(f"  C{n}: !Or [!Condition C{n + 1}, !Condition C{n + 1}]" for n in range(200))
    text = f"Conditions:\n{conditions}\n  C200: !Equals [a, a]\n"
    assert resolver(text).condition("C0") is True


def test_wrong_kinds_everywhere_are_told_and_stop_nothing(tmp_path: Path) -> None:
    text = changed("MemorySize: 500000", "MemorySize: [much]").replace("Timeout: 15", "Timeout: soon")
    text = text.replace(
        "ResourceAccessPolicies: [{ResourceId: model, Permission: ro}]", "ResourceAccessPolicies: all"
    )
    text = text.replace("Pinned: True", "Pinned: maybe")
    setup = read_setup(template(tmp_path, text), {"ModelS3Uri": MODEL})
    made = plan(setup, Choices())
    told = " ".join(item.was for item in made.findings if item.about == "not understood")
    for part in ("memorysize", "timeout", "resourceaccesspolicies", "pinned"):
        assert part in told
    assert made.deployment["pipelines"]["main"]["limits"] == {"memory": "500MB", "frame_timeout": "15s"}


def test_properties_of_no_kind_at_all_are_told(tmp_path: Path) -> None:
    for name in ("Functions", "Subscriptions", "Loggers", "ResourcesVersion", "CoreVersion"):
        lines = TEMPLATE.splitlines()
        start = lines.index(f"  {name}:")
        end = next(i for i in range(start + 1, len(lines)) if lines[i].startswith("  ") and lines[i][2] != " ")
        lines[start + 2 : end] = ["    Properties: nonsense"]
        made = plan(read_setup(template(tmp_path, "\n".join(lines)), {"ModelS3Uri": MODEL}), Choices(model_uri=MODEL))
        assert any("nonsense" in item.was for item in made.findings), name


def test_code_of_no_kind_at_all_is_told_by_its_reference(tmp_path: Path) -> None:
    start, end = TEMPLATE.index("      FunctionName: !Sub"), TEMPLATE.index("  Subscriptions:\n")
    text = f"{TEMPLATE[:start]}      !Ref CoreName\n{TEMPLATE[end:]}"
    made = plan(read_setup(template(tmp_path, text), {"ModelS3Uri": MODEL}), Choices())
    (code,) = [item for item in made.findings if item.about.startswith("code of")]
    assert "${LookAtBeltFunction.Alias}" in code.was


@pytest.mark.parametrize("name", ["../../etc/x", "a b", "x" * 200, "a/b", "a\nb"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="name of a thing"):
        plan(read_setup(template(tmp_path), {"ModelS3Uri": MODEL, "CoreName": name}), Choices())


NO_ADDRESSES = ("", "inception.zip", "/etc/passwd", "file:///a.zip", "http://x/y.zip", "s3://b", "s3://bucket/d/")


@pytest.mark.parametrize("uri", NO_ADDRESSES)
def test_a_model_that_cannot_be_fetched_is_missing_with_its_reason(tmp_path: Path, uri: str) -> None:
    made = plan(read_setup(template(tmp_path), {"ModelS3Uri": uri}), Choices())
    assert "a model that can be fetched" in made.missing[0]


def test_a_report_is_not_led_astray_by_what_it_tells(tmp_path: Path) -> None:
    text = changed("MXNET_ENGINE_TYPE: NaiveEngine", 'EVIL: "a | b\\n| x | y |\\n# Heading\\e[31m<script>"')
    setup = read_setup(template(tmp_path, text), {"ModelS3Uri": MODEL})
    report = report_text(setup, plan(setup, Choices()), {}, [])
    assert "\x1b" not in report
    assert "<script" not in report.replace("\\<script", "")
    assert not any(line.startswith("# Heading") for line in report.splitlines())
    (line,) = [line for line in report.splitlines() if "variable EVIL" in line]
    assert line.count("|") - line.count("\\|") == 5


def test_a_backup_cannot_be_led_out_of_its_folder(tmp_path: Path) -> None:
    root, out = device_folder(tmp_path), tmp_path / "out"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (out / "backup").mkdir(parents=True)
    (out / "backup" / "certs").symlink_to(elsewhere)
    setup = read_setup(root, {})
    with pytest.raises(UsageError):
        write(setup, plan(setup, Choices(model_uri=MODEL)), out, overwrite=True)
    assert not list(elsewhere.iterdir())


def test_a_group_note_of_any_json_is_told_and_stops_nothing(tmp_path: Path) -> None:
    notes: list[object] = [
        [],
        {"GroupDefinitions": []},
        {"GroupDefinitions": {"Lambdas": {"Content": {"a": 1}}}, "Cores": "x"},
    ]
    for note in notes:
        folder = tmp_path / str(len(json.dumps(note)))
        folder.mkdir()
        root = device_folder(folder)
        (root / "ggc" / "deployment" / "group" / "group.json").write_text(json.dumps(note))
        made = plan(read_setup(root, {}), Choices(model_uri=MODEL))
        assert not made.missing
        assert any(item.about == "not understood" for item in made.findings)


def test_many_items_are_cut_off_and_counted(tmp_path: Path) -> None:
    loggers = [{"Component": "Lambda", "Id": str(n), "Level": "INFO", "Type": "FileSystem"} for n in range(600)]
    made = plan(read_setup(export(tmp_path, logger={"Loggers": loggers}), {}), Choices())
    assert any("88 more items" in item.was for item in made.findings)
    assert len([item for item in made.findings if item.about == "log of Lambda"]) == 512


def test_a_file_that_became_a_link_meanwhile_is_not_copied(tmp_path: Path) -> None:
    root = device_folder(tmp_path)
    (tmp_path / "secret").write_text("sesame")
    setup = read_setup(root, {})
    made = plan(setup, Choices(model_uri=MODEL))
    (root / "certs" / "AmazonRootCA1.pem").unlink()
    (root / "certs" / "AmazonRootCA1.pem").symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError, match="cannot be read"):
        write(setup, made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_a_compiler_made_is_told(tmp_path: Path) -> None:
    text = changed("/greengrass-machine-learning/mxnet/inception_bn", "/dlr_model")
    made = plan(read_setup(template(tmp_path, text), {"ModelS3Uri": MODEL}), Choices())
    (kind,) = [item for item in made.findings if item.about.startswith("kind of model")]
    assert (kind.fate, "compiled" in kind.todo) == ("open", True)
    made = plan(read_setup(template(tmp_path), {"ModelS3Uri": MODEL}), Choices())
    assert not [item for item in made.findings if item.about.startswith("kind of model")]


JUNK: tuple[object, ...] = (
    "",
    "x",
    None,
    3,
    True,
    [],
    {},
    [1],
    {"a": 1},
    "${A}",
    "a\nb|c",
    {"Ref": "CoreName"},
    {"Fn::Join": 1},
)


def spoiled(value: object, chance: random.Random) -> object:
    """The same with a part here and there gone, of another kind, or there several times."""
    if chance.random() < 0.03:
        return chance.choice(JUNK)
    if isinstance(value, dict):
        return {key: spoiled(item, chance) for key, item in value.items() if chance.random() > 0.01}
    if isinstance(value, list):
        return [spoiled(item, chance) for item in value] * (3 if chance.random() < 0.03 else 1)
    return value


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_wrong_is_an_error_with_its_reason_or_a_plan_that_mli_reads(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    root = device_folder(tmp_path)
    note, single = root / "ggc" / "deployment" / "group" / "group.json", tmp_path / "set-up.json"
    whole = ((single, parse(TEMPLATE, "x")), (single, list(answers().values())), (note, group_json()))
    plans = 0
    for turn in range(60):
        path, value = whole[turn % 3]
        path.write_text(json.dumps(spoiled(value, chance)))
        try:
            setup = read_setup(root if path == note else path, {"ModelS3Uri": MODEL} if turn % 3 == 0 else {})
            made = plan(setup, Choices())
        except UsageError:
            continue
        json.dumps(report_json(setup, made))
        if not made.missing:
            files_of(setup, made)
            plans += 1
    assert plans > 10
