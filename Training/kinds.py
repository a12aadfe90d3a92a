"""The kinds of steps that recipes can use: module, settings and function of each."""

from xray2ctpa_core.cli.recipe import Kind
from xray2ctpa_core.evaluation.config import EvaluateSettings
from xray2ctpa_core.training.settings import (
    bundles,
    classifiers,
    cmkd,
    codecs,
    denoisers,
    gate,
    generation,
    people,
    preprocessing,
    reconstruction,
    segmentation,
    simulation,
    style_transfer,
    tables,
    xctdiff,
)

#: Files that mark steps as finished.
_DENOISER, _SCHEDULER, _ENCODER = (
    "denoiser/config.json", "scheduler/scheduler_config.json", "encoder/config.json",
)  # fmt: skip
_ARM, _BUNDLE = "arm.json", "bundle.json"

KINDS = {
    # Patients and people
    "cohort": Kind("steps.simulate", simulation.CohortSettings, "cohort"),
    "studies": Kind("steps.simulate", simulation.StudiesSettings, "studies"),
    "people-studies": Kind(
        "steps.simulate", simulation.PeopleStudiesSettings, "studies_of_people", "studies.csv"
    ),
    "fetch-templates": Kind("steps.fetch_templates", people.FetchTemplatesSettings),
    "templates": Kind("steps.templates", people.TemplatesSettings),
    # Preprocessing and encoding
    "ctpa": Kind("steps.preprocess", preprocessing.CtpaSettings, "ctpa"),
    "radiographs": Kind("steps.preprocess", preprocessing.RadiographSettings, "radiographs"),
    "drr": Kind("steps.preprocess", preprocessing.DrrSettings, "drr"),
    "restyle": Kind("steps.style_transfer", style_transfer.RestyleSettings, "restyle", "cases.csv"),
    "latents": Kind("steps.encode", preprocessing.LatentsSettings, "latents", "statistics.json"),
    "slice-features": Kind("steps.slice_features", cmkd.SliceFeaturesSettings, finished="features.csv"),
    # Codecs
    "autoencoder": Kind("steps.autoencoder", codecs.AutoencoderSettings, finished="autoencoder/config.json"),
    "vqgan": Kind("steps.vqgan", codecs.VQGANSettings, finished="vqgan/config.json"),
    "tiny-decoder": Kind("steps.tiny_decoder", codecs.TinyDecoderSettings, finished="decoder/config.json"),
    # Encoders, and what reads radiographs
    "lung-locator": Kind(
        "steps.lung_locator", denoisers.LungLocatorSettings, finished="lung_locator/config.json"
    ),
    "xray-encoder": Kind(
        "steps.xray_encoder", denoisers.XrayEncoderSettings, finished="xray_encoder/config.json"
    ),
    "progressive-encoder": Kind(
        "steps.progressive_encoder", xctdiff.ProgressiveEncoderSettings, finished=_ENCODER
    ),
    "bank-encoder": Kind("steps.bank_encoder", people.BankEncoderSettings, finished=_ENCODER),
    "opacity-reader": Kind(
        "steps.opacity_reader", people.OpacityReaderSettings, finished="opacity_reader/config.json"
    ),
    "style-transfer": Kind(
        "steps.style_transfer", style_transfer.StyleTransferSettings, finished="to_computed/config.json"
    ),
    # Denoisers
    "paper-denoiser": Kind("steps.paper_denoiser", denoisers.PaperDenoiserSettings, finished=_DENOISER),
    "prior-denoiser": Kind("steps.prior_denoiser", xctdiff.PriorDenoiserSettings, finished=_DENOISER),
    "regressor": Kind("steps.regressor", xctdiff.RegressorSettings, finished=_DENOISER),
    "spatial-denoiser": Kind(
        "steps.spatial_denoiser", denoisers.SpatialDenoiserSettings, finished=_SCHEDULER
    ),
    "consistency": Kind("steps.consistency", denoisers.ConsistencySettings, finished=_SCHEDULER),
    "bank-denoiser": Kind("steps.bank_denoiser", people.BankDenoiserSettings, finished=_SCHEDULER),
    # Classifiers
    "latent-classifier": Kind("steps.latent_classifier", classifiers.LatentClassifierSettings, finished=_ARM),
    "cxr-classifier": Kind("steps.cxr_classifier", classifiers.CxrClassifierSettings, finished=_ARM),
    "slice-classifier": Kind("steps.slice_classifier", classifiers.SliceClassifierSettings, finished=_ARM),
    "cmkd": Kind("steps.cmkd", cmkd.CMKDSettings, finished=_ARM),
    # Bundles
    "pack": Kind("steps.pack", bundles.PackSettings, finished=_BUNDLE),
    "styled": Kind("steps.pack", bundles.StyledSettings, "styled", _BUNDLE),
    "bank-bundle": Kind("steps.bank_bundle", people.BankBundleSettings, finished=_BUNDLE),
    "second-opinion": Kind("steps.second_opinion", cmkd.SecondOpinionSettings, finished=f"bundle/{_BUNDLE}"),
    "ship": Kind("steps.ship", people.ShipSettings),
    "pack-weights": Kind("steps.carry_weights", people.PackWeightsSettings, "pack", "weights.json"),
    "unpack-weights": Kind("steps.carry_weights", people.UnpackWeightsSettings, "unpack"),
    # Generation, evaluation, tables
    "generate": Kind("steps.generate", generation.GenerateSettings, finished="index.csv"),
    "predict": Kind("steps.predict", generation.PredictSettings, finished=_ARM),
    "evaluate": Kind("steps.evaluate", EvaluateSettings, finished="evaluation.json"),
    "judge-people": Kind("steps.judge_people", people.JudgePeopleSettings, finished="judged.json"),
    "people-folds": Kind("steps.people_folds", people.PeopleFoldsSettings, finished="folds.json"),
    "reconstruction": Kind(
        "steps.reconstruction", reconstruction.ReconstructionSettings, finished="table.md"
    ),
    "pretraining": Kind(
        "steps.segmentation", segmentation.PretrainingSettings, "pretrain", "segmenter/config.json"
    ),
    "segmentation": Kind(
        "steps.segmentation", segmentation.SegmentationSettings, "cross_validate", "dice.json"
    ),
    "dice-table": Kind("steps.segmentation", segmentation.DiceTableSettings, "dice_table", "table.md"),
    "baseline-arms": Kind("steps.baseline_arms", tables.BaselineArmsSettings),
    "bundle-arm": Kind("steps.bundle_arm", tables.BundleArmSettings, finished=_ARM),
    "signs-arm": Kind("steps.signs_arm", tables.SignsArmSettings, finished=_ARM),
    "tables": Kind("steps.tables", tables.TablesSettings),
    # The input gate
    "measure-gate": Kind("steps.measure_gate", gate.MeasureGateSettings),
    "measure-opacities": Kind("steps.measure_opacities", gate.MeasureOpacitiesSettings),
    "heart-side": Kind("steps.fit_heart_side", gate.HeartSideSettings),
    "cut-edges": Kind("steps.fit_cut_edges", gate.CutEdgeSettings),
}
