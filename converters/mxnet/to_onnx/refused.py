"""Operators that are refused by name, with the reason."""

from __future__ import annotations

from collections.abc import Mapping

_VALUES = "its result is found by iterations that end when they have converged"
_USER = "it runs Python code of the model's own, which is not in the file"
_CHANCE = "it draws random numbers"
_TRAINING = "it computes targets or a loss of training"
_GPU = "MXNet computes it on a GPU alone, so that nothing says whether a conversion is right"
_SPARSE = "it is for compressed rows or graphs alone"
_PICTURES = "it reads or changes image files"
_UPDATE = "it changes the weights, in training"
_PLACE = "it writes into its input, which a symbol does not"
_INTEGERS = "a form of integers that MXNet's CPU does not run"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys("_linalg_syevd _npi_eig _npi_eigh _npi_eigvals _npi_svd _npi_pinv _npi_pinv_scalar_rcond".split(), _VALUES),
    "Custom": _USER,
    **dict.fromkeys("CTCLoss _contrib_MultiBoxTarget _contrib_bipartite_matching _contrib_box_encode _contrib_hawkesll".split(), _TRAINING),
    **dict.fromkeys("_contrib_fft _contrib_ifft _contrib_count_sketch".split(), _GPU),
    **dict.fromkeys(
        "_contrib_dgl_adjacency _contrib_dgl_csr_neighbor_non_uniform_sample _contrib_dgl_csr_neighbor_uniform_sample"
        " _contrib_dgl_graph_compact _contrib_dgl_subgraph _contrib_edge_id _contrib_getnnz _sparse_retain _square_sum".split(), _SPARSE
    ),
    **dict.fromkeys("_cvcopyMakeBorder _cvimdecode _cvimread _cvimresize _imdecode".split(), _PICTURES),
    **dict.fromkeys("_npi_boolean_mask_assign_scalar _npi_boolean_mask_assign_tensor".split(), _PLACE),
    **dict.fromkeys("_contrib_quantize_asym _contrib_quantized_rnn".split(), _INTEGERS),
    **dict.fromkeys(
        "_npi_bernoulli _npi_choice _npi_exponential _npi_gamma _npi_gumbel _npi_logistic _npi_multinomial _npi_normal _npi_normal_n"
        " _npi_pareto _npi_powerd _npi_rayleigh _npi_uniform _npi_uniform_n _npi_weibull _shuffle _sample_unique_zipfian"
        " _sample_multinomial".split(), _CHANCE
    ),
}  # fmt: skip
"""Why an operator has no row, by its name."""

_FAMILIES: Mapping[str, str | None] = {
    "_random_pdf": None, "_random_": _CHANCE, "_sample_": _CHANCE, "_image_random_": _CHANCE, "_backward": _UPDATE, "_contrib_backward": _UPDATE,
    "_npi_backward": _UPDATE,
}  # fmt: skip
"""The same, by how a name begins."""


def reason(operator: str) -> str | None:
    """Why an operator is refused; None where it is not one of MXNet's that netferry has looked at."""
    if operator in REFUSED:
        return REFUSED[operator]
    if operator.endswith("_update") or "_update_phase" in operator:
        return _UPDATE
    return next((why for start, why in _FAMILIES.items() if operator.startswith(start)), None)
