"""The table beside other tools says "there, and tested": each row that netferry claims names its tests here, and they are there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

TESTS: Mapping[str, str] = {
    "reads": "test_any_to_any.test_every_target_arrives_passes_and_is_written test_tflite.test_*",
    "writes": "test_any_to_any.test_every_target_arrives_passes_and_is_written",
    "Hugging Face folder in": "test_huggingface.test_a_folder_becomes_onnx_with_its_pipeline_beside_it",
    "Hugging Face folder out": "test_packaging.test_a_hub_folder_holds_the_model_and_a_card_that_says_where_it_comes_from",
    "your own data": "test_many.test_many_sources_go_to_another_precision_each_judged_on_the_data test_precision.test_a_precision_is_judged_on_real_rows "
    "test_cli.test_run_prints_shapes_and_writes_arrays",
    "cut at a node": "test_parts.test_a_graph_ends_at_a_tensor_or_a_node test_parts.test_a_graph_begins_inside_and_its_weights_stay_behind "
    "test_parts.test_a_keras_model_is_cut_at_layers_also_of_a_model_inside",
    "rename inputs and outputs": "test_parts.test_a_graph_begins_inside_and_its_weights_stay_behind",
    "fixed sizes": "test_parts.test_fixed_sizes_are_the_models_sizes",
    "custom operators": "test_extending.test_a_file_with_it_is_read_run_and_converted test_extending.test_a_plug_in_of_an_installed_package_is_found",
    "simplify": "test_simplify.test_what_is_known_is_written_and_the_bits_stay",
    "layers and shapes listed": "test_parts.test_names_are_listed_and_the_nearest_is_told",
    "says more or less": "test_voice.test_more_and_less_is_said_and_a_log_has_it_all test_voice.test_quiet_still_says_what_went_wrong",
    "many models in one call": "test_many.test_each_source_has_its_verdict_and_the_worst_is_the_exit_code "
    "test_many.test_a_catalogue_is_converted_and_what_stands_is_not_made_again",
    "trial without writing": "test_many.test_a_dry_run_says_what_would_be_and_writes_nothing",
    "lower precision": "test_precision.test_a_precision_is_judged_on_real_rows test_tflite_written.test_static_int8_is_calibrated_on_rows_*",
    "outputs compared": "test_verify.test_every_pair_gets_its_verdict",
    "first layer that differs": "test_bisect.test_a_fault_is_named_whatever_the_source_is",
    "gradients and training compared": "test_gradients.test_what_arrives_learns_as_its_source_does",
    "result can be trained": "test_onnx_to_pytorch.test_five_steps_of_training_go_the_same_way_in_float64",
    "result as readable source": "test_source_snapshots.test_the_source_reads_as_it_did "
    "test_any_to_any.test_source_is_written_beside_and_runs_without_netferry",
    "TFLite": "test_tflite_written.test_a_network_is_written_and_passes_in_the_interpreter test_tflite.test_*",
    "hostile files": "test_hostile_files.test_a_hostile_file_is_refused",
}
"""Row -> the tests that show it: a file's name, a point, a test's name; a star stands for what follows."""


def rows() -> dict[str, str]:
    """Each row of the page's table, and what it says of netferry."""
    lines = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {first: own for first, own, *_ in cells if first}


def test_every_row_that_is_claimed_names_its_tests() -> None:
    claimed = {name for name, own in rows().items() if own != "no"}
    assert claimed == set(TESTS)


@pytest.mark.parametrize("row", TESTS)
def test_the_tests_of_a_row_are_there(row: str) -> None:
    for named in TESTS[row].split():
        file, _, test = named.partition(".")
        text = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
        assert re.search(rf"^def {re.escape(test).replace(re.escape('*'), '.*')}\b", text, re.MULTILINE), (
            named
        )


def test_flags_in_the_table_are_flags_of_a_command() -> None:
    import typer

    from netferry.cli import app

    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    known = {flag for command in commands for parameter in command.params for flag in parameter.opts}
    for name, own in rows().items():
        for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", own):
            assert flag in known or flag == "-vv", f"{name}: {flag}"
