"""Imports point one way; a reversed arrow fails here."""

from __future__ import annotations

import ast
from pathlib import Path

import mli

SOURCE = Path(mli.__file__).parent
FOUNDATION = {"types", "errors", "nearest", "frozen_json", "__init__"}
ALLOWED = {
    "config": FOUNDATION,
    "pipeline": FOUNDATION | {"config"},
    "models": FOUNDATION | {"config"},
    "delivery": FOUNDATION | {"config"},
    "core": FOUNDATION | {"config", "pipeline", "models", "delivery"},
    "cloud": FOUNDATION | {"config"},
    "cli": FOUNDATION | {"config", "pipeline", "models", "delivery", "core", "cloud"},
    "__main__": {"cli"},
}
LIGHT = {"pydantic", "yaml", "typer", "rich", "paho", "sqlite3"}
"""Not for what a worker imports."""


def imports_of(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def part_of(module: str) -> str | None:
    names = module.split(".")
    if names[0] != "mli":
        return None
    return names[1] if len(names) > 1 else None


def is_manifest(module: str) -> bool:
    return module == "mli.models.manifest" or module.startswith("mli.models.manifest.")


def house() -> list[tuple[Path, str]]:
    files = sorted(SOURCE.rglob("*.py"))
    return [(path, path.relative_to(SOURCE).parts[0].removesuffix(".py")) for path in files]


def test_every_import_points_the_right_way() -> None:
    known = {part for _, part in house()}
    reversed_arrows = []
    for path, home in house():
        for module in imports_of(path):
            part = part_of(module)
            allowed = FOUNDATION if home in FOUNDATION else ALLOWED[home] | {home}
            if part in known and part not in allowed and not (home == "cloud" and is_manifest(module)):
                reversed_arrows.append(f"{path.relative_to(SOURCE)} imports {module}")
    assert not reversed_arrows


def test_the_walk_sees_every_part_of_the_house() -> None:
    assert {home for _, home in house()} == FOUNDATION | set(ALLOWED)


def test_parts_that_a_worker_imports_stay_light() -> None:
    heavy = [
        f"{path.relative_to(SOURCE)} imports {module}"
        for path, home in house()
        if home == "pipeline" or path.name in ("worker.py", "wire.py", "settings.py")
        for module in imports_of(path)
        if module.split(".")[0] in LIGHT
    ]
    assert not heavy
