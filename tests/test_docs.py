"""The generated parts of the manual are what the code says."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
assert spec is not None
assert spec.loader is not None
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


@pytest.mark.parametrize("name", generate.GENERATED)
def test_generated_document_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == generate.GENERATED[name](), f"run `make docs`: docs/{name} is out of date"
