"""The kinds of steps that recipes can use: settings, module and function of each."""

from xray2ctpa_core.cli.recipe import Kind
from xray2ctpa_core.training.settings.bundles import PackSettings, StyledSettings
from xray2ctpa_core.training.settings.classifiers import (
    CxrClassifierSettings,
    LatentClassifierSettings,
    SliceClassifierSettings,
)
from xray2ctpa_core.training.settings.codecs import AutoencoderSettings, TinyDecoderSettings, VQGANSettings
from xray2ctpa_core.training.settings.denoisers import (
    ConsistencySettings,
    LungLocatorSettings,
    PaperDenoiserSettings,
    SpatialDenoiserSettings,
    XrayEncoderSettings,
)
from xray2ctpa_core.training.settings.generation import GenerateSettings, PredictSettings
from xray2ctpa_core.training.settings.preprocessing import (
    CtpaSettings,
    DrrSettings,
    LatentsSettings,
    RadiographSettings,
)
from xray2ctpa_core.training.settings.reconstruction import ReconstructionSettings
from xray2ctpa_core.training.settings.segmentation import (
    DiceTableSettings,
    PretrainingSettings,
    SegmentationSettings,
)
from xray2ctpa_core.training.settings.simulation import (
    CohortSettings,
    PeopleStudiesSettings,
    StudiesSettings,
)
from xray2ctpa_core.training.settings.style_transfer import RestyleSettings, StyleTransferSettings
from xray2ctpa_core.training.settings.xctdiff import (
    PriorDenoiserSettings,
    ProgressiveEncoderSettings,
    RegressorSettings,
)

KINDS = {
    "cohort": Kind("steps.simulate", "cohort", CohortSettings),
    "studies": Kind("steps.simulate", "studies", StudiesSettings),
    "people-studies": Kind("steps.simulate", "studies_of_people", PeopleStudiesSettings, "studies.csv"),
    "ctpa": Kind("steps.preprocess", "ctpa", CtpaSettings),
    "radiographs": Kind("steps.preprocess", "radiographs", RadiographSettings),
    "drr": Kind("steps.preprocess", "drr", DrrSettings),
    "latents": Kind("steps.encode", "latents", LatentsSettings, "statistics.json"),
    "lung-locator": Kind(
        "steps.lung_locator", settings=LungLocatorSettings, finished="lung_locator/config.json"
    ),
    "autoencoder": Kind(
        "steps.autoencoder", settings=AutoencoderSettings, finished="autoencoder/config.json"
    ),
    "vqgan": Kind("steps.vqgan", settings=VQGANSettings, finished="vqgan/config.json"),
    "progressive-encoder": Kind(
        "steps.progressive_encoder", settings=ProgressiveEncoderSettings, finished="encoder/config.json"
    ),
    "prior-denoiser": Kind(
        "steps.prior_denoiser", settings=PriorDenoiserSettings, finished="denoiser/config.json"
    ),
    "regressor": Kind("steps.regressor", settings=RegressorSettings, finished="denoiser/config.json"),
    "style-transfer": Kind(
        "steps.style_transfer", settings=StyleTransferSettings, finished="to_computed/config.json"
    ),
    "restyle": Kind("steps.style_transfer", "restyle", RestyleSettings, "cases.csv"),
    "reconstruction": Kind("steps.reconstruction", settings=ReconstructionSettings, finished="table.md"),
    "pretraining": Kind(
        "steps.segmentation", "pretrain", PretrainingSettings, finished="segmenter/config.json"
    ),
    "segmentation": Kind("steps.segmentation", "cross_validate", SegmentationSettings, "dice.json"),
    "dice-table": Kind("steps.segmentation", "dice_table", DiceTableSettings, "table.md"),
    "tiny-decoder": Kind("steps.tiny_decoder", settings=TinyDecoderSettings, finished="decoder/config.json"),
    "xray-encoder": Kind(
        "steps.xray_encoder", settings=XrayEncoderSettings, finished="xray_encoder/config.json"
    ),
    "spatial-denoiser": Kind(
        "steps.spatial_denoiser", settings=SpatialDenoiserSettings, finished="scheduler/scheduler_config.json"
    ),
    "consistency": Kind(
        "steps.consistency", settings=ConsistencySettings, finished="scheduler/scheduler_config.json"
    ),
    "paper-denoiser": Kind(
        "steps.paper_denoiser", settings=PaperDenoiserSettings, finished="denoiser/config.json"
    ),
    "latent-classifier": Kind(
        "steps.latent_classifier", settings=LatentClassifierSettings, finished="arm.json"
    ),
    "cxr-classifier": Kind("steps.cxr_classifier", settings=CxrClassifierSettings, finished="arm.json"),
    "slice-classifier": Kind("steps.slice_classifier", settings=SliceClassifierSettings, finished="arm.json"),
    "generate": Kind("steps.generate", settings=GenerateSettings, finished="index.csv"),
    "predict": Kind("steps.predict", settings=PredictSettings, finished="arm.json"),
    "templates": Kind("pack_templates"),
    "bank-encoder": Kind("train_bank_encoder", finished="encoder/config.json"),
    "bank-denoiser": Kind("train_bank_denoiser", finished="scheduler/scheduler_config.json"),
    "bank-bundle": Kind("calibrate_bank", finished="bundle.json"),
    "pack": Kind("steps.pack", settings=PackSettings, finished="bundle.json"),
    "styled": Kind("steps.pack", "styled", StyledSettings, "bundle.json"),
    "ship": Kind("ship_default"),
    "evaluate": Kind("evaluate", finished="evaluation.json"),
    "slice-features": Kind("encode_slices", finished="features.csv"),
    "cmkd": Kind("train_cmkd", finished="arm.json"),
    "tables": Kind("make_tables"),
    "baseline-arms": Kind("make_baseline_arms"),
    "bundle-arm": Kind("make_bundle_arm", finished="arm.json"),
    "signs-arm": Kind("make_signs_arm", finished="arm.json"),
}
