"""The floors: who may import whom. Read off the source of the installed package."""

import ast
from pathlib import Path

import pytest

import snnconvert.converter

PACKAGE = Path(snnconvert.converter.__path__[0]).parent
ROOT = Path(__file__).parents[1]
FOLDERS = ("converter", "calibration", "evaluation", "model_zoo", "cli")

MAY_IMPORT = {
    "converter": set(),
    "calibration": {"converter"},
    "evaluation": {"converter"},
    "model_zoo": {"converter"},
    "cli": {"converter", "calibration", "evaluation", "model_zoo"},
}
OWNERS = {
    "typer": "cli",
    "rich": "cli",
    "timm": "model_zoo",
    "torchvision": "model_zoo",
    "matplotlib": "evaluation",
    "jinja2": "evaluation",
}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path, folder: str) -> set[str]:
    """Return the modules that ``path`` imports, relative ones resolved."""
    parts = ("snnconvert", folder, *path.relative_to(ROOT / folder).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(p for p in (base, node.module or "") if p)
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_floor_imports_only_what_lies_below(folder: str) -> None:
    assert sources(folder)
    for path in sources(folder):
        for name in imports(path, folder):
            package, _, rest = name.partition(".")
            other = rest.split(".")[0]
            if package == "snnconvert" and other in FOLDERS and other != folder:
                assert other in MAY_IMPORT[folder], f"{path} imports {name}"
            assert OWNERS.get(package, folder) == folder, f"{path} imports {name}, which belongs to {OWNERS[package]}"


def test_only_one_file_prints() -> None:
    allowed = {ROOT / "cli" / "output.py"}
    programs = {path for path in sources("model_zoo") if "__main__" in path.read_text()}
    for folder in FOLDERS:
        for path in sources(folder):
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            prints = [n for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
            assert not prints or path in allowed | programs, path


def test_every_folder_is_installed() -> None:
    installed = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    for folder in FOLDERS:
        for path in sources(folder):
            if (PACKAGE / folder).resolve() != (ROOT / folder).resolve():
                assert path.relative_to(ROOT).as_posix() in installed


def test_no_file_is_a_giant_or_a_bag() -> None:
    for folder in FOLDERS:
        for path in sources(folder):
            assert len(path.read_text().splitlines()) <= 300, path
            assert path.stem not in ("utils", "helpers", "common", "misc")
