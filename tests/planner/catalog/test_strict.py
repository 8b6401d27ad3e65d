"""Each fault of a catalogue file is told with the file, the row and the fix."""

import pytest

from planner.catalog.gpu_rows import GpuCatalog
from planner.catalog.model_rows import ModelCatalog
from planner.errors import CatalogError


def model_row(model_id, **changes):
    row = {
        "id": f'"{model_id}"',
        "architecture": '"LlamaForCausalLM"',
        "params": "8",
        "kind": '"verbatim_config_json"',
        "match": '"exact"',
        "sources": '["a page"]',
        "checked": "2026-11-23",
        "config": """'{"model_type": "llama"}'""",
    } | changes
    return "[[model]]\n" + "".join(f"{key} = {value}\n" for key, value in row.items() if value is not None)


def gpu_row(gpu_id, **changes):
    row = {
        "id": f'"{gpu_id}"',
        "name": f'"ACME {gpu_id.upper()}"',
        "vendor": '"NVIDIA"',
        "form": '"desktop"',
        "family": '"ada geforce"',
        "bitsandbytes_4bit": "true",
        "sources": '["a page"]',
        "checked": "2026-11-23",
    } | changes
    return "[[gpu]]\n" + "".join(f"{key} = {value}\n" for key, value in row.items() if value is not None)


@pytest.fixture
def models(tmp_path):
    def load(*rows):
        file = tmp_path / "models.toml"
        file.write_text("\n".join(rows))
        return ModelCatalog(file)

    return load


@pytest.fixture
def gpus(tmp_path):
    def load(*rows):
        file = tmp_path / "gpus.toml"
        file.write_text("\n".join(rows))
        return GpuCatalog(file)

    return load


def test_a_sound_file_loads(models, gpus):
    assert list(models(model_row("a/x"), model_row("B/x")).rows) == ["a/x", "B/x"]
    assert list(gpus(gpu_row("a1"), gpu_row("a2")).cards) == ["a1", "a2"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"licens": '"mit"'}, "unknown key 'licens'; remove it or use one of id, aliases"),
        ({"params": None}, "'params' is missing; add it"),
        ({"params": "0"}, "'params'"),
        ({"params": '"8"'}, "'params'"),
        ({"sources": "[]"}, "'sources' is empty; name at least one"),
        ({"sources": None}, "'sources' is missing; add it"),
        ({"checked": None}, "'checked' is missing; add it"),
        ({"kind": '"hearsay"'}, "'kind'"),
        ({"config": '"{"'}, "'config': Invalid JSON"),
        ({"config": '"{}"'}, "'config': holds no model_type; add it"),
    ],
)
def test_a_faulty_model_row_is_named_with_the_fix(models, changes, told):
    with pytest.raises(CatalogError) as caught:
        models(model_row("acme/anvil", **changes))
    assert "models.toml, row 1 (acme/anvil): " in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vram": "24"}, "unknown key 'vram'"),
        ({"compute_capability": '"8"'}, "'compute_capability'"),
        ({"torch_total": '[{ mib = 8, os = "beos", source = "a page" }]'}, "'torch_total.0.os'"),
        ({"torch_total": '[{ mib = 8, os = "linux" }]'}, "'torch_total.0.source' is missing; add it"),
        ({"nvidia_smi": "[{ mib = 8 }]"}, "'nvidia_smi.0.source' is missing; add it"),
        ({"sources": "[]"}, "'sources' is empty"),
    ],
)
def test_a_faulty_gpu_row_is_named_with_the_fix(gpus, changes, told):
    with pytest.raises(CatalogError) as caught:
        gpus(gpu_row("anvil", **changes))
    assert "gpus.toml, row 1 (anvil): " in str(caught.value)
    assert told in str(caught.value)


def test_rows_out_of_order_say_where_to_move(gpus):
    with pytest.raises(CatalogError, match=r"gpus.toml, row a1: rows are sorted by id; move a1 to the top"):
        gpus(gpu_row("b1"), gpu_row("a1"))
    with pytest.raises(CatalogError, match=r"move b1 after a1"):
        gpus(gpu_row("a1"), gpu_row("c1"), gpu_row("b1"))


def test_an_id_that_stands_twice_is_refused(models):
    with pytest.raises(CatalogError, match=r"row ACME/anvil: the id stands twice; remove one"):
        models(model_row("acme/anvil"), model_row("ACME/anvil"))


def test_an_alias_of_two_rows_is_refused(models):
    with pytest.raises(CatalogError, match=r"row b/y: 'the one' already stands for a/x; drop it from one"):
        models(model_row("a/x", aliases='["The-One"]'), model_row("b/y", aliases='["the one"]'))


def test_an_alias_that_is_anothers_id_is_refused(gpus):
    with pytest.raises(CatalogError, match=r"row a2: 'A1' already stands for a1"):
        gpus(gpu_row("a1"), gpu_row("a2", aliases='["A1"]'))


def test_what_is_no_toml_or_no_row_is_refused(models):
    with pytest.raises(CatalogError, match=r"models.toml: not valid TOML, .*line 1"):
        models("[[model]")
    with pytest.raises(CatalogError, match=r"models.toml: found gpu; hold only \[\[model\]\] rows"):
        models("[[gpu]]")
    with pytest.raises(CatalogError, match=r"models.toml: found nothing"):
        models("")
