"""Low-rank updates of the papers' denoiser (Hu et al., ICLR 2022), for a new modality, by peft."""

from typing import Any

from torch import nn

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser

#: Ends of the names of the linear layers that the release updates.
_LAYERS = ("mlp.1", "to_qkv", "to_out")


def with_lora(denoiser: PaperDenoiser, rank: int) -> Any:
    """The denoiser with an update of ``rank`` and scale 1 on each linear layer that the release names; all
    else is frozen. (The release adds its updates after it made the optimiser, which therefore never trains
    them.)

    Returns:
        A peft model, called as the denoiser.

    Raises:
        InputError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError(f"LoRA needs peft: {error}.", "Install xray2ctpa-core[training].") from error
    names = [
        name
        for name, module in denoiser.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(_LAYERS)
    ]
    return get_peft_model(denoiser, LoraConfig(r=rank, lora_alpha=rank, target_modules=names))


def merged(model: Any) -> PaperDenoiser:
    """The denoiser of `with_lora` with its updates added to its weights."""
    return model.merge_and_unload()
