"""Operators of detectors and of images to ONNX, against mxnet itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import Dims, assert_arrives, inputs_of
from mxnet_oracle import Oracle

from netferry.converters.signature import Array

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

IMAGE, ROWS2, SEQUENCE = (2, 4, 7, 6), (3, 8), (3, 5, 4)

SCORED: dict[str, tuple[Dims, ...]] = {
    "F._contrib_box_nms(data, )": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=0.3, valid_thresh=0.2)": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=0.3, id_index=0)": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=-1, id_index=0)": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=0.2, id_index=0, force_suppress=True)": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=0.3, topk=7, id_index=0)": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=0.4, in_format='center')": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=0.4, in_format='center', out_format='corner')": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=0.4, out_format='center')": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=0.3, topk=0)": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=0.3, coord_start=2, score_index=1) # wide": ((2, 3, 20, 8),),
    "F._contrib_box_nms(data, overlap_thresh=0.3, id_index=0, background_id=2)": ((2, 20, 6),),
    "F._contrib_box_nms(data, overlap_thresh=0.3) # 2d": ((20, 6),),
}  # fmt: skip

BOXES: dict[str, tuple[Dims, ...]] = {
    "F._contrib_box_iou(data, other)": (SEQUENCE, (7, 4)),
    "F._contrib_box_iou(data, other, format='center')": ((3, 4), (2, 7, 4)),
}  # fmt: skip

IMAGES: dict[str, tuple[Dims, ...]] = {
    "F._contrib_box_decode(data, other, std0=0.1, std1=0.2, std2=0.3, std3=0.4, clip=0.2, format='corner')": (SEQUENCE, (1, 5, 4)),
    "F._contrib_box_decode(data, other, std0=0.1, std1=0.2, std2=0.3, std3=0.4)": (SEQUENCE, (1, 5, 4)),
    "F._contrib_MultiBoxPrior(data, sizes=(0.2, 0.5), ratios=(1, 2, 0.5))": (IMAGE,),
    "F._contrib_MultiBoxPrior(data, sizes=(0.2, 0.5), ratios=(2, 3), clip=True, steps=(0.1, 0.2), offsets=(0.3, 0.6))": (IMAGE,),
    "F._contrib_MultiBoxPrior(data)": (IMAGE,),
    "F._contrib_AdaptiveAvgPooling2D(data, output_size=(2, 3))": (IMAGE,),
    "F._contrib_AdaptiveAvgPooling2D(data, output_size=(3,))": (IMAGE,),
    "F._contrib_AdaptiveAvgPooling2D(data, output_size=4)": (IMAGE,),
    "F._contrib_AdaptiveAvgPooling2D(data, output_size=1)": (IMAGE,),
    "F._contrib_AdaptiveAvgPooling2D(data, output_size=(7, 6))": (IMAGE,),
    "F._contrib_AdaptiveAvgPooling2D(data)": (IMAGE,),
    "F.Crop(data, h_w=(3, 4), offset=(2, 1), num_args=1)": (IMAGE,),
    "F.Crop(data, other, num_args=2, offset=(2, 1))": (IMAGE, (2, 1, 3, 4)),
    "F.Crop(data, other, num_args=2, center_crop=True)": (IMAGE, (2, 1, 4, 3)),
    "F.Crop(data, h_w=(3, 4), center_crop=True, num_args=1)": (IMAGE,),
    "F.UpSampling(data, other, scale=2, sample_type='nearest', num_args=2)": (IMAGE, (2, 3, 14, 12)),
    "F.UpSampling(data, other, third, scale=2, sample_type='nearest', num_args=3, multi_input_mode='sum')": ((2, 4, 6, 4), (2, 4, 12, 8), (2, 4, 3, 2)),
    "F.GridGenerator(data, transform_type='affine', target_shape=(5, 4))": ((2, 6),),
    "F.GridGenerator(data, transform_type='warp')": ((2, 2, 5, 4),),
    "F.BilinearSampler(data, other)": (IMAGE, (2, 2, 5, 4)),
    "F.SpatialTransformer(data, other, target_shape=(5, 4), transform_type='affine', sampler_type='bilinear')": (IMAGE, (2, 6)),
    "F.im2col(data, kernel=(2, 3), stride=(2, 1), dilate=(1, 2), pad=(1, 2))": (IMAGE,),
    "F.im2col(data, kernel=(3, 3))": (IMAGE,),
    "F.col2im(data, output_size=(7, 6), kernel=(2, 3), stride=(2, 1), pad=(1, 1))": ((2, 24, 24),),
    "F.col2im(data, output_size=(8, 7), kernel=(3, 2), stride=(2, 2), dilate=(1, 2))": ((2, 24, 9),),
    "F._image_to_tensor(data)": ((2, 5, 6, 3),),
    "F._image_normalize(data, mean=(0.3, 0.4, 0.5), std=(0.2, 0.3, 0.4))": ((2, 3, 5, 6),),
    "F._image_normalize(data, mean=(0.3,), std=(0.2,))": ((2, 3, 5, 6),),
    "F._image_crop(data, x=1, y=2, width=4, height=3)": ((2, 5, 6, 3),),
    "F.Correlation(data, other, )": ((2, 3, 9, 8), (2, 3, 9, 8)),
    "F.Correlation(data, other, max_displacement=2, pad_size=2)": ((2, 3, 9, 8), (2, 3, 9, 8)),
    "F.Correlation(data, other, kernel_size=3, max_displacement=2, stride1=2, stride2=2, pad_size=3)": ((2, 3, 9, 8), (2, 3, 9, 8)),
    "F.Correlation(data, other, is_multiply=False, max_displacement=1, pad_size=1, stride1=2)": ((2, 3, 9, 8), (2, 3, 9, 8)),
    "F._image_flip_left_right(data)": ((5, 6, 3),),
    "F._image_flip_top_bottom(data)": ((6, 6, 3),),
}  # fmt: skip

PREDICTED: dict[str, tuple[Dims, ...]] = {
    "F._contrib_MultiBoxDetection(data, other, third, )": ((3, 4, 20), (3, 80), (1, 20, 4)),
    "F._contrib_MultiBoxDetection(data, other, third, threshold=0.3, clip=False, nms_threshold=0.3)": ((3, 4, 20), (3, 80), (1, 20, 4)),
    "F._contrib_MultiBoxDetection(data, other, third, force_suppress=True, nms_threshold=0.2, variances=(0.2, 0.1, 0.3, 0.4))": ((3, 4, 20), (3, 80), (1, 20, 4)),
    "F._contrib_MultiBoxDetection(data, other, third, nms_threshold=0, threshold=0.3)": ((3, 4, 20), (3, 80), (1, 20, 4)),
    "F._contrib_MultiBoxDetection(data, other, third, nms_threshold=0.3, nms_topk=9)": ((3, 4, 20), (3, 80), (1, 20, 4)),
    "F._contrib_MultiBoxDetection(data, other, third, nms_threshold=0.2, nms_topk=9, force_suppress=True, threshold=0.4)": ((3, 4, 20), (3, 80), (1, 20, 4)),
}  # fmt: skip

REGIONS: dict[str, tuple[Dims, ...]] = {
    "F._contrib_ROIAlign(data, other, pooled_size=(3, 2), spatial_scale=0.2, )": (IMAGE, (5, 5)),
    "F._contrib_ROIAlign(data, other, pooled_size=(3, 2), spatial_scale=0.2, sample_ratio=2)": (IMAGE, (5, 5)),
    "F._contrib_ROIAlign(data, other, pooled_size=(3, 2), spatial_scale=0.2, sample_ratio=3, aligned=True)": (IMAGE, (5, 5)),
    "F.ROIPooling(data, other, pooled_size=(3, 2), spatial_scale=0.2)": (IMAGE, (5, 5)),
}  # fmt: skip

PROPOSED: dict[str, tuple[Dims, ...]] = {
    "F._contrib_Proposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, )": ((1, 12, 7, 6), (1, 24, 7, 6), (1, 3)),
    "F._contrib_Proposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, output_score=True, threshold=0.4)": ((1, 12, 7, 6), (1, 24, 7, 6), (1, 3)),
    "F._contrib_Proposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, rpn_min_size=30, iou_loss=True)": ((1, 12, 7, 6), (1, 24, 7, 6), (1, 3)),
    "F._contrib_Proposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, rpn_pre_nms_top_n=12)": ((1, 12, 7, 6), (1, 24, 7, 6), (1, 3)),
    "F._contrib_MultiProposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, )": ((1, 12, 7, 6), (1, 24, 7, 6), (1, 3)),
    "F._contrib_MultiProposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, output_score=True, threshold=0.4)": ((1, 12, 7, 6), (1, 24, 7, 6), (1, 3)),
    "F._contrib_MultiProposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, rpn_min_size=30, iou_loss=True)": ((1, 12, 7, 6), (1, 24, 7, 6), (1, 3)),
    "F._contrib_MultiProposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, rpn_pre_nms_top_n=12)": ((1, 12, 7, 6), (1, 24, 7, 6), (1, 3)),
}  # fmt: skip

FIXED = [
    "F._contrib_box_nms(data, overlap_thresh=0.3) # 2d",
    "F._contrib_Proposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, )",
    "F._contrib_Proposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, output_score=True, threshold=0.4)",
    "F._contrib_Proposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, rpn_min_size=30, iou_loss=True)",
    "F._contrib_Proposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, rpn_pre_nms_top_n=12)",
    "F._contrib_MultiProposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, )",
    "F._contrib_MultiProposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, output_score=True, threshold=0.4)",
    "F._contrib_MultiProposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, rpn_min_size=30, iou_loss=True)",
    "F._contrib_MultiProposal(data, other, third, scales=(2, 4), ratios=(0.5, 1, 2), rpn_post_nms_top_n=20, feature_stride=16, rpn_pre_nms_top_n=12)",
    "F._image_flip_left_right(data)",
    "F._image_flip_top_bottom(data)",
]  # fmt: skip
"""Cases whose first axis is not a batch, or is always 1."""


# ---- what stands for pictures and predictions -----------------------------------------------------


def corners(dims: Dims, scale: float = 1.0) -> Array:
    """Random corner boxes."""
    rng = np.random.default_rng(dims)
    near = rng.uniform(0, 1, (*dims[:-1], 2))
    return np.concatenate([near, near + rng.uniform(0.05, 0.6, near.shape)], -1).astype(
        np.float32
    ) * np.float32(scale)


def scored(name: str, array: Array) -> Array:
    """Rows of a class from -1 to 3, a score, all different, a box, and more."""
    rng = np.random.default_rng(array.shape)
    rows = array.copy()
    rows[..., 2:6] = corners((*array.shape[:-1], 4))
    count = rows[..., 1].size
    rows[..., 1] = rng.permutation(count).reshape(rows.shape[:-1]) / count * 1.2 - 0.15
    rows[..., 0] = rng.integers(-1, 4, rows.shape[:-1])
    return rows


def boxes(name: str, array: Array) -> Array:
    return corners(array.shape)


def predicted(name: str, array: Array) -> Array:
    """Probabilities of classes, shifts, anchors."""
    if name == "data":
        powers = np.exp(array * 1.2)
        return powers / powers.sum(1, keepdims=True)
    return array if name == "other" else corners(array.shape)


def regions(name: str, array: Array) -> Array:
    """Of the second input, places of two images and boxes of 30 pixels."""
    if name == "data":
        return array
    place = np.random.default_rng(array.shape).integers(0, 2, (len(array), 1))
    return np.concatenate([place, corners((len(array), 4), 30)], 1).astype(np.float32)


def proposed(name: str, array: Array) -> Array:
    """Scores from 0 to 1, small shifts, the size and scale of a picture."""
    if name == "data":
        return np.random.default_rng(array.shape).uniform(0, 1, array.shape).astype(np.float32)
    return (
        array * np.float32(0.25) if name == "other" else np.tile(np.float32([100, 90, 1.5]), (len(array), 1))
    )


def plain(name: str, array: Array) -> Array:
    return array


FEEDS: list[tuple[dict[str, tuple[Dims, ...]], Callable[[str, Array], Array]]] = [
    (SCORED, scored), (BOXES, boxes), (PREDICTED, predicted), (REGIONS, regions), (PROPOSED, proposed), (IMAGES, plain),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "dims", "feed"), [(case, dims, feed) for cases, feed in FEEDS for case, dims in cases.items()]
)
def test_an_operator_of_detectors_and_images_arrives(
    case: str, dims: tuple[Dims, ...], feed: Callable[[str, Array], Array], oracle: Oracle, tmp_path: Path
) -> None:
    grown = inputs_of(case, dims, (0,) if case in FIXED else (0, 3))
    inputs = [{name: feed(name, array) for name, array in arrays.items()} for arrays in grown]
    assert_arrives(case, inputs, oracle, tmp_path)
