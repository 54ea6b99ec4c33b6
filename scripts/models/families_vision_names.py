"""Which models of the vision and audio libraries are tried, and the sizes at which they are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from models.families_vision import OTHERS, Family, _of, _open_clip, _smp, _timm, _torchvision, _yolo

LARGE = {"height": 224, "width": 224}
VIDEO = ("N", 3, "T", 112, 112)
WAVE = {"length": 8000}
ALIGNED = ({"batch": 3, "height": 160, "width": 64}, {"batch": 1, "height": 96, "width": 192})

TORCHVISION = tuple(
    "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet mnasnet0_5 mnasnet1_0 mobilenet_v2 "
    "mobilenet_v3_large mobilenet_v3_small regnet_x_400mf regnet_y_400mf regnet_y_1_6gf resnet18 resnet34 resnet50 resnet101 "
    "resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 squeezenet1_0 squeezenet1_1 swin_t swin_s swin_v2_t swin_v2_s vgg11 "
    "vgg16_bn wide_resnet50_2 deeplabv3_mobilenet_v3_large deeplabv3_resnet50 fcn_resnet50 lraspp_mobilenet_v3_large".split()
)
TORCHVISION_LARGER = tuple(
    "convnext_small convnext_base convnext_large densenet161 densenet169 densenet201 efficientnet_b1 efficientnet_b2 efficientnet_b3 "
    "efficientnet_b4 efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_m efficientnet_v2_l mnasnet0_75 mnasnet1_3 regnet_x_16gf "
    "regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf regnet_x_800mf regnet_x_8gf regnet_y_16gf regnet_y_32gf regnet_y_3_2gf regnet_y_800mf "
    "regnet_y_8gf resnet152 resnext101_32x8d resnext101_64x4d shufflenet_v2_x1_5 shufflenet_v2_x2_0 swin_b swin_v2_b vgg11_bn vgg13 vgg13_bn "
    "vgg16 vgg19 vgg19_bn wide_resnet101_2 deeplabv3_resnet101 fcn_resnet101 "
    "deeplabv3_resnet50+aux fcn_resnet50+aux deeplabv3_mobilenet_v3_large+aux".split()
)
"""The rest of its networks, but for those of more than 600 million weights; and those with their auxiliary heads."""
DETECTORS = tuple(
    "fasterrcnn_mobilenet_v3_large_320_fpn fasterrcnn_mobilenet_v3_large_fpn fasterrcnn_resnet50_fpn fasterrcnn_resnet50_fpn_v2 "
    "fcos_resnet50_fpn keypointrcnn_resnet50_fpn maskrcnn_resnet50_fpn maskrcnn_resnet50_fpn_v2 retinanet_resnet50_fpn "
    "retinanet_resnet50_fpn_v2 ssd300_vgg16 ssdlite320_mobilenet_v3_large".split()
)
YOLO = tuple(
    "yolov8n yolov8n-seg yolov8n-pose yolov8n-obb yolov8n-cls yolov8n-p2 yolov8n-ghost yolov9t yolov9c-seg yolov10n yolov10s "
    "yolo11n yolo11n-seg yolo11n-pose yolo11n-obb yolo11n-cls yolo12n yolo12n-seg yolo12n-pose yolo12n-obb yolo12n-cls yolov5n yolov6n "
    "yolov3-tiny rtdetr-l rtdetr-resnet50 yolo26n yolo26n-seg yolov8n+export yolov8n-seg+export yolov8n-pose+export yolov8n-obb+export "
    "yolov10n+export yolo11n+export yolo12n+export rtdetr-l+export yolo26n+export".split()
)
SMP = tuple(
    f"{kind}+{encoder}"
    for kind, encoder in {
        "unet": "resnet18", "unetplusplus": "mobilenet_v2", "manet": "resnet18", "linknet": "timm-regnetx_002", "fpn": "efficientnet-b0",
        "pspnet": "resnet18", "deeplabv3": "mobilenet_v2", "deeplabv3plus": "resnet18", "upernet": "mit_b0", "segformer": "mit_b0",
    }.items()
)  # fmt: skip

TIMM = tuple(
    "convnext_atto convnextv2_atto test_convnext cs3darknet_s cspresnet50 cspnext_tiny densenet121 dla46_c dla60_res2net "
    "dpn48b edgenext_xx_small efficientnet_b0 efficientnet_lite0 efficientnetv2_rw_t tf_efficientnet_b0 "
    "tf_efficientnetv2_b0 mobilenetv2_050 mnasnet_small mixnet_s tf_mixnet_s fbnetc_100 spnasnet_100 tinynet_e "
    "efficientvit_b0 efficientvit_m0 efficientvim_m1 fasternet_t0 fastvit_t8 fastvit_sa12 focalnet_tiny_srf ghostnet_050 "
    "ghostnetv2_100 ghostnetv3_050 hardcorenas_a hgnetv2_b0 hgnet_tiny hrnet_w18_small iformer_t inception_next_atto "
    "lcnetv2_small lowformer_b0 mambaout_femto poolformer_s12 poolformerv2_s12 convformer_s18 "
    "caformer_s18 mobilenetv3_small_050 lcnet_050 fbnetv3_b tf_mobilenetv3_small_minimal_100 mobilenetv4_conv_small "
    "nasnetalarge nfnet_l0 dm_nfnet_f0 nf_resnet26 nf_regnet_b0 pnasnet5large pvt_v2_b0 rdnet_tiny regnetx_002 regnety_002 "
    "regnetz_005 repghostnet_050 repvit_m0_9 repvgg_a0 mobileone_s0 gernet_s res2net50_14w_8s resnest14d resnet10t resnet18 "
    "resnet26d ecaresnet26t seresnext26t_32x4d skresnet18 resnetaa50 resnetblur18 resnetrs50 resnetv2_18 resnetv2_50x1_bit "
    "rexnet_100 selecsls42 legacy_seresnet18 shvit_s1 starnet_s1 swiftformer_xs tresnet_m vgg11 vovnet39a ese_vovnet19b_dw "
    "xception41 legacy_xception convmixer_768_32 cpubone_nano gcresnext26ts".split()
)
TIMM_PARTS = tuple(
    f"{name}+{part}"
    for part in ("features", "headless")
    for name in "resnet18 convnext_atto efficientnet_b0 mobilenetv3_small_050 regnety_002 hrnet_w18_small ghostnet_050 densenet121".split()
)
"""As backbones: the maps of each stage, and what stands before the classifier."""
TIMM_AT: Mapping[int, tuple[str, ...]] = {
    112: tuple("vit_small_patch14_dinov2@112".split()),
    160: ("inception_v4",),
    224: tuple(
        "mobilenetv4_hybrid_medium sequencer2d_s visformer_tiny vit_tiny_patch16_224 vit_small_patch32_224 "
        "vit_tiny_r_s16_p8_224 vit_relpos_small_patch16_224 vit_srelpos_small_patch16_224 vit_base_patch32_clip_224 "
        "beit_base_patch16_224 deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224 "
        "eva02_tiny_patch14_224 cait_xxs24_224 coat_tiny coat_lite_tiny convit_tiny davit_tiny efficientformer_l1 "
        "efficientformerv2_s0 gcvit_xxtiny hiera_tiny_224 sam2_hiera_tiny levit_128s levit_conv_128s coatnet_nano_rw_224 "
        "maxvit_tiny_tf_224 mixer_s32_224 gmixer_24_224 resmlp_12_224 gmlp_ti16_224 mvitv2_tiny nest_tiny nextvit_small "
        "pit_ti_224 pit_ti_distilled_224 samvit_base_patch16_224 swin_tiny_patch4_window7_224 swin_s3_tiny_224 "
        "swinv2_cr_tiny_224 swinv2_cr_tiny_ns_224 tiny_vit_5m_224 tnt_s_patch16_224 twins_pcpvt_small twins_svt_small "
        "vitamin_small_224 volo_d1_224 xcit_nano_12_p16_224".split()
    ),
    240: tuple("vit_medium_patch16_gap_240 crossvit_9_240".split()),
    256: tuple(
        "mobilevit_xxs mobilevitv2_050 botnet26t_256 halonet26t lambda_resnet26t eca_halonext26ts "
        "vit_small_patch16_dinov3 maxvit_rmlp_pico_rw_256 maxxvit_rmlp_nano_rw_256 swinv2_tiny_window8_256 "
        "bat_resnext26ts".split()
    ),
    512: tuple("csatv2".split()),
}
"""Those whose weights or code ask for a size."""

IN_FORMS = (
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "timm/convnext_atto",
    "ultralytics/yolov8n-cls",
)
"""Those that are also handed over in each form."""


def families() -> Iterator[Family]:
    """All of them."""
    yield Family("torchvision", _torchvision, TORCHVISION)
    yield Family("torchvision", _torchvision, TORCHVISION_LARGER)
    yield Family("torchvision", _torchvision, ("inception_v3",), shown={"height": 128, "width": 160})
    yield Family(
        "torchvision",
        _torchvision,
        ("maxvit_t", "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32"),
        {"x": ("N", 3, 224, 224)},
    )
    yield Family(
        "torchvision",
        _torchvision,
        ("mc3_18", "r2plus1d_18", "r3d_18", "swin3d_t", "swin3d_s", "swin3d_b"),
        {"x": ("N", 3, "T", "H", "W")},
    )
    yield Family(
        "torchvision",
        _torchvision,
        ("s3d",),
        {"x": ("N", 3, "T", "H", "W")},
        {"time": 16, "height": 224, "width": 224},
        ({"batch": 1},),
    )
    yield Family("torchvision", _torchvision, ("mvit_v1_b", "mvit_v2_s"), {"x": ("N", 3, 16, 224, 224)})
    yield Family(
        "torchvision", _torchvision, ("raft_small", "raft_large"), {"image1": ("N", 3, "H", "W"), "image2": ("N", 3, "H", "W")},
        {"height": 128, "width": 136}, ({"batch": 1, "height": 144, "width": 128},),
    )  # fmt: skip
    yield Family(
        "torchvision",
        _torchvision,
        DETECTORS,
        {"images:list": (3, "H", "W")},
        others=({"height": 80, "width": 100},),
    )
    yield Family("ultralytics", _yolo, YOLO, shown={"height": 64, "width": 96}, others=ALIGNED)
    yield Family(
        "ultralytics",
        _yolo,
        ("yolov8n-p6",),
        shown={"height": 64, "width": 128},
        others=({"batch": 3, "height": 128, "width": 64},),
    )
    yield Family("smp", _smp, SMP, shown={"height": 64, "width": 96}, others=ALIGNED)
    yield Family("smp", _smp, ("pan+resnet18",), shown={"height": 128, "width": 192}, others=ALIGNED[:1])
    yield Family("smp", _smp, ("dpt+tu-vit_tiny_patch16_224",), {"x": ("N", 3, 224, 224)})
    yield Family("timm", _timm, ("inception_v3",), shown={"height": 128, "width": 160})
    yield Family("timm", _timm, (*TIMM, *TIMM_PARTS), others=ALIGNED + OTHERS[1:])
    for size, names in TIMM_AT.items():
        others = (
            {"batch": 3, "height": size - 32, "width": size + 64},
            {"batch": 1, "height": size + 32, "width": size - 64},
        )
        yield Family("timm", _timm, names, shown={"height": size, "width": size}, others=others)
    yield Family(
        "open_clip",
        _open_clip,
        ("ViT-B-32", "RN50"),
        {"image": ("N", 3, 224, 224), "text:i400": ("N", 77)},
        others=({"batch": 3},),
    )
    yield from _kornia()
    yield from _monai()
    yield from _vit_pytorch()
    yield from _x_transformers()
    yield from _torchaudio()


def _kornia() -> Iterator[Family]:
    make = _of("kornia")
    image = {"x": ("N", 3, "H", "W")}
    filters = (
        "filters.GaussianBlur2d(kernel_size=(3, 3), sigma=(1.5, 1.5))", "filters.Sobel()", "filters.Laplacian(kernel_size=3)", "filters.BoxBlur(kernel_size=3)",
        "filters.MedianBlur(kernel_size=3)", "filters.SpatialGradient()", "filters.UnsharpMask(kernel_size=(3, 3), sigma=(1.5, 1.5))", "filters.BlurPool2D(kernel_size=3)",
        "filters.MaxBlurPool2D(kernel_size=3)", "color.RgbToGrayscale()", "color.RgbToHsv()", "color.RgbToLab()", "color.RgbToYcbcr()", "color.RgbToXyz()", "color.RgbToLuv()",
        "enhance.Normalize(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2))", "geometry.transform.PyrDown()", "geometry.transform.Resize(size=(24, 40))",
        "geometry.transform.Rescale(factor=0.5)", "models.vit.VisionTransformer(image_size=64, patch_size=16, depth=2, num_heads=2, embed_dim=32)",
    )  # fmt: skip
    yield Family("kornia", make, filters[:-1], image, others=ALIGNED)
    yield Family("kornia", make, filters[-1:], {"x": ("N", 3, 64, 64)})
    yield Family(
        "kornia",
        make,
        (
            "feature.HardNet(pretrained=False)",
            "feature.TFeat(pretrained=False)",
            "feature.SOSNet(pretrained=False)",
            "feature.HyNet(pretrained=False)",
            "feature.SIFTDescriptor(patch_size=32)",
        ),
        {"x": ("N", 1, 32, 32)},
    )
    yield Family(
        "kornia",
        make,
        (
            "feature.KeyNet(pretrained=False)",
            "feature.BlobHessian()",
            "feature.CornerHarris(k=0.05)",
            "filters.Canny()",
        ),
        {"x": ("N", 1, "H", "W")},
        others=ALIGNED,
    )


def _monai() -> Iterator[Family]:
    make = _of("monai.networks.nets")
    volume = {"x": ("N", 1, 32, "H", "W")}
    shown = {"height": 32, "width": 32}
    others = ({"batch": 3, "height": 64, "width": 32}, {"batch": 1, "height": 32, "width": 96})
    yield Family(
        "monai", make, (
            "UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2))",
            "BasicUNet(spatial_dims=3, in_channels=1, out_channels=2, features=(4, 4, 8, 8, 16, 4))", "VNet(spatial_dims=3, in_channels=1, out_channels=2)",
            "AttentionUnet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2))", "SegResNet(spatial_dims=3, in_channels=1, out_channels=2, init_filters=8)",
            "DynUNet(spatial_dims=3, in_channels=1, out_channels=2, kernel_size=(3, 3, 3), strides=(1, 2, 2), upsample_kernel_size=(2, 2), filters=(4, 8, 16))",
            "HighResNet(spatial_dims=3, in_channels=1, out_channels=2)", "DenseNet(spatial_dims=3, in_channels=1, out_channels=2, init_features=8, growth_rate=4, block_config=(2, 2))",
            "MedNeXt(spatial_dims=3, in_channels=1, out_channels=2, init_filters=4)",
        ), volume, shown, others,
    )  # fmt: skip
    swin = ("SwinUNETR(in_channels=1, out_channels=2, feature_size=12)",)
    yield Family("monai", make, swin, {"x": ("N", 1, 64, 64, 64)})
    yield Family(
        "monai", make, (
            "UNETR(in_channels=1, out_channels=2, img_size=(32, 32, 32), feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4)",
            "ViT(in_channels=1, img_size=(32, 32, 32), patch_size=(16, 16, 16), hidden_size=48, mlp_dim=96, num_layers=2, num_heads=4)",
            "resnet10(spatial_dims=3, n_input_channels=1, num_classes=2)",
        ), {"x": ("N", 1, 32, 32, 32)},
    )  # fmt: skip


def _vit_pytorch() -> Iterator[Family]:
    make = _of("vit_pytorch")
    size = "image_size=64, patch_size=16, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=48"
    image = {"img": ("N", 3, 64, 64)}
    yield Family(
        "vit-pytorch", make, (
            f"vit.ViT({size})", f"simple_vit.SimpleViT({size})", f"cait.CaiT({size}, cls_depth=1)", f"deepvit.DeepViT({size})", f"parallel_vit.ViT({size})",
            f"vit_for_small_dataset.ViT({size})", f"simple_vit_with_register_tokens.SimpleViT({size})", f"simple_vit_with_qk_norm.SimpleViT({size})",
            f"vit_with_patch_merger.ViT({size}, patch_merge_layer=1, patch_merge_num_tokens=4)", f"local_vit.LocalViT({size})", f"rvt.RvT({size})",
            "cct.CCT(img_size=64, embedding_dim=32, n_conv_layers=1, num_layers=2, num_heads=2, mlp_ratio=2, num_classes=10, positional_embedding='learnable')",
            "t2t.T2TViT(image_size=64, dim=32, depth=2, heads=2, mlp_dim=48, num_classes=10, t2t_layers=((7, 4), (3, 2)))",
            "levit.LeViT(image_size=64, num_classes=10, stages=2, dim=(32, 48), depth=1, heads=(2, 3), mlp_mult=2, dim_key=8)",
            "cvt.CvT(num_classes=10, s1_emb_dim=16, s2_emb_dim=32, s3_emb_dim=32, s3_depth=1)", "mobile_vit.MobileViT(image_size=(64, 64), dims=(24, 32, 40), channels=(8, 8, 16, 16, 24, 24, 32, 32, 40, 40, 48), num_classes=10)",
            "crossformer.CrossFormer(num_classes=10, dim=(32, 32, 32, 64), depth=(1, 1, 1, 1), global_window_size=(4, 2, 2, 1), local_window_size=2)",
            "twins_svt.TwinsSVT(num_classes=10, s1_emb_dim=16, s1_patch_size=4, s1_local_patch_size=4, s1_global_k=4, s1_depth=1, s2_emb_dim=16, s2_patch_size=2, s2_local_patch_size=4, s2_global_k=4, s2_depth=1, s3_emb_dim=16, s3_patch_size=2, s3_local_patch_size=2, s3_global_k=2, s3_depth=1, s4_emb_dim=16, s4_patch_size=2, s4_local_patch_size=1, s4_global_k=1, s4_depth=1)",
            "max_vit.MaxViT(num_classes=10, dim=16, dim_head=8, depth=(1, 1), window_size=4, dim_conv_stem=16)", "nest.NesT(image_size=64, patch_size=4, dim=16, heads=2, num_hierarchies=2, block_repeats=(1, 1), num_classes=10)",
            "regionvit.RegionViT(dim=(16, 16, 32, 32), depth=(1, 1, 1, 1), window_size=2, num_classes=10)", "pit.PiT(image_size=64, patch_size=8, dim=32, num_classes=10, depth=(1, 1), heads=2, mlp_dim=48)",
            f"xcit.XCiT({size}, cls_depth=1)", "scalable_vit.ScalableViT(num_classes=10, dim=16, heads=(1, 2), depth=(1, 1), ssa_dim_key=8, reduction_factor=(2, 1), window_size=(4, None))",
        ), image,
    )  # fmt: skip
    yield Family(
        "vit-pytorch",
        make,
        ("vit_1d.ViT(seq_len=64, patch_size=8, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=48)",),
        {"series": ("N", 3, 64)},
    )
    yield Family(
        "vit-pytorch",
        make,
        (
            "vit_3d.ViT(image_size=32, image_patch_size=8, frames=8, frame_patch_size=2, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=48)",
        ),
        {"video": ("N", 3, 8, 32, 32)},
    )


def _x_transformers() -> Iterator[Family]:
    from models.families_vision import x_transformer as make

    plain = "dim=32, depth=2, heads=2"
    yield Family(
        "x-transformers", make, (
            f"Decoder({plain})", f"Encoder({plain})", f"Decoder({plain}, rotary_pos_emb=True)", f"Decoder({plain}, alibi_pos_bias=True)", f"Decoder({plain}, rel_pos_bias=True)",
            f"Decoder({plain}, ff_glu=True, use_rmsnorm=True)", f"Decoder({plain}, attn_qk_norm=True)", f"Decoder({plain}, attn_kv_heads=1)", f"Decoder({plain}, attn_pre_talking_heads=True, attn_post_talking_heads=True)",
            f"Encoder({plain}, residual_attn=True)", f"Decoder({plain}, sandwich_norm=True)", f"Encoder({plain}, macaron=True)", f"Decoder({plain}, shift_tokens=1)",
            f"Encoder({plain}, use_scalenorm=True)", f"Decoder({plain}, ff_swish=True, ff_glu=True)", f"Decoder({plain}, attn_num_mem_kv=4)", f"Decoder({plain}, gate_residual=True)",
        ), {"x:i99": ("N", "L")},
    )  # fmt: skip


def _torchaudio() -> Iterator[Family]:
    make = _of("torchaudio")
    wave = {"waveform": ("N", "L")}
    longer = ({"batch": 3, "length": 9001}, {"batch": 1, "length": 12000})
    yield Family(
        "torchaudio", make, (
            "transforms.Spectrogram(n_fft=256)", "transforms.MelSpectrogram(n_fft=256, n_mels=32)", "transforms.MFCC(n_mfcc=13, melkwargs={'n_fft': 256, 'n_mels': 32})", "transforms.AmplitudeToDB()",
            "transforms.Resample(orig_freq=16000, new_freq=8000)", "transforms.MuLawEncoding()", "transforms.ComputeDeltas()", "transforms.Preemphasis()", "transforms.Vol(gain=0.5)",
            "transforms.LFCC(speckwargs={'n_fft': 256})", "transforms.SlidingWindowCmn()", "transforms.SpectralCentroid(sample_rate=16000, n_fft=256)",
            "models.wav2vec2_model(extractor_mode='group_norm', extractor_conv_layer_config=[(16, 10, 5), (16, 3, 2), (16, 3, 2)], extractor_conv_bias=False, encoder_embed_dim=32, encoder_projection_dropout=0.0, encoder_pos_conv_kernel=16, encoder_pos_conv_groups=4, encoder_num_layers=2, encoder_num_heads=4, encoder_attention_dropout=0.0, encoder_ff_interm_features=48, encoder_ff_interm_dropout=0.0, encoder_dropout=0.0, encoder_layer_norm_first=False, encoder_layer_drop=0.0, aux_num_out=12)",
        ), wave, WAVE, longer,
    )  # fmt: skip
    yield Family(
        "torchaudio",
        make,
        ("transforms.Loudness(sample_rate=16000)",),
        {"waveform": ("N", 2, "L")},
        WAVE,
        longer,
    )
    yield Family(
        "torchaudio",
        make,
        (
            "models.ConvTasNet(enc_num_feats=16, msk_num_feats=8, msk_num_hidden_feats=16, msk_num_layers=2, msk_num_stacks=1)",
        ),
        {"x": ("N", 1, "L")},
        {"length": 800},
        ({"batch": 3, "length": 1601},),
    )
    yield Family(
        "torchaudio",
        make,
        ("models.Wav2Letter(num_classes=10, num_features=8)",),
        {"x": ("N", 8, "L")},
        {"length": 16000},
        ({"batch": 3, "length": 20001},),
    )
    yield Family(
        "torchaudio",
        make,
        ("models.DeepSpeech(n_feature=16, n_hidden=32, n_class=10)",),
        {"x": ("N", 1, "T", 16)},
        {"time": 20},
    )
    yield Family(
        "torchaudio",
        make,
        (
            "models.Conformer(input_dim=16, num_heads=2, ffn_dim=32, num_layers=2, depthwise_conv_kernel_size=7)",
        ),
        {"input": ("N", "T", 16), "lengths:lengths": ("N",)},
        {"time": 20},
        ({"batch": 3, "time": 31},),
    )
    yield Family(
        "torchaudio",
        make,
        (
            "models.Emformer(input_dim=16, num_heads=2, ffn_dim=32, num_layers=2, segment_length=4, right_context_length=1)",
        ),
        {"input": ("N", "T", 16), "lengths:lengths": ("N",)},
        {"time": 21},
        ({"batch": 3},),
    )
    yield Family(
        "torchaudio",
        make,
        ("models.hdemucs_low(sources=['a', 'b'])",),
        {"x": ("N", 2, "L")},
        {"length": 44100},
        ({"batch": 1},),
    )
