"""Lower layers never import higher ones, and the package starts without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import laborllm

PACKAGE = Path(laborllm.__file__).parent
LAYERS = [
    {"_core", "errors"},
    {"files"},
    {"sources", "units"},
    {"occupations", "panel", "spill"},
    {"stream", "spells"},
    {"surveys", "resume", "trie", "synth"},
    {"tokens", "fragments", "packing", "metrics"},
    {"prediction_form", "prediction_titles", "prediction_union", "predictions"},
    {"parts"},
    {"encoder", "windows"},
    {"score"},
    {"train"},
    {"generate"},
    {"models"},
    {"scoring"},
    {"evaluate"},
    {"report"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
TORCH_LIVES_IN = {"score", "train", "generate", "models/language.py"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_a_higher_layer(path):
    used = {name.split(".")[1] for name in imported(path) if name.startswith("laborllm.")} - {"__version__"}
    too_high = {name for name in used if LEVEL[name] > LEVEL[layer(path)]}
    assert not too_high


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_torch_is_imported_only_where_tensors_are(path):
    inside = str(path.relative_to(PACKAGE))
    heavy = {name.split(".")[0] for name in imported(path)} & {"torch", "peft"}
    assert not heavy or layer(path) in TORCH_LIVES_IN or inside in TORCH_LIVES_IN


HELP = "import sys; sys.argv = ['laborllm', '--help']; from laborllm.cli import app; app(standalone_mode=False)"
LOADED = "import sys; print(sorted({'torch', 'transformers', 'peft', 'tokenizers'} & set(sys.modules)))"


@pytest.mark.parametrize("start", ["import laborllm", HELP])
def test_starting_loads_neither_torch_nor_transformers_nor_peft(start):
    run = subprocess.run([sys.executable, "-c", f"{start}\n{LOADED}"], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_every_public_name_exists():
    pytest.importorskip("torch")
    assert all(getattr(laborllm, name) is not None for name in laborllm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Panda'"):
        laborllm.Panda  # noqa: B018
